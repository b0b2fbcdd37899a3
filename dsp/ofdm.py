"""OFDM: subcarriers to samples and back. Unitary transforms; samples of a full symbol have unit average power."""

import functools

import numpy as np
from scipy import fft

from dsp.frame import DEFAULT_FORMAT, FrameFormat


def modulate(grid: np.ndarray, fmt: FrameFormat = DEFAULT_FORMAT) -> np.ndarray:
    """Active subcarriers (symbols, num_active) complex64 of unit power to samples (symbols·symbol_samples,) complex64."""
    body = np.zeros((len(grid), fmt.fft_size), np.complex64)
    half = fmt.num_active // 2
    gain = np.float32(amplitude(fmt))
    body[:, 1 : half + 1] = grid[:, half:] * gain
    body[:, -half:] = grid[:, :half] * gain
    out = np.empty((len(grid), fmt.symbol_samples), np.complex64)
    out[:, fmt.prefix_samples :] = fft.ifft(body, axis=1, norm="ortho", overwrite_x=True)
    out[:, : fmt.prefix_samples] = out[:, fmt.fft_size :]
    return out.reshape(-1)


def demodulate(bodies: np.ndarray, fmt: FrameFormat = DEFAULT_FORMAT) -> np.ndarray:
    """Symbol bodies (symbols, fft_size) complex64, prefix removed, to active subcarriers (symbols, num_active) complex64."""
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
