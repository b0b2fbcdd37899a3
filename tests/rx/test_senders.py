"""Frames of several senders under one header are told apart, and that is said."""

import dataclasses

import numpy as np
import pytest

from airnet_sdr.rx.explain import warnings_of
from airnet_sdr.rx.listen import Listener
from airnet_sdr.tests.link import make_burst, on_air, white
from airnet_sdr.tx.burst import modulate

VECTORS, BURST = make_burst((80_000,))
FOREIGN = dataclasses.replace(BURST, stream=np.random.default_rng(9).permutation(BURST.stream))
FRAMES = BURST.header.num_frames


def hear(*parts, snr_db=15):
    """A listener after parts of the air: frames, and the carrier offset of their sender (rad/sample)."""
    samples = [on_air(np.concatenate(frames), None, cfo, before=900, after=900) for frames, cfo in parts]
    listener = Listener()
    air = np.concatenate(samples)
    listener.push(air + white(air.size, np.mean(np.abs(samples[0]) ** 2) / 10 ** (snr_db / 10), 3))
    listener.finish()
    return listener


def numbers(burst):
    return sorted(burst.receptions)


def test_one_sender_over_many_cycles_at_any_snr_is_one_burst():
    frames = list(modulate(BURST))
    for snr_db in (-3, 5, 30):
        listener = hear((frames * 3, 0.02), snr_db=snr_db)
        (burst,) = listener.bursts.values()
        assert burst.num_received >= 3 * FRAMES - 1 and not any("contradict" in text for text in warnings_of(listener))


def test_foreign_frames_on_another_carrier_are_told_apart():
    """Three of them, of a header that is the same bit by bit, before the true ones."""
    listener = hear((list(modulate(FOREIGN))[:3], 0.05), (list(modulate(BURST)), -0.01))
    burst = listener.best
    assert numbers(burst) == list(range(FRAMES)) and burst.num_received == FRAMES
    assert burst.sync[1] == pytest.approx(-0.01, abs=1e-4)
    assert any("3 frames contradict" in text for text in warnings_of(listener))


def test_foreign_payload_on_the_same_carrier_contradicts_by_its_repeats():
    listener = hear((list(modulate(BURST)), 0.01), (list(modulate(FOREIGN))[:2], 0.01), (list(modulate(BURST)), 0.01))
    burst = listener.best
    assert burst.num_received == 2 * FRAMES
    assert sum(each.num_received for each in listener.bursts.values()) == 2 * FRAMES + 2
    assert any("2 frames contradict" in text for text in warnings_of(listener))


def test_a_small_burst_with_much_empty_room_does_not_contradict_itself():
    small = make_burst((30,), seed=5)[1]
    listener = hear((list(modulate(small)) * 3, 0.0), snr_db=8)
    assert len(listener.bursts) == 1


def test_a_sender_that_drifts_stays_one():
    parts = [(list(modulate(BURST)), 0.01 + 0.0005 * cycle) for cycle in range(4)]  # 200 Hz a cycle
    listener = hear(*parts)
    assert len(listener.bursts) == 1
