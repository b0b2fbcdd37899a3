"""Blanking of pulses: what it takes out, and what it must leave alone."""

import numpy as np
import pytest

from airnet_sdr.dsp.blanking import BLOCK, blank_pulses


def gaussian(rng, num, power=1.0):
    return (np.sqrt(power / 2) * rng.standard_normal(2 * num)).astype(np.float32).view(np.complex64)


def with_pulses(rng, starts, num, power):
    samples = gaussian(rng, 8 * BLOCK)
    for start in starts:
        samples[start : start + num] += np.float32(np.sqrt(power)) * np.exp(0.3j * np.arange(num)).astype(np.complex64)
    return samples


@pytest.mark.parametrize("power", [15.0, 100.0, 1e4])
def test_pulses_lose_their_power(rng, power):
    """Of the pulses' power less than 3 % is left, and of the samples without them at most 8 at each end are lost."""
    starts = BLOCK * np.arange(8) + 500
    samples = with_pulses(rng, starts, 24, power)
    before = samples.copy()
    blank_pulses(samples)
    pulses = (starts[:, None] + np.arange(24)).ravel()
    assert np.sum(np.abs(samples[pulses]) ** 2) < 0.03 * np.sum(np.abs(before[pulses]) ** 2) + 8 * 24
    around = (starts[:, None] + np.arange(-7, 24 + 7)).ravel()
    kept = np.setdiff1d(np.arange(samples.size), around)
    np.testing.assert_array_equal(samples[kept], before[kept])


@pytest.mark.parametrize("level_db", [-30, 0, 30])
def test_a_signal_without_pulses_keeps_every_bit(rng, level_db):
    samples = gaussian(rng, 400 * BLOCK, 10 ** (level_db / 10))
    before = samples.copy()
    blank_pulses(samples)
    np.testing.assert_array_equal(samples, before)


@pytest.mark.parametrize("snr_db", [3, 6, 10, 20, 40])
@pytest.mark.parametrize("at", [60, 300, 700, 1400, 1900, 2040])
def test_a_burst_that_begins_in_a_block_keeps_its_beginning(rng, snr_db, at):
    samples = gaussian(rng, 2 * BLOCK, 10 ** (-snr_db / 10))
    samples[at:] += gaussian(rng, 2 * BLOCK - at)
    before = samples.copy()
    blank_pulses(samples)
    np.testing.assert_array_equal(samples[at:], before[at:])


@pytest.mark.parametrize("snr_db", [6, 20, 100])
def test_a_burst_that_ends_in_a_block_keeps_its_end(rng, snr_db):
    """Where it fills most of a block, the lowest energies of the block are the silence's."""
    for at in range(1100, 2048, 5):
        samples = gaussian(rng, BLOCK, 10 ** (-snr_db / 10))
        samples[:at] += gaussian(rng, at)
        before = samples.copy()
        blank_pulses(samples)
        np.testing.assert_array_equal(samples[:at], before[:at])


def test_a_long_burst_of_interference_is_left_to_the_cells(rng):
    samples = gaussian(rng, 4 * BLOCK)
    samples[2500:3200] += gaussian(rng, 700, 100.0)
    before = samples.copy()
    blank_pulses(samples)
    assert np.mean(samples == before) > 0.99
