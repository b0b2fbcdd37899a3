"""Steady tones, taken out of the samples before preambles are searched.

A carrier as strong as the signal or stronger hides preambles and leaks into hundreds of subcarriers. In each block it
is subtracted with the frequency, amplitude and phase that fit it best, which costs the signal about one part in
BLOCK/2 of its energy. Blocks in question show it: the kurtosis of their rails is that of a sine among noise, below 3.
A tone that begins, ends or is modulated within a block does not have the same amplitude in all its quarters: it is
left to the cells of time and frequency.
"""

import numpy as np
from scipy import fft

from airnet_sdr.dsp.blanking import BLOCK, blank_pulses

PEAK = 30.0  # times the median of the spectrum; noise reaches it with probability 1e-9 a bin
MOST_TONES = 6  # of a block
STEADY = 0.7  # of the largest amplitude of a quarter, by the least
TURNS = 2  # of the refinement
_HANN = np.hanning(BLOCK + 1)[:-1].astype(np.float32)
_TIME = np.arange(BLOCK) - (BLOCK - 1) / 2


def clean_blocks(samples: np.ndarray) -> int:
    """Take pulses and steady tones out of samples (n,) complex64, in place; blocks begin at their first.

    Returns how many samples were no numbers, or as large as none of a radio: they are put to 0.
    """
    tonal, num_unusable = blank_pulses(samples)
    for first in np.flatnonzero(tonal) * BLOCK:
        block = samples[first : first + BLOCK]
        if excise_tones(block):
            blank_pulses(block)  # which a tone may have hidden
    return num_unusable


def excise_tones(block: np.ndarray) -> int:
    """Subtract the steady tones from a block (BLOCK,) complex64, in place, strongest first; returns how many."""
    for count in range(MOST_TONES):
        power = np.abs(fft.fft(block * _HANN)) ** 2
        peak = int(np.argmax(power))
        if power[peak] <= PEAK * np.median(power):
            return count
        tone = _steady_tone(block, 2 * np.pi * peak / BLOCK)
        if tone is None:
            return count
        block -= tone
    return MOST_TONES


def _steady_tone(block, omega):
    """The tone near omega rad/sample (BLOCK,) complex64; None where it is not steady.

    The frequency follows from the phase between the halves, within 1 dB of the Cramér–Rao bound (Rife and Boorstyn
    1974), the amplitude from least squares.
    """
    for _ in range(TURNS):
        still = block * np.exp(-1j * omega * _TIME).astype(np.complex64)
        quarters = still.reshape(4, -1).sum(axis=1, dtype=np.complex128)
        early, late = quarters[:2].sum(), quarters[2:].sum()
        omega += np.angle(late * early.conj()) / (BLOCK / 2)
    still = block * np.exp(-1j * omega * _TIME).astype(np.complex64)
    quarters = still.reshape(4, -1).sum(axis=1, dtype=np.complex128)
    if (
        np.abs(quarters).min() < STEADY * np.abs(quarters).max()
        or abs(quarters.sum()) < STEADY * np.abs(quarters).sum()
    ):
        return None
    return (quarters.sum() / BLOCK * np.exp(1j * omega * _TIME)).astype(np.complex64)
