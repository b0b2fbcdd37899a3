"""Pulses that are much shorter than an OFDM symbol, as a radar's: blanked before the FFT spreads them over the band.

A pulse of L samples blanked costs a symbol of N samples the share L/N of its energy, and noise of as much; left alone
it costs its own energy. Samples are examined in grains of 8. A grain is part of a pulse where it exceeds the level of
its block, a low quantile of the grains' energies, and that of its neighbours by FACTOR; a run of grains longer than
MOST is no pulse, but a signal that cells of time and frequency describe better, and one at the edge of a block is left
alone.
"""

import numpy as np
from numba import njit

BLOCK = 2048  # samples, from the stream's first on
GRAIN = 8
MOST, GAP = 32, 2  # grains of a run, and between runs
FACTOR = 4.5  # times the level: OFDM reaches it with probability 1e-9 a grain
QUANTILE, QUANTILE_SHARE = 0.3, 0.72  # of the grains' energies, and what it is of the mean of an OFDM signal's
BESIDE, QUIET = 24, 2.0  # grains on either side that must be quiet, and up to how many times the level
KURTOSIS = 3.4  # of the rails of a block: 3 and a deviation of 0.08 for an OFDM signal; below, it has no pulses
LARGEST = 1e8  # beyond, a sample is no number: its fourth power must not overflow single precision
TONAL = 2.75  # below it may have a tone: 1.5 for a tone alone, 2.6 for one as strong as the signal


@njit(cache=True, nogil=True)
def blank_pulses(samples):
    """Put zeros where pulses are in samples (n,) complex64, or no numbers; blocks begin at their first.

    Returns which blocks may hold a tone (n // BLOCK,) bool, and how many samples were no numbers.
    """
    tonal, num_unusable = np.zeros(samples.size // BLOCK, np.bool_), 0
    for first in range(0, samples.size, BLOCK):
        block = samples[first : first + BLOCK].view(np.float32)
        second, fourth = _moments(block)
        if not fourth <= LARGEST**4:  # as it is where one is larger, or none
            num_unusable += _clear_unusable(block)
            second, fourth = _moments(block)
        if block.size < 2 * BLOCK:
            break
        if fourth * block.size > np.float32(KURTOSIS) * second * second:
            _blank_runs(block.reshape(BLOCK // GRAIN, 2 * GRAIN))
        tonal[first // BLOCK] = fourth * block.size < np.float32(TONAL) * second * second
    return tonal, num_unusable


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _moments(rails):
    """Sums of the squares and of the fourth powers."""
    second = fourth = np.float32(0)
    for i in range(rails.size):
        square = rails[i] * rails[i]
        second += square
        fourth += square * square
    return second, fourth


@njit(cache=True, nogil=True)
def _clear_unusable(rails):
    """Put 0 for samples whose rails (2n,) are not finite or exceed LARGEST; returns how many."""
    count = 0
    for i in range(0, rails.size, 2):
        if not (abs(rails[i]) <= LARGEST and abs(rails[i + 1]) <= LARGEST):
            rails[i] = rails[i + 1] = 0
            count += 1
    return count


@njit(cache=True, nogil=True)
def _blank_runs(block):
    """Blank the pulses of a block, a grain a row."""
    num = block.shape[0]
    energy = np.empty(num, np.float32)
    for g in range(num):
        energy[g] = (block[g] * block[g]).sum()
    level = np.sort(energy)[int(QUANTILE * num)] / np.float32(QUANTILE_SHARE)
    above = energy > np.float32(FACTOR) * level
    begin = stop = -1  # of a run, which may have gaps
    for g in range(num):
        if above[g]:
            begin = g if begin < 0 else begin
            stop = g + 1
        elif begin >= 0 and g - stop >= GAP:
            # what reaches over the edge may be longer than it looks
            if 0 < begin and stop - begin <= MOST:
                before = _mean_beside(energy, above, max(begin - BESIDE, 0), begin)
                after = _mean_beside(energy, above, stop, min(stop + BESIDE, num))
                beside = max(before, after)  # above the level where a burst fills a part of the block
                if beside < QUIET * level and energy[begin:stop].max() > FACTOR * beside:
                    block[begin:stop] = 0
            begin = -1


@njit(cache=True, nogil=True)
def _mean_beside(energy, above, first, stop):
    """Mean energy of the grains beside a run, without those that may hold a part of a pulse; inf of one or none."""
    total, count = 0.0, 0
    for g in range(first, stop):
        if not (above[max(g - 1, 0)] or above[g] or above[min(g + 1, energy.size - 1)]):
            total += energy[g]
            count += 1
    return total / count if count > 1 else np.inf
