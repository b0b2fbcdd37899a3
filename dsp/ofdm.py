"""OFDM: subcarriers to samples and back. Unitary transforms; samples of a full symbol have unit average power."""

import functools

import numpy as np
from numba import njit
from scipy import fft

from dsp.frame import DEFAULT_FORMAT, FrameFormat

TABLE = 64


def modulate(grid: np.ndarray, fmt: FrameFormat = DEFAULT_FORMAT) -> np.ndarray:
    """Active subcarriers (symbols, num_active) of unit power to samples (symbols·symbol_samples,), both complex64."""
    body = np.zeros((len(grid), fmt.fft_size), np.complex64)
    half = fmt.num_active // 2
    gain = np.float32(amplitude(fmt))
    body[:, 1 : half + 1] = grid[:, half:] * gain
    body[:, -half:] = grid[:, :half] * gain
    out = np.empty((len(grid), fmt.symbol_samples), np.complex64)
    out[:, fmt.prefix_samples :] = fft.ifft(body, axis=1, norm="ortho", overwrite_x=True)
    out[:, : fmt.prefix_samples] = out[:, fmt.fft_size :]
    return out.reshape(-1)


def fill_grid(slots: np.ndarray, num_symbols: int, fmt: FrameFormat = DEFAULT_FORMAT) -> np.ndarray:
    """Data slots (num_symbols·slots_per_symbol,) complex64 among the pilots: (num_symbols, num_active) complex64."""
    grid = np.empty((num_symbols, fmt.num_active), np.complex64)
    _place(slots, fmt.data_index, grid)
    np.put_along_axis(grid, fmt.pilot_index[:num_symbols], fmt.pilots[:num_symbols], axis=1)
    return grid


@njit(cache=True, nogil=True)
def _place(slots, data_index, grid):
    num_slots = data_index.shape[1]
    for t in range(grid.shape[0]):
        for i in range(num_slots):
            grid[t, data_index[t, i]] = slots[t * num_slots + i]


def demodulate(samples, starts, cfo, num_symbols: int, fmt: FrameFormat = DEFAULT_FORMAT) -> np.ndarray:
    """Spectra (frames, num_symbols, fft_size) complex64 of consecutive OFDM symbols of some frames.

    Frame m begins at starts[m] with the prefix of its first symbol; its samples are turned back by cfo[m] rad/sample,
    phase 0 at the first body. Columns are subcarriers from the lowest active one up (see `FrameFormat.columns`): the
    turn that puts it first costs nothing here. Samples outside the array count as 0.
    """
    bodies = np.empty((len(starts), num_symbols, fmt.fft_size), np.complex64)
    first = np.asarray(starts, np.int64) + fmt.prefix_samples
    _derotate(samples, first, fmt.symbol_samples, np.asarray(cfo, np.float64), fmt.num_active // 2, bodies)
    return fft.fft(bodies, axis=2, norm="ortho", overwrite_x=True)


@njit(cache=True, nogil=True, fastmath=True)
def _derotate(samples, starts, hop, cfo, half, out):
    """out[m, t, n] = samples[starts[m] + t·hop + n]·exp(-j·cfo[m]·(t·hop + n) + 2πj·half·n/fft_size)."""
    table = np.empty(TABLE, np.complex64)  # a table of phasors leaves one turn for every TABLE samples
    centre = 2 * np.pi * half / out.shape[2]
    for m in range(out.shape[0]):
        for i in range(TABLE):
            table[i] = np.exp(1j * (centre - cfo[m]) * i)
        for t in range(out.shape[1]):
            row = out[m, t]
            for first in range(0, row.size, TABLE):
                turn = np.complex64(np.exp(1j * (centre * first - cfo[m] * (t * hop + first))))
                base = starts[m] + t * hop + first
                count = min(TABLE, row.size - first)
                if base >= 0 and base + count <= samples.size:
                    for i in range(count):
                        row[first + i] = samples[base + i] * (table[i] * turn)
                else:
                    row[first : first + count] = 0
                    for i in range(max(0, -base), min(count, samples.size - base)):
                        row[first + i] = samples[base + i] * (table[i] * turn)


def amplitude(fmt: FrameFormat = DEFAULT_FORMAT) -> float:
    """Amplitude of a unit-power subcarrier when samples have unit power: √(fft_size / num_active)."""
    return float(np.sqrt(fmt.fft_size / fmt.num_active))


@functools.lru_cache(maxsize=8)
def preamble_samples(fmt: FrameFormat = DEFAULT_FORMAT) -> np.ndarray:
    """The preamble with its prefix (symbol_samples,) complex64."""
    samples = modulate(fmt.preamble[None, :], fmt)
    samples.setflags(write=False)
    return samples
