"""Pulses that are much shorter than an OFDM symbol, as a radar's: blanked before the FFT spreads them over the band.

A pulse of L samples blanked costs a symbol of N samples the share L/N of its energy, and noise of as much; left alone
it costs its own energy. Samples are examined in grains of 8. A grain is part of a pulse where it exceeds the level of
its block, a low quantile of the grains' energies, by FACTOR; a run of grains longer than MOST is no pulse, but a signal
that cells of time and frequency describe better, and one at the edge of a block is left alone.
"""

import numpy as np
from numba import njit

BLOCK = 2048  # samples, from the stream's first on
GRAIN = 8
MOST, GAP = 32, 2  # grains of a run, and between runs
FACTOR = 4.5  # times the level: OFDM reaches it with probability 1e-9 a grain
QUANTILE, QUANTILE_SHARE = 0.3, 0.72  # of the grains' energies, and what it is of the mean of an OFDM signal's
BESIDE, QUIET = 24, 2.0  # grains on either side that must be quiet, and up to how many times the level
KURTOSIS = 3.4  # of the rails of a block: 3 and a deviation of 0.08 for an OFDM signal; below, nothing is done


@njit(cache=True, nogil=True, fastmath=True)
def blank_pulses(samples):
    """Put zeros where pulses are in samples (n,) complex64; blocks begin at their first."""
    for first in range(0, samples.size - BLOCK + 1, BLOCK):
        block = samples[first : first + BLOCK].view(np.float32)
        second = fourth = np.float32(0)
        for i in range(block.size):
            square = block[i] * block[i]
            second += square
            fourth += square * square
        if fourth * block.size > np.float32(KURTOSIS) * second * second:
            _blank_runs(block.reshape(BLOCK // GRAIN, 2 * GRAIN))


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
                before = _is_quiet(energy, above, max(begin - BESIDE, 0), begin, level)
                if before and _is_quiet(energy, above, stop, min(stop + BESIDE, num), level):
                    block[begin:stop] = 0
            begin = -1


@njit(cache=True, nogil=True)
def _is_quiet(energy, above, first, stop, level):
    """Whether the grains beside a run are at the block's level; those that may hold a part of a pulse do not count."""
    total, count = 0.0, 0
    for g in range(first, stop):
        if not (above[max(g - 1, 0)] or above[g] or above[min(g + 1, energy.size - 1)]):
            total += energy[g]
            count += 1
    return count > 1 and total < QUIET * level * count
