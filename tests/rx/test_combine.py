import dataclasses

import numpy as np
import pytest

from airnet_sdr.dsp import theory
from airnet_sdr.dsp.errors import LinkError
from airnet_sdr.dsp.uep import uniform
from airnet_sdr.dsp.units import db, linear, nmse, power
from airnet_sdr.models.curves import expansion_curves
from airnet_sdr.rx.combine import BurstCombiner, rebuild
from airnet_sdr.tests.link import NUMELS, burst_of, make_burst, on_air, receive, transmit, weights_nmse


def collected(frames):
    combiner = BurstCombiner(frames[0].header.burst_key)
    for frame in frames:
        combiner.add(frame)
    return combiner


@pytest.mark.parametrize("cfo", [0.0, 0.3])
def test_a_perfect_recording_gives_40_db(cfo):
    vectors, burst = make_burst()
    frames = receive(on_air(transmit(burst), cfo=cfo))
    error, combiner = weights_nmse(frames, vectors)
    assert db(error) < -40
    assert combiner.complete and combiner.manifest() == burst.manifest
    assert [f.start for f in frames] == [700 + i * burst.num_samples // 4 for i in range(4)]


@pytest.mark.parametrize("snr_db", [0, 5, 10, 15, 20])
@pytest.mark.parametrize("copies, cycles", [(1, 1), (2, 1), (4, 1), (1, 2), (1, 4)])
def test_awgn_gives_the_lmmse_bound(snr_db, copies, cycles):
    """NMSE 1/(1 + k·S) within 0.5 dB; what the receiver expects within 0.7: a short frame's noise is known to 9 %."""
    vectors, burst = make_burst(copies=copies)
    frames = receive(on_air(transmit(burst, cycles), snr_db, cfo=0.1, seed=snr_db))
    assert len(frames) == burst.header.num_frames * cycles
    error, combiner = weights_nmse(frames, vectors)
    assert combiner.cycles == cycles
    assert db(error / theory.lmmse_nmse(linear(snr_db), copies * cycles)) == pytest.approx(0, abs=0.5)
    expected = np.average(rebuild(combiner, burst.manifest, list(NUMELS)).expected_nmse, weights=NUMELS)
    assert db(expected / error) == pytest.approx(0, abs=0.7)
    assert db(np.mean([f.snr for f in frames])) == pytest.approx(snr_db, abs=0.6)


@pytest.mark.parametrize("snr_db, dims, copies, cycles", [(10, 2, 1, 1), (7, 3, 1, 2), (4, 4, 2, 1), (6, 8, 1, 1)])
def test_curves_over_the_link_leave_what_their_table_says(snr_db, dims, copies, cycles):
    """Within what so few weights tell: the few that are taken for one on another turn make most of the error."""
    snr = linear(snr_db) * copies * cycles
    curve = min((curve for curve in expansion_curves() if curve.dims == dims), key=lambda curve: curve.nmse(snr))
    vectors, burst = make_burst(copies=copies, curve=curve)
    assert burst.stream.size == sum((n + 1) // 2 for n in NUMELS) * dims * copies
    assert db(power(burst.stream)) == pytest.approx(0, abs=0.05)
    error, combiner = weights_nmse(receive(on_air(transmit(burst, cycles), snr_db, cfo=0.1, seed=3)), vectors)
    assert combiner.manifest() == burst.manifest
    assert db(error / curve.nmse(snr)) == pytest.approx(0, abs=1.5)
    expected = np.average(rebuild(combiner, burst.manifest, list(NUMELS)).expected_nmse, weights=NUMELS)
    assert db(expected / error) == pytest.approx(0, abs=1.2)


def test_a_lost_frame_costs_curves_a_coordinate_and_repeats_of_it_nothing_more():
    curve = next(curve for curve in expansion_curves() if curve.dims == 4)
    vectors, burst = make_burst(curve=curve)
    frames = receive(on_air(transmit(burst), 15))
    whole, _ = weights_nmse(frames, vectors)
    torn, _ = weights_nmse([frame for frame in frames if frame.header.frame != 2], vectors)
    assert whole < torn < 0.35


@pytest.mark.parametrize("copies", [1, 3])
def test_the_bayesian_receiver_makes_use_of_the_weights_density(copies):
    rng = np.random.default_rng(6)
    vectors = [(rng.gamma(0.7, size=n) * rng.choice([-1, 1], n)).astype(np.float32) for n in NUMELS]
    burst = burst_of(vectors, uniform([(n + 1) // 2 for n in NUMELS], copies))
    frames = receive(on_air(transmit(burst), 3, seed=2))
    linear_mmse, _ = weights_nmse(frames, vectors)
    bayes, _ = weights_nmse(frames, vectors, "bayes")
    assert db(linear_mmse / bayes) > 0.3
    vectors, burst = make_burst(copies=copies)  # Gaussian weights: nothing to gain, and nothing lost
    frames = receive(on_air(transmit(burst), 3, seed=2))
    assert db(weights_nmse(frames, vectors)[0] / weights_nmse(frames, vectors, "bayes")[0]) > -0.02


def test_a_lost_frame_erases_every_fth_symbol_only():
    vectors, burst = make_burst()
    count = burst.header.num_frames
    frames = receive(on_air(transmit(burst), 20))
    for lost in range(count):
        combiner = collected([f for f in frames if f.header.frame != lost])
        assert not combiner.complete and len(combiner.receptions) == count - 1
        statistic, information = combiner.soft(0, burst.stream.size)
        erased = np.flatnonzero(information == 0)
        assert np.array_equal(erased, np.arange(erased[0], burst.stream.size, count))
        assert not statistic[erased].any() and np.all(information[np.delete(np.arange(burst.stream.size), erased)] > 0)
        error, _ = weights_nmse([f for f in frames if f.header.frame != lost], vectors)
        assert error == pytest.approx(1 / count + (1 - 1 / count) / 101, rel=0.05)


def test_a_frame_heard_again_fills_in_or_adds_up():
    vectors, burst = make_burst()
    frames = receive(on_air(transmit(burst, 3), 10))
    count = burst.header.num_frames
    partial = [f for i, f in enumerate(frames) if i % (count + 1)]  # each cycle misses another frame
    error, combiner = weights_nmse(partial, vectors)
    assert combiner.complete and combiner.cycles == 3 and combiner.num_received == len(partial)
    received = np.bincount([f.header.frame for f in partial])
    assert error == pytest.approx(np.mean(1 / (1 + 10 * received)), rel=0.1)


def test_the_order_of_frames_does_not_matter():
    _, burst = make_burst()
    frames = receive(on_air(transmit(burst), 10))
    there, back = collected(frames), collected(frames[::-1])
    for a, b in zip(there.soft(0, burst.stream.size), back.soft(0, burst.stream.size), strict=True):
        assert np.array_equal(a, b)
    assert there.manifest() == back.manifest() == burst.manifest


def test_without_enough_of_the_manifest_there_is_none():
    """At -3 dB QPSK carries 0.6 bit a use, and a frame 640 of the manifest's 2560 uses for its 424 bits."""
    _, burst = make_burst()
    frames = receive(on_air(transmit(burst), -3))
    assert collected(frames[:1]).manifest() is None
    assert collected(frames[:3]).manifest() == burst.manifest


def test_another_architecture_is_a_link_error():
    _, burst = make_burst()
    combiner = collected(receive(on_air(transmit(burst), 20)))
    manifest = combiner.manifest()
    with pytest.raises(LinkError, match="tensors"):
        rebuild(combiner, manifest, list(NUMELS[:-1]))
    with pytest.raises(LinkError, match="payload symbols"):
        rebuild(combiner, manifest, [10 * n for n in NUMELS])


def test_unequal_copies_and_powers_are_undone():
    copies, powers = np.array([1, 2, 3]), linear(np.array([-3.0, 1.75, 0.0]))
    vectors, burst = make_burst([6000] * 3, copies, powers)
    combiner = collected(receive(on_air(transmit(burst), 5)))
    received = rebuild(combiner, combiner.manifest(), [6000] * 3)
    for sent, heard, k, strength in zip(vectors, received.vectors, copies, powers, strict=True):
        error = nmse(heard - sent.mean(), sent - sent.mean())
        assert db(error / theory.lmmse_nmse(strength * linear(5), k)) == pytest.approx(0, abs=0.5)


def test_one_frame_of_another_burst_has_another_key():
    header = make_burst(numels=(50,))[1].header
    assert dataclasses.replace(header, frame=1).burst_key == header.burst_key
    assert dataclasses.replace(header, burst_id=header.burst_id ^ 1).burst_key != header.burst_key
