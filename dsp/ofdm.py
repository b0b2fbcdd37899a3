"""OFDM: subcarriers to samples and back. Unitary transforms; samples of a full symbol have unit average power."""

import functools

import numpy as np
from numba import njit
from scipy import fft

from dsp.frame import DEFAULT_FORMAT, FrameFormat


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


def demodulate(bodies: np.ndarray, fmt: FrameFormat = DEFAULT_FORMAT) -> np.ndarray:
    """Symbol bodies (symbols, fft_size), without prefix, to active subcarriers (symbols, num_active)."""
    spectrum = fft.fft(bodies, axis=1, norm="ortho")
    half = fmt.num_active // 2
    return np.concatenate([spectrum[:, -half:], spectrum[:, 1 : half + 1]], axis=1)


def amplitude(fmt: FrameFormat = DEFAULT_FORMAT) -> float:
    """Amplitude of a unit-power subcarrier when samples have unit power: √(fft_size / num_active)."""
    return float(np.sqrt(fmt.fft_size / fmt.num_active))


@functools.lru_cache(maxsize=8)
def preamble_samples(fmt: FrameFormat = DEFAULT_FORMAT) -> np.ndarray:
    """The preamble with its prefix (symbol_samples,) complex64."""
    samples = modulate(fmt.preamble[None, :], fmt)
    samples.setflags(write=False)
    return samples
