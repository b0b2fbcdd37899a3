"""OFDM: subcarriers to samples and back. Unitary transforms; samples of a full symbol have unit average power."""

import functools

import numpy as np
from numba import njit
from scipy import fft

from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat
from airnet_sdr.dsp.phasor import phasor_double

TABLE = 64


def modulate(grid: np.ndarray, fmt: FrameFormat = DEFAULT_FORMAT) -> np.ndarray:
    """Active subcarriers (symbols, num_active) of unit power to samples (symbols·symbol_samples,), both complex64."""
    spectrum = np.empty((len(grid), fmt.fft_size), np.complex64)
    _to_bins(grid, np.float32(amplitude(fmt)), spectrum)
    out = np.empty((len(grid), fmt.symbol_samples), np.complex64)
    out[:, fmt.prefix_samples :] = fft.ifft(spectrum, axis=1, norm="ortho", overwrite_x=True)
    out[:, : fmt.prefix_samples] = out[:, fmt.fft_size :]
    return out.reshape(-1)


@njit(cache=True, nogil=True)
def _to_bins(grid, gain, spectrum):
    half = grid.shape[1] // 2
    for t in range(grid.shape[0]):
        row = spectrum[t]
        row[:] = 0
        for i in range(half):
            row[1 + i] = grid[t, half + i] * gain
            row[row.size - half + i] = grid[t, i] * gain


def fill_grid(slots: np.ndarray, fmt: FrameFormat = DEFAULT_FORMAT) -> np.ndarray:
    """Data slots of frames (frames, num_symbols·slots_per_symbol) to their preambles, data and pilots.

    Returns (frames·(1 + num_symbols), num_active) complex64.
    """
    grid = np.empty((len(slots), 1 + slots.shape[1] // fmt.slots_per_symbol, fmt.num_active), np.complex64)
    grid[:, 0] = fmt.preamble
    _place(slots, fmt.data_index, fmt.pilots, fmt.pilot_index, grid[:, 1:])
    return grid.reshape(-1, fmt.num_active)


@njit(cache=True, nogil=True)
def _place(slots, data_index, pilots, pilot_index, grid):
    num_slots = data_index.shape[1]
    for m in range(grid.shape[0]):
        for t in range(grid.shape[1]):
            row, data = grid[m, t], slots[m, t * num_slots : (t + 1) * num_slots]
            for i in range(num_slots):
                row[data_index[t, i]] = data[i]
            for i in range(pilots.shape[1]):
                row[pilot_index[t, i]] = pilots[t, i]


def demodulate(samples, starts, cfo, num_symbols: int, fmt: FrameFormat = DEFAULT_FORMAT, first=0) -> np.ndarray:
    """Spectra (frames, num_symbols, fft_size) complex64 of consecutive OFDM symbols of some frames.

    Frame m begins at starts[m] with the prefix of its symbol 0; its samples are turned back by cfo[m] rad/sample,
    phase 0 at the body of symbol 0. The symbols from ``first`` on are wanted. Columns are subcarriers from the lowest
    active one up (see `FrameFormat.columns`): the turn that puts it first costs nothing here. Samples outside the array
    count as 0.
    """
    bodies = np.empty((len(starts), num_symbols, fmt.fft_size), np.complex64)
    begin = np.asarray(starts, np.int64) + fmt.prefix_samples
    _derotate(samples, begin, fmt.symbol_samples, first, np.asarray(cfo, np.float64), fmt.num_active // 2, bodies)
    return fft.fft(bodies, axis=2, norm="ortho", overwrite_x=True)


@njit(cache=True, nogil=True, fastmath=True)
def _derotate(samples, starts, hop, first_symbol, cfo, half, out):
    """out[m, t, n] = samples[starts[m] + k + n]·exp(-j·cfo[m]·(k + n) + 2πj·half·n/fft_size), k = (first + t)·hop."""
    table = np.empty(TABLE, np.complex64)  # a table of phasors leaves one turn for every TABLE samples
    centre = 2 * np.pi * half / out.shape[2]
    for m in range(out.shape[0]):
        for i in range(TABLE):
            table[i] = np.exp(1j * (centre - cfo[m]) * i)
        for t in range(out.shape[1]):
            row = out[m, t]
            for first in range(0, row.size, TABLE):
                place = (first_symbol + t) * hop + first
                cos, sin = phasor_double((centre * first - cfo[m] * place) / (2 * np.pi))
                turn = complex(np.float32(cos), np.float32(sin))
                base = starts[m] + place
                count = min(TABLE, row.size - first)
                if base >= 0 and base + count <= samples.size:
                    for i in range(count):
                        row[first + i] = samples[base + i] * (table[i] * turn)
                else:
                    row[first : first + count] = 0
                    for i in range(max(0, -base), min(count, samples.size - base)):
                        row[first + i] = samples[base + i] * (table[i] * turn)


def amplitude(fmt: FrameFormat = DEFAULT_FORMAT) -> float:
    """Amplitude of a unit-power subcarrier when samples have unit power: √(1 / occupancy)."""
    return float(np.sqrt(1 / fmt.occupancy))


@functools.lru_cache(maxsize=8)
def preamble_samples(fmt: FrameFormat = DEFAULT_FORMAT) -> np.ndarray:
    """The preamble with its prefix (symbol_samples,) complex64."""
    samples = modulate(fmt.preamble[None, :], fmt)
    samples.setflags(write=False)
    return samples
