"""Excision of steady tones: what it takes out, and what it must leave alone."""

import numpy as np
import pytest

from airnet_sdr.dsp.blanking import BLOCK
from airnet_sdr.dsp.excision import clean_blocks
from airnet_sdr.dsp.units import db, linear

BLOCKS = 20
TIME = np.arange(BLOCKS * BLOCK)


def gaussian(rng, power=1.0):
    return (np.sqrt(power / 2) * rng.standard_normal(2 * TIME.size)).astype(np.float32).view(np.complex64)


def tone(omega, sir_db, phase=0.7):
    return (np.sqrt(linear(-sir_db)) * np.exp(1j * (omega * TIME + phase))).astype(np.complex64)


@pytest.mark.parametrize("omega", [0.0, 0.3, -1.234567, 2 * np.pi * 100.5 / BLOCK, 3.1])
@pytest.mark.parametrize("sir_db", [-3, -10, -20, -40])
def test_a_steady_tone_is_gone_and_the_signal_stays(rng, omega, sir_db):
    """What is left differs from the signal by less than 4/BLOCK of its power, whatever the tone's."""
    signal = gaussian(rng)
    samples = signal + tone(omega, sir_db)
    clean_blocks(samples)
    error = np.mean(np.abs(samples - signal) ** 2)
    # single precision leaves a part of the tone
    assert error < 4 / BLOCK + 1e-12 * linear(-sir_db), db(error)


def test_several_tones_are_gone(rng):
    """Two of them ten bins apart, which makes both estimates a little worse."""
    signal = gaussian(rng)
    samples = signal + sum(tone(omega, sir_db) for omega, sir_db in ((0.5, -20), (0.53, -10), (-2.0, -13)))
    clean_blocks(samples)
    assert np.mean(np.abs(samples - signal) ** 2) < 0.01


@pytest.mark.parametrize("level_db", [-40, 0, 40])
def test_a_signal_without_tones_keeps_every_bit(rng, level_db):
    samples = np.concatenate([gaussian(rng, linear(level_db)) for _ in range(50)])
    before = samples.copy()
    clean_blocks(samples)
    np.testing.assert_array_equal(samples, before)


@pytest.mark.parametrize("kind", ["begins", "sweeps", "is keyed"])
def test_what_is_no_steady_tone_is_left_to_the_cells(rng, kind):
    samples = gaussian(rng)
    if kind == "begins":  # in the first half of every block
        other = tone(0.4, -20) * (TIME % BLOCK > BLOCK // 4)
    elif kind == "sweeps":
        other = tone(0.0, -20) * np.exp(2e-4j * (TIME % BLOCK) ** 2)
    else:
        other = tone(0.4, -20) * rng.choice([-1, 1], TIME.size // 64).repeat(64)
    samples += other.astype(np.complex64)
    before = samples.copy()
    clean_blocks(samples)
    assert np.mean(samples == before) > 0.9


def test_a_pulse_under_a_tone_is_blanked(rng):
    signal = gaussian(rng)
    signal[5000:5024] += 10
    samples = signal + tone(0.4, -20)
    clean_blocks(samples)
    assert np.mean(np.abs(samples[5000:5024]) ** 2) < 10
