"""Bursts that failed are evaluated again when more frames came, now and then; what is forgotten leaves nothing."""

import dataclasses
import gc
import weakref

import numpy as np
import pytest
import torch

from airnet_sdr.dsp.errors import LinkError, NothingReceivedError
from airnet_sdr.dsp.losses import Loss
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import tensors_of
from airnet_sdr.models.payload import Candidates, DigitalPayload
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.rx import listen as listening
from airnet_sdr.rx.combine import BurstCombiner
from airnet_sdr.rx.config import ListenConfig, ReceiveConfig
from airnet_sdr.rx.explain import warnings_of
from airnet_sdr.rx.listen import Listener, listen
from airnet_sdr.rx.receiver import receive, receive_from
from airnet_sdr.rx.samples import ArraySource
from airnet_sdr.tests.fuzz import seeds
from airnet_sdr.tests.link import make_burst, on_air, transmit, white
from airnet_sdr.tests.link import receive as frames_of
from airnet_sdr.tx.burst import lay_out, modulate

FOLLOW = ListenConfig(follow=True)


def blocks_of(*parts, snr_db=15):
    """Blocks of samples, one for each list of frames, and so much silence that the next does not hold them up."""
    return [on_air(np.concatenate(frames), snr_db, after=1 << 14, seed=i) for i, frames in enumerate(parts)]


def yielded(blocks, config, error=None):
    """Receptions of each burst that `listen` yields; where an error is given, each evaluation ends in it."""
    found, listener = [], Listener()
    for burst in listen(ArraySource(blocks), listener, config):
        found.append((burst.header.burst_id, burst.num_received))
        if error is not None:
            burst.note_failure(error)
    return found


def test_a_failed_burst_is_tried_again_after_a_cycles_worth_of_frames_and_at_the_end():
    """Frame 0 comes once alone, so that the number of whole cycles stays 1."""
    _, burst = make_burst((30_000,))
    frames = list(modulate(burst))
    num = len(frames)
    later = [[frame] for frame in frames[1:]] * 3  # a frame at a time
    blocks = blocks_of(frames, *later)
    counts = [count for _, count in yielded(blocks, FOLLOW, NothingReceivedError("too weak"))]
    whole = num + len(later)
    assert counts == [num, 2 * num, 3 * num, whole] and whole == 4 * num - 3
    assert [count for _, count in yielded(blocks, FOLLOW)] == [num]  # it did not fail
    assert [count for _, count in yielded(blocks, FOLLOW, LinkError("not here"))] == [num]  # refused


def test_whole_cycles_are_yielded_as_ever():
    _, burst = make_burst((30_000,))
    frames = list(modulate(burst))
    blocks = blocks_of(*[frames] * 3)
    counts = [count for _, count in yielded(blocks, FOLLOW)]
    assert counts == [len(frames) * cycle for cycle in (1, 2, 3)]
    assert counts == [count for _, count in yielded(blocks, FOLLOW, NothingReceivedError("too weak"))]


def test_a_digital_network_is_decoded_from_a_second_reception_that_lacks_a_frame():
    """Too noisy in one, it is decoded from both."""
    pytest.importorskip("sionna", reason="the digital scheme needs sionna-no-rt")
    widths = (8, 8, 8, 8, 8)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = Checkpoint("fashion", "none", 0.1, tensors_of(build("fashion", widths)), {}, widths)
    plan = DigitalPayload.plan(Candidates((network,)), PlanConfig("none", snr_db=10, payload_uses=3000))
    burst = lay_out(network.card, [DigitalPayload.encode(plan)])
    frames, silence = list(modulate(burst)), [np.zeros(burst.num_samples, np.complex64)]
    once, again = blocks_of(frames + silence, frames[1:], snr_db=7.5)
    with pytest.raises(NothingReceivedError):
        receive([once], evaluate="none")
    assert receive([once, again], evaluate="none").report["part"] == "digital"


def test_a_burst_that_was_forgotten_is_reported_again(monkeypatch):
    monkeypatch.setattr(listening, "MAX_BURSTS", 2)
    bursts = [make_burst((30,), seed=seed)[1] for seed in range(3)]
    order = [0, 1, 2, 0]
    found = yielded(blocks_of(*[list(modulate(bursts[i])) for i in order]), FOLLOW)
    assert [burst_id for burst_id, _ in found] == [bursts[i].header.burst_id for i in order]


def test_refused_bursts_are_freed(monkeypatch):
    """Of eight that are refused those alone stay that the listener keeps; the first error is raised at the end."""
    monkeypatch.setattr(listening, "MAX_BURSTS", 2)
    made, errors, alive = [], [], []

    class Watched(BurstCombiner):
        def __init__(self, *given):
            super().__init__(*given)
            made.append(weakref.ref(self))

    def refused(error):
        gc.collect()
        errors.append(error)
        alive.append(sum(each() is not None for each in made))

    monkeypatch.setattr(listening, "BurstCombiner", Watched)
    tiny = seeds.burst_of("analog", uep="none")
    card = dataclasses.replace(tiny.manifest.card, architecture="no-such-net")
    parts = [(tiny.manifest.parts[0], tiny.stream[: tiny.part_symbols[0]])]
    blocks = blocks_of(*[list(modulate(lay_out(card, parts, seed))) for seed in range(8)])
    with pytest.raises(LinkError, match="no-such-net") as told:
        list(receive_from(ArraySource(blocks), ReceiveConfig(evaluate="none"), FOLLOW, on_refused=refused))
    assert len(made) == len(errors) == 8 and max(alive) <= 3 and told.value is errors[0]
    assert all(error.__cause__ is error.__context__ is None for error in errors)
    assert all(error.__traceback__ is None for error in errors[1:])


def depth(error):
    traceback, num = error.__traceback__, 0
    while traceback is not None:
        traceback, num = traceback.tb_next, num + 1
    return num


def test_an_invalid_manifest_is_told_by_a_new_error_each_time(monkeypatch):
    _, burst = make_burst((30,))
    combiner = BurstCombiner(burst.header.burst_key)
    combiner.add(*frames_of(on_air(transmit(burst), 15)))

    def invalid(data):
        raise LinkError("nonsense")

    monkeypatch.setattr("airnet_sdr.rx.combine.Manifest.from_bytes", invalid)
    errors = []
    for _ in range(4):
        with pytest.raises(LinkError, match="nonsense") as told:
            combiner.manifest()
        errors.append(told.value)
    assert len(set(map(id, errors))) == 4 and {depth(error) for error in errors[1:]} == {depth(errors[-1])}


def test_losses_that_are_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr(listening, "MAX_LOSSES", 5)
    listener = Listener()
    for start in range(20):
        listener.receiver.losses.append(Loss(start, 1))
        listener.push(white(100, 1.0, start))
        assert len(listener.receiver.losses) <= 5
    assert [loss.start for loss in listener.receiver.losses] == [15, 16, 17, 18, 19]


def test_warnings_are_made_while_another_thread_receives():
    """A burst that is heard again goes to the end of the listener's, as another thread may do at any time."""
    listener = Listener()

    class Heard:
        @property
        def num_received(self):
            key = next(iter(listener.bursts))
            listener.bursts[key] = listener.bursts.pop(key)
            return 3

    header = make_burst((30,))[1].header
    for number in range(4):
        listener.bursts[dataclasses.replace(header, burst_id=number)] = Heard()
    assert warnings_of(listener) == ["4 different bursts were received"]
