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
MOST = 32  # grains
FACTOR = 4.5  # times the level: OFDM reaches it with probability 1e-9 a grain
QUANTILE, QUANTILE_SHARE = 0.3, 0.72  # of the grains' energies, and what it is of the mean of an OFDM signal's
EVEN = 1.7  # mean square over squared mean of the other grains' energies: 1.2 for an OFDM signal, more where one begins
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
    """Blank the pulses of a block, a grain a row, if the other grains are those of one signal."""
    num = block.shape[0]
    energy = np.empty(num, np.float32)
    for g in range(num):
        energy[g] = (block[g] * block[g]).sum()
    limit = np.float32(FACTOR / QUANTILE_SHARE) * np.sort(energy)[int(QUANTILE * num)]
    in_pulse = np.zeros(num, np.bool_)
    begin = -1
    for g in range(num + 1):
        if g < num and energy[g] > limit:
            begin = g if begin < 0 else begin
        elif begin >= 0:
            in_pulse[begin:g] = g - begin <= MOST
            begin = -1
    rest, total, square = 0, 0.0, 0.0
    for g in range(num):
        beside = in_pulse[max(g - 1, 0)] or in_pulse[min(g + 1, num - 1)]  # holds a part of the pulse
        if not (in_pulse[g] or beside):
            rest += 1
            total += energy[g]
            square += energy[g] ** 2
    if rest == 0 or square * rest >= EVEN * total**2:
        return
    first, last = 0, num - 1  # what reaches over the edge may be longer than it looks
    while first < num and in_pulse[first]:
        first += 1
    while last >= 0 and in_pulse[last]:
        last -= 1
    for g in range(first, last + 1):
        if in_pulse[g]:
            block[g] = 0
