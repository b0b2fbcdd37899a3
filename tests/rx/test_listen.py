"""Which burst is reported, and what bad ones cost."""

import dataclasses

import numpy as np
import pytest

from airnet_sdr.dsp import control
from airnet_sdr.dsp.errors import LinkError, NothingReceivedError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, Header, payload_slots
from airnet_sdr.models.card import ModelCard
from airnet_sdr.models.checkpoint import load
from airnet_sdr.models.digital import channel_code
from airnet_sdr.models.digital.channel_code import BlockCode, CodedPayload
from airnet_sdr.models.payload.analog import AnalogPayload, AnalogPlan
from airnet_sdr.models.payload.digital import MOST_MISSING, DigitalPayload
from airnet_sdr.models.payload.protection import protect
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.rx import listen as listening
from airnet_sdr.rx import receive as command
from airnet_sdr.rx.combine import BurstCombiner
from airnet_sdr.rx.config import ListenConfig, ReceiveConfig
from airnet_sdr.rx.listen import Listener, listen
from airnet_sdr.rx.receiver import receive, receive_from
from airnet_sdr.rx.samples import ArraySource
from airnet_sdr.tests.command import run
from airnet_sdr.tests.link import make_burst, on_air, transmit
from airnet_sdr.tests.link import receive as frames_of
from airnet_sdr.tx.burst import lay_out, modulate, modulate_frames

QUIET = ReceiveConfig(evaluate="none")


@pytest.fixture(scope="module")
def checkpoint(model):
    return load(model)


def burst_named(checkpoint, name, seed=0):
    """A whole network's burst under any architecture's name."""
    plan = AnalogPlan(checkpoint, protect(checkpoint, PlanConfig("none")))
    return lay_out(ModelCard(name, "none"), [AnalogPayload.encode(plan)], seed)


def recording_of(*bursts):
    """One after the other, without a gap, at 15 dB."""
    return on_air(np.concatenate([np.concatenate(list(modulate(burst))) for burst in bursts]), 15)


def test_a_burst_that_cannot_be_rebuilt_does_not_end_the_wait_for_a_good_one(checkpoint):
    good, bad = burst_named(checkpoint, "fashion"), burst_named(checkpoint, "no-such-net", 1)
    for bursts in ((bad, good), (bad, bad, good), (good, bad)):
        assert receive(recording_of(*bursts), evaluate="none").card.architecture == "fashion"
    with pytest.raises(LinkError, match="no-such-net"):
        receive(recording_of(bad), evaluate="none")


def test_following_goes_on_after_a_bad_burst(checkpoint):
    bursts = [burst_named(checkpoint, name, seed) for seed, name in enumerate(["fashion", "no-such-net", "fashion"])]
    refused = []
    source = ArraySource(np.array_split(recording_of(*bursts), 20))
    found = list(receive_from(source, QUIET, ListenConfig(follow=True), on_refused=refused.append))
    assert [reception.burst.header.burst_id for reception in found] == [
        bursts[0].header.burst_id,
        bursts[2].header.burst_id,
    ]
    assert len(refused) == 1 and "no-such-net" in str(refused[0])


def test_a_complete_burst_comes_before_one_with_more_frames():
    """9 of 9 frames before 20 of 27."""
    _, small = make_burst(numels=(30_000,), seed=1)
    _, large = make_burst(numels=(400_000,), seed=2)
    assert 1 < small.header.num_frames < large.header.num_frames // 2
    part = list(modulate(large))[: small.header.num_frames + 3]
    samples = on_air(np.concatenate([*modulate(small), *part]), 15)
    for blocks in ([samples], np.array_split(samples, 7)):
        listener = Listener()
        found = next(listen(ArraySource(blocks), listener, ListenConfig()))
        assert found.header == small.header.burst_key and found.complete
    assert listener.best.header == found.header


def test_a_manifest_that_does_not_decode_is_not_tried_again_without_news(monkeypatch):
    """And ever more rarely: 40 receptions of noise in its place cost a dozen attempts, not forty."""
    _, burst = make_burst()
    frames = frames_of(on_air(transmit(burst, 10), 15))
    broken = [dataclasses.replace(frame, chunk=np.roll(frame.chunk, 17)) for frame in frames]
    calls = []
    monkeypatch.setattr(control, "decode_manifest", lambda *given: calls.append(given))
    combiner = BurstCombiner(burst.header.burst_key)
    for frame in broken:
        combiner.add(frame)
        assert combiner.manifest() is None and combiner.manifest() is None
    assert len(frames) == 40 and 5 < len(calls) < 16
    before = len(calls)
    combiner.manifest(last=True)
    combiner.manifest(last=True)
    assert len(calls) <= before + 1


def test_a_manifest_that_comes_late_is_decoded_at_the_end():
    _, burst = make_burst()
    frames = frames_of(on_air(transmit(burst), -3))
    combiner = BurstCombiner(burst.header.burst_key)
    for frame in frames:
        combiner.add(frame)
        combiner.manifest()
    assert combiner.manifest(last=True) == burst.manifest


def test_memory_is_bounded_and_what_does_not_fit_is_counted():
    _, first = make_burst(seed=1)
    _, second = make_burst(seed=2)
    frames = frames_of(on_air(transmit(first), 15))
    combiner = BurstCombiner(first.header.burst_key)
    combiner.add(*frames)
    whole = combiner.num_bytes()
    assert whole == combiner.num_bytes(*frames) == 12 * combiner.capacity
    listener = Listener(max_bytes=whole // 2)
    for block in np.array_split(on_air(transmit(first, 3), 15), 30):
        listener.push(block)
        assert listener.num_bytes <= whole // 2
    listener.finish()
    assert listener.num_ignored > 0
    roomy = Listener(max_bytes=whole)  # for one of the two
    for block in np.array_split(on_air(np.concatenate([transmit(first), transmit(second)]), 15), 30):
        roomy.push(block)
        assert roomy.num_bytes <= whole
    roomy.finish()
    assert roomy.num_ignored == 0 and len(roomy.bursts) == 1
    with pytest.raises(LinkError):
        receive(on_air(transmit(first), 15), evaluate="none", memory_mb=0)


def test_more_symbols_than_came_are_not_decoded(monkeypatch):
    """A byte over a million symbols that nobody sent."""

    class Few:
        run = map
        capacity = 10**9
        symbols_received = 1000

        def soft(self, start, num):
            raise AssertionError("asked for symbols that did not come")

    payload = DigitalPayload(CodedPayload(1, MOST_MISSING * 1000 + 1, 8))
    with pytest.raises(NothingReceivedError):
        payload.decode(Few(), [10])


def test_the_demapper_works_in_parts_of_bounded_size(monkeypatch):
    """With the same LLRs, hence the same bytes."""
    pytest.importorskip("sionna", reason="the digital scheme needs sionna-no-rt")
    payload = CodedPayload(500, 6000, 4)
    data = np.random.default_rng(1).bytes(500)
    sent = channel_code.encode(data, payload)
    noise = np.random.default_rng(2).standard_normal((6000, 2)).astype(np.float32).view(np.complex64)[:, 0] * 0.1
    soft = (50 * (sent + noise)).astype(np.complex64), np.full(6000, 50, np.float32)
    assert channel_code.decode(*soft, payload) == data
    sizes, block = [], payload.block
    original = block._parts.demapper

    class Watching:
        def __call__(self, symbols, noise_var):
            sizes.append(symbols.numel() << payload.bits_per_symbol)
            return original(symbols, noise_var)

    monkeypatch.setattr(block._parts, "demapper", Watching())
    monkeypatch.setattr(channel_code, "MAX_DISTANCES", 4096)
    assert channel_code.decode(*soft, payload) == data and isinstance(block, BlockCode)
    assert len(sizes) > 10 and max(sizes) <= 4096


def test_the_command_reports_the_good_one(checkpoint, tmp_path):
    from airnet_sdr.dsp.radio import open_sink

    with open_sink(f"file:{tmp_path / 'air.sigmf-meta'}") as sink:
        for name, seed in (("no-such-net", 1), ("fashion", 2)):
            for samples in modulate(burst_named(checkpoint, name, seed)):
                sink.send(samples)
    result = run(command.main, "--radio", f"file:{tmp_path / 'air.sigmf-meta'}", "--evaluate", "none")
    assert (result.status, result.err) == (0, "") and result.out.startswith("fashion: ")
    result = run(command.main, "--radio", f"file:{tmp_path / 'air.sigmf-meta'}", "--evaluate", "none", "--follow")
    assert result.status == 0 and result.out.startswith("fashion: ")
    assert result.err.startswith("receive: warning: burst skipped: ") and result.err.count("\n") == 1
    assert "no-such-net" in result.err


@pytest.mark.parametrize("share", [0.0, 1e9])
def test_manifests_that_do_not_decode_take_a_bounded_share_of_the_time(monkeypatch, share):
    """Ten senders fill the air with whole bursts of manifests that are noise; a good one among them is decoded."""
    monkeypatch.setattr(listening, "HEAD_START_S", 0.0)
    monkeypatch.setattr(listening, "SEARCH_SHARE", share)
    attempts, decode = [], control.decode_manifest

    def counted(llr, header, fmt, thorough):
        attempts.append((header.burst_id, thorough))
        return decode(llr, header, fmt, thorough)

    monkeypatch.setattr(control, "decode_manifest", counted)
    rng, layout = np.random.default_rng(3), Header(0, 0, num_frames=4, num_symbols=2, num_chunk_steps=14)
    chunk, slots = layout.num_chunk_steps * DEFAULT_FORMAT.chunk_step, payload_slots(layout, DEFAULT_FORMAT)

    def bad(number):
        headers = [dataclasses.replace(layout, burst_id=number, frame=frame) for frame in range(4)]
        noise = (rng.choice([-1, 1], (4, chunk, 2)) / np.sqrt(2)).astype(np.float32).view(np.complex64)[:, :, 0]
        return modulate_frames(headers, noise, np.ones((4, slots), np.complex64), DEFAULT_FORMAT).reshape(-1)

    _, good = make_burst((20_000,), seed=4)
    bads, listener = [bad(number) for number in range(1, 11)], Listener()
    for part in (bads[:5], [transmit(good)], bads[5:]):
        listener.push(on_air(np.concatenate(part), 15))
        for _ in range(3):  # the same receptions are not tried again
            listener.decoded()
    listener.finish()
    decoded = listener.decoded()
    assert [burst.header for burst in decoded] == [good.header.burst_key]
    assert sorted(attempts) == sorted([(number, share > 0) for number in [*range(1, 11), good.header.burst_id]])


def test_a_burst_on_the_air_outlives_those_that_are_over(monkeypatch):
    """They have more frames; a stray frame of another sender needs a place."""
    monkeypatch.setattr(listening, "MAX_BURSTS", 3)
    monkeypatch.setattr(listening, "OVER_FRAMES", 6)
    bursts = [make_burst((30,), seed=seed)[1] for seed in range(6)]
    cycles = [list(modulate(burst)) for burst in bursts]
    over, present, stray = cycles[:2], cycles[2], [each[0] for each in cycles[3:]]
    frames = [frame for each in over for frame in each * 4] + present + [stray[0]] + present + stray[1:] + present
    listener = Listener()
    listener.push(on_air(np.concatenate(frames), 15))
    listener.finish()
    heard = listener.bursts[bursts[2].header.burst_key]
    assert heard.num_received == 3 * len(present) and len(listener.bursts) == 3
