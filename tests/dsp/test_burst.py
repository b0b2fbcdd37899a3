"""The receiver against recordings that begin, end, jump and break off anywhere."""

import dataclasses
import math

import numpy as np
import pytest

from airnet_sdr.dsp import frame as frame_module
from airnet_sdr.dsp.burst import FrameReceiver
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, Header, frame_samples, payload_slots
from airnet_sdr.dsp.interleave import deal, interleave
from airnet_sdr.dsp.ofdm import amplitude
from airnet_sdr.dsp.units import linear, power
from airnet_sdr.tests.link import make_burst, on_air, receive, transmit, weights_nmse, white

pytestmark = pytest.mark.filterwarnings("error")
SNR_DB = 20
VECTORS, BURST = make_burst((40_000,))
CYCLE = transmit(BURST)
FRAMES, SYMBOLS = BURST.header.num_frames, BURST.header.num_symbols
LENGTH = CYCLE.size // FRAMES


def numbers(frames):
    """Frame numbers of all that have a preamble."""
    return [f.header.frame for f in frames if not f.supplement]


def symbol_nmse(frames, number):
    """NMSE of a frame's payload by OFDM symbol (num_symbols,), from all that was heard of it; 1 where erased."""
    heard = [f for f in frames if f.header.frame == number]
    statistic, information = sum(f.statistic for f in heard), sum(f.information for f in heard)
    sent = interleave(deal(BURST.stream, FRAMES), [heard[0].header])[0]
    first = SYMBOLS * 784 - sent.size  # control channel
    error, power = np.zeros((2, SYMBOLS * 784))
    error[first:], power[first:] = np.abs(statistic / (information + 1) - sent) ** 2, np.abs(sent) ** 2
    return error.reshape(SYMBOLS, -1).sum(axis=1)[1:] / power.reshape(SYMBOLS, -1).sum(axis=1)[1:]


def at_full_quality(frames, expected=range(FRAMES)):
    """Whether the expected frames are as noise leaves them, 1/(1 + S), within 1.3 dB: their noise is known to 7 %."""
    return all(symbol_nmse(frames, n).mean() < 1.35 / (1 + linear(SNR_DB)) for n in expected)


@pytest.mark.parametrize("snr_db", [None, SNR_DB])
@pytest.mark.parametrize("before", [0, 1, 31, 777, 8191, 8192, 20_000])
def test_a_burst_begins_anywhere(before, snr_db):
    frames = receive(on_air(CYCLE, snr_db, cfo=0.2, before=before))
    assert [(f.header.frame, f.start) for f in frames] == [(i, before + i * LENGTH) for i in range(FRAMES)]
    assert at_full_quality(frames) and not any(f.erased.any() for f in frames)


@pytest.mark.parametrize("after", [0, 1, 63, 64, 65, 5000])
@pytest.mark.parametrize("snr_db", [None, SNR_DB])
def test_a_recording_ends_anywhere_after_the_burst(after, snr_db):
    frames = receive(on_air(CYCLE, snr_db, after=after))
    assert numbers(frames) == list(range(FRAMES)) and at_full_quality(frames)
    assert not any(f.erased.any() for f in frames)


@pytest.mark.parametrize("missing", [1, 40, 1056, 5000, LENGTH - 3000, LENGTH - 1057, LENGTH - 1, LENGTH, LENGTH + 500])
def test_a_recording_that_begins_inside_a_frame_loses_what_is_missing_only(missing):
    frames = receive(on_air(CYCLE, SNR_DB)[700 + missing :])
    whole = range(-(-missing // LENGTH), FRAMES)
    assert set(whole) <= set(numbers(frames)) and at_full_quality(frames, whole)
    assert all(abs(f.start - (f.header.frame * LENGTH - missing)) <= 1 for f in frames)
    torn = missing // LENGTH  # its symbols after the beginning are read backwards from the next preamble
    if any(f.header.frame == torn for f in frames) and torn not in whole:
        assert symbol_nmse(frames, torn).max() < 1.2
        complete = max(0, math.ceil(missing % LENGTH / 1056) - 1)  # OFDM symbols that are not
        assert np.all(symbol_nmse(frames, torn)[complete:] < 2 / (1 + linear(SNR_DB)))


@pytest.mark.parametrize("snr_db", [None, SNR_DB])
@pytest.mark.parametrize("kept", [500, 1056, 1500, 1650, 2112, 2500, 5000, LENGTH - 1057, LENGTH - 40, LENGTH - 1])
def test_a_recording_cut_inside_the_last_frame_keeps_the_symbols_before_the_cut(kept, snr_db):
    frames = receive(on_air(CYCLE, snr_db, after=0)[: 700 + LENGTH * (FRAMES - 1) + kept])
    assert at_full_quality(frames, range(FRAMES - 1))
    whole = kept // 1056 - 1  # OFDM symbols
    assert numbers(frames) == list(range(FRAMES if whole >= 1 else len(frames)))
    if len(frames) == FRAMES:
        by_symbol = symbol_nmse(frames, FRAMES - 1)
        assert np.all(by_symbol[: max(0, whole - 1)] < 2 / (1 + linear(SNR_DB))), by_symbol
        assert by_symbol.max() < 1.1 and np.isfinite(frames[-1].snr), by_symbol


@pytest.mark.parametrize("at_symbol", [0.5, 2.5, 4.5])
@pytest.mark.parametrize("dropped", [1, 2, 3, 7, 50, 1000, 3000, -1, -2, -5, -300])
def test_dropped_or_repeated_samples_harm_one_frame(dropped, at_symbol):
    """A negative number is samples repeated. The other frames stay at full quality, the torn one does no harm.

    Jumps of 5 to 50 samples are told from a clock offset: all symbols but the one or two that they hit survive.
    """
    at = 700 + LENGTH + int((1 + at_symbol) * 1056)  # in frame 1
    samples = on_air(CYCLE, SNR_DB, cfo=0.1)
    frames = receive(np.concatenate([samples[:at], samples[at + dropped :]]))
    assert numbers(frames) == list(range(FRAMES)) and at_full_quality(frames, [0, 2, 3])
    by_symbol = symbol_nmse(frames, 1)
    assert by_symbol.max() < 1.6, by_symbol  # 1.44 at most
    if 5 <= abs(dropped) <= 50:
        assert np.sort(by_symbol)[-3] < 2 / (1 + linear(SNR_DB)), by_symbol


def test_two_bursts_in_one_recording_are_told_apart():
    others, second = make_burst((10_000,), seed=5)
    cycle = transmit(second)
    samples = on_air(np.concatenate([CYCLE, np.zeros(1234), cycle, CYCLE]), SNR_DB)
    frames = receive(samples)
    ids = [f.header.burst_id for f in frames]
    assert ids == [BURST.header.burst_id] * FRAMES + [second.header.burst_id] * second.header.num_frames + ids[:FRAMES]
    assert weights_nmse([f for f in frames if f.header.burst_id == second.header.burst_id], others)[0] < 0.012
    assert weights_nmse([f for f in frames if f.header.burst_id == ids[0]], VECTORS)[0] < 0.006


@pytest.mark.parametrize("samples", [white(100_000, 1.0, 1), np.zeros(100_000, np.complex64), np.zeros(0, np.complex64),
                                     np.ones(100, np.complex64), np.full(50_000, np.nan, np.complex64)])  # fmt: skip
def test_noise_silence_and_nothing_hold_no_frame(samples):
    assert receive(samples) == []


def test_samples_that_are_not_finite_are_counted_and_cost_their_symbols_only():
    samples = on_air(CYCLE, SNR_DB)
    at = 700 + LENGTH + 5 * 1056 + 100
    samples[at : at + 3] = [np.nan, np.inf, -np.inf]
    samples[50] = complex(0, np.nan)
    receiver = FrameReceiver()
    frames = receiver.push(samples) + receiver.finish()
    assert receiver.num_not_finite == 4 and receiver.num_samples == samples.size
    assert numbers(frames) == list(range(FRAMES)) and at_full_quality(frames, [0, 2, 3])
    assert symbol_nmse(frames, 1).mean() < 0.03


@pytest.mark.parametrize("power_db", [0, 20, 40, 60])
@pytest.mark.parametrize("at_symbol, num_samples", [(3.2, 300), (5.0, 1056), (1.5, 2000), (2.5, 4000)])
def test_a_burst_of_interference_costs_its_symbols_only(at_symbol, num_samples, power_db):
    samples = on_air(CYCLE, SNR_DB)
    at = 700 + LENGTH + int((1 + at_symbol) * 1056)
    samples[at : at + num_samples] += white(num_samples, linear(power_db), 2)
    frames = receive(samples)
    assert numbers(frames) == list(range(FRAMES)) and at_full_quality(frames, [0, 2, 3])
    by_symbol = symbol_nmse(frames, 1)
    touched = np.arange(1, SYMBOLS)
    hit = (touched + 1 > at_symbol) & (touched < at_symbol + num_samples / 1056)
    assert by_symbol[~hit].max() < 2 / (1 + linear(SNR_DB)), by_symbol
    assert by_symbol[hit].max() < 1.1, by_symbol  # known to be bad: no worse than nothing


@pytest.mark.parametrize("frame", range(FRAMES))
@pytest.mark.parametrize("num_samples", [900, 2200])
def test_an_interfered_preamble_costs_no_frame(frame, num_samples):
    """Nor do an interfered preamble and header: frames beside it say where it is, and its pilots that it is there."""
    samples = on_air(CYCLE, SNR_DB)
    at = 700 + frame * LENGTH
    samples[at : at + num_samples] += white(num_samples, 1e3, 3)
    frames = receive(samples)
    assert numbers(frames) == list(range(FRAMES)) and at_full_quality(frames, set(range(FRAMES)) - {frame})
    assert symbol_nmse(frames, frame)[num_samples // 1056 :].max() < 2 / (1 + linear(SNR_DB))


def test_another_format_version_is_reported(monkeypatch):
    receiver = FrameReceiver()
    samples = on_air(CYCLE, SNR_DB)
    with monkeypatch.context() as patch:
        patch.setattr("airnet_sdr.dsp.burst.VERSION", frame_module.VERSION + 1)
        patch.setattr("airnet_sdr.dsp.control.VERSION", frame_module.VERSION + 1)
        assert receiver.push(samples) + receiver.finish() == []
    assert receiver.other_versions == {frame_module.VERSION}


def same(a, b):
    return a.header == b.header and a.start == b.start and a.cfo == b.cfo and np.array_equal(a.statistic, b.statistic)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_received_does_not_depend_on_how_the_stream_is_cut(seed):
    rng = np.random.default_rng(seed)
    samples = on_air(np.concatenate([CYCLE, np.zeros(9000), CYCLE]), 3, cfo=0.3, before=9000, seed=seed)
    samples = np.delete(samples, slice(60_000, 60_011))  # the lock is lost and found again
    whole = receive(samples)
    receiver, pieces = FrameReceiver(), []
    while samples.size:
        size = int(np.exp(rng.uniform(0, np.log(60_000))))
        pieces += receiver.push(samples[:size])
        samples = samples[size:]
    pieces += receiver.finish()
    assert len(whole) >= 2 * FRAMES - 1
    assert len(whole) == len(pieces) and all(same(a, b) for a, b in zip(whole, pieces, strict=True))


def test_threads_receive_the_same():
    samples = on_air(CYCLE, 10, cfo=-0.3)
    receiver = FrameReceiver(num_threads=2)
    frames = receiver.push(samples) + receiver.finish()
    assert all(same(a, b) for a, b in zip(receive(samples), frames, strict=True)) and len(frames) == FRAMES


def test_a_caller_may_reuse_its_buffer():
    samples = on_air(CYCLE, SNR_DB)
    receiver, frames, block = FrameReceiver(), [], np.empty(1000, np.complex64)
    for start in range(0, samples.size, block.size):
        part = samples[start : start + block.size]
        block[: part.size] = part
        frames += receiver.push(block[: part.size])
    frames += receiver.finish()
    assert numbers(frames) == list(range(FRAMES)) and at_full_quality(frames)


def test_memory_does_not_grow_with_the_stream():
    receiver, noise = FrameReceiver(), white(300_000, 1.0, 4)
    for _ in range(10):
        receiver.push(noise)
        assert receiver._buffer.size < 90_000
    receiver.push(on_air(CYCLE, SNR_DB))
    assert receiver._buffer.size < 90_000


def test_empty_blocks_are_not_kept():
    receiver = FrameReceiver()
    for _ in range(1000):
        assert receiver.push(np.empty(0, np.complex64)) == []
    assert receiver._intake._blocks == []


@pytest.mark.parametrize("snr_db", [0, 10, 20])
def test_estimates_of_a_frame_are_those_of_the_air(snr_db):
    """CFO, SNR, noise and channel of each frame against the truth."""
    frames = receive(on_air(CYCLE, snr_db, cfo=0.123456))
    assert np.mean([f.snr for f in frames]) == pytest.approx(linear(snr_db), rel=0.1)
    assert np.mean([f.noise_var for f in frames]) == pytest.approx(amplitude() ** 2 / linear(snr_db), rel=0.08)
    assert np.abs([f.cfo - 0.123456 for f in frames]).max() < 5e-5 / np.sqrt(linear(snr_db))
    assert np.abs([f.sco for f in frames]).max() < 15e-6 / np.sqrt(linear(snr_db))
    for f in frames:
        assert power(f.channel.h_hat) == pytest.approx(amplitude() ** 2, rel=0.3 / np.sqrt(linear(snr_db)))


def test_a_false_header_in_the_stream_does_not_stop_it():
    """A frame that announces more symbols than it has: the frames after it are still received."""
    import dataclasses

    from airnet_sdr.dsp import control
    from airnet_sdr.dsp.frame import DEFAULT_FORMAT, payload_slots
    from airnet_sdr.tx.burst import modulate_frame

    liar = Header(77, 0, 1, 60, 4)
    sent = modulate_frame(liar, control.encode_manifest(b"", liar)[0],
                          white(payload_slots(liar, DEFAULT_FORMAT), 1.0, 5), DEFAULT_FORMAT)  # fmt: skip
    samples = on_air(np.concatenate([sent[: 5 * 1056], CYCLE]), SNR_DB, after=80_000)
    frames = receive(samples)
    assert [f for f in numbers(f for f in frames if f.header.burst_id != 77)] == list(range(FRAMES))
    assert frame_samples(dataclasses.replace(liar), DEFAULT_FORMAT) > 5 * 1056


def test_frames_of_another_layout_follow_without_a_gap():
    """Equal in length, other in control channel and payload: each is read by its own header, none by the other's."""
    first = make_burst((40_000,), seed=2)[1]
    second = dataclasses.replace(first, header=dataclasses.replace(first.header, burst_id=7, num_chunk_steps=30))
    assert payload_slots(first.header, DEFAULT_FORMAT) != payload_slots(second.header, DEFAULT_FORMAT)
    cut = dataclasses.replace(second, stream=second.stream[:100])
    frames = receive(on_air(np.concatenate([transmit(first), transmit(cut), transmit(first)]), SNR_DB))
    assert len(frames) == 3 * first.header.num_frames
    for frame in frames:
        assert frame.statistic.size == payload_slots(frame.header, DEFAULT_FORMAT)
        assert frame.chunk.size == frame.header.num_chunk_steps * DEFAULT_FORMAT.chunk_step
