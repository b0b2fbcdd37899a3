"""Streams of a mean are turned: no pulses on the air, the same symbols at the receiver."""

import dataclasses

import numpy as np
import pytest

from airnet_sdr.dsp.radio.scale import to_full_scale
from airnet_sdr.dsp.scrambling import BLOCK, PERIOD, SCRAMBLED, needs_scrambling, turn, turn_back
from airnet_sdr.dsp.units import db
from airnet_sdr.rx.combine import BurstCombiner
from airnet_sdr.tests.link import make_burst, on_air, receive, transmit, white
from airnet_sdr.tx.burst import lay_out


def burst_of_mean(mean):
    """The burst of Gaussian weights, its symbols moved by a mean and of unit power again."""
    _, burst = make_burst((60_000,))
    symbols = ((burst.stream + mean) / np.sqrt(1 + abs(mean) ** 2)).astype(np.complex64)
    return lay_out(burst.manifest.card, [(burst.manifest.parts[0], symbols)])


@pytest.mark.parametrize("mean", [0.2, 0.5 + 0.5j, -1j])
def test_a_mean_costs_nothing_over_the_link(mean):
    """Sent as they are these streams keep 15, 5 and 3 dB of 40: pulses are clipped, or blanked as a radar's."""
    burst = burst_of_mean(mean)
    assert burst.header.flags == SCRAMBLED
    samples = transmit(burst)
    assert to_full_scale(samples)[1] == 0
    frames = receive(on_air(samples, snr_db=40))
    combiner = BurstCombiner(burst.header)
    combiner.add(*frames)
    statistic, information = combiner.soft(0, burst.stream.size)
    error = np.mean(np.abs(statistic / information - burst.stream) ** 2)
    assert db(error) == pytest.approx(-40, abs=0.3)
    part = combiner.soft(BLOCK + 5, PERIOD)[0]
    assert np.array_equal(part, statistic[BLOCK + 5 :][:PERIOD])


def test_pulses_of_a_mean_are_clipped_and_blanked_without():
    burst = burst_of_mean(0.5 + 0.5j)
    plain = dataclasses.replace(burst, header=dataclasses.replace(burst.header, flags=0))
    assert to_full_scale(transmit(plain))[1] > 0
    combiner = BurstCombiner(plain.header)
    combiner.add(*receive(on_air(transmit(plain), snr_db=40)))
    statistic, information = combiner.soft(0, plain.stream.size)
    assert db(np.mean(np.abs(statistic / information - plain.stream) ** 2)) > -10


@pytest.mark.parametrize("num", [100, 5000, 100_000])
def test_streams_without_a_mean_are_sent_as_they_are(num):
    assert not any(needs_scrambling(white(num, 1.0, seed)) for seed in range(20))
    assert make_burst()[1].header.flags == 0


def test_a_mean_that_changes_along_the_stream_is_one():
    stream = white(10 * BLOCK, 0.9, 1)
    stream += np.repeat(np.float32([0.3, -0.3]), 5 * BLOCK)
    assert abs(stream.mean()) < 0.02 and needs_scrambling(stream)


def test_turns_are_exact_and_leave_no_mean():
    stream = white(3 * PERIOD + 7, 1.0, 1) + np.complex64(1)
    turned = turn(stream)
    assert np.array_equal(turn_back(turned, 0), stream) and not needs_scrambling(turned)
    assert np.array_equal(turn_back(turned[PERIOD + 3 :], PERIOD + 3), stream[PERIOD + 3 :])
