"""The channel at the preamble: where its first path is, its response, and the noise. Some frames at a time."""

import dataclasses
import functools

import numpy as np
from numba import njit
from scipy import fft

from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat
from airnet_sdr.dsp.preamble_hit import CELL, channel_of_clean_cells

FIRST_PATH_TAP = 4  # where the FFT window puts the first path: taps before it hold the leakage of fractional delays
WINDOWS = (10, 16, 24, 36, 64)  # delay windows in samples, the shortest that explains the preamble is taken
UNEVEN = 0.25  # see `_is_uneven`
LEAST_UNEVEN = 1e-5  # of the signal: less misfit costs nothing, however uneven
NOISE_FLOOR = 1e-6  # of the signal: below, single precision's own errors are measured


@dataclasses.dataclass(frozen=True)
class ChannelEstimate:
    """Channel at the preamble of one frame, or of some with a leading axis.

    h_hat : (..., num_active) complex64, transmit amplitude included; noise_var (...) of a subcarrier; window (...) taps
    """

    h_hat: np.ndarray
    noise_var: np.ndarray
    window: np.ndarray

    @functools.cached_property
    def power(self) -> np.ndarray:
        """Mean |h_hat|² (...)."""
        parts = self.h_hat.view(np.float32)
        return np.einsum("...i,...i->...", parts, parts, dtype=np.float64) / self.h_hat.shape[-1]

    def __getitem__(self, frames) -> "ChannelEstimate":
        """Of one frame, or of a slice of them."""
        return ChannelEstimate(self.h_hat[frames], self.noise_var[frames], self.window[frames])


@functools.lru_cache(maxsize=8)
def window_bases(fmt: FrameFormat) -> tuple:
    """Orthonormal basis (num_active, rank) of the widest window's responses, and those of all windows within it.

    Returns the widest basis, its adjoint, the windows, the adjoint bases of all stacked (Σ ranks, rank), their offsets.
    """
    windows = [w for w in WINDOWS if w <= fmt.num_active // 4]
    bases = []
    for window in windows:
        phase = -2j * np.pi * fmt.subcarriers[:, None] * np.arange(window) / fmt.fft_size
        u, s, _ = np.linalg.svd(np.exp(phase), full_matrices=False)
        bases.append(u[:, s > 1e-3 * s[0]])
    widest = bases[-1]
    stacked = np.concatenate([basis.conj().T @ widest for basis in bases])
    offsets = np.cumsum([0] + [basis.shape[1] for basis in bases])
    complex64 = (np.ascontiguousarray(m, np.complex64) for m in (widest, widest.conj().T, stacked))
    return *complex64, windows, offsets


def first_paths(spectra: np.ndarray, fmt: FrameFormat = DEFAULT_FORMAT) -> np.ndarray:
    """Delays in samples (frames,), may be negative, of the first paths, from spectra of preambles (frames, fft_size).

    The impulse response under a Hann taper over frequency (side lobes -31 dB); the first path is the first tap within
    18 dB of the strongest and clear of the noise, among those up to a prefix length around the strongest.
    """
    response = fft.ifft(spectra * _tapered_preamble(fmt), axis=1, overwrite_x=True)
    return _first_taps(response, fmt.prefix_samples)


@functools.lru_cache(maxsize=8)
def _tapered_preamble(fmt: FrameFormat):
    taper = np.zeros(fmt.fft_size, np.complex64)
    taper[fmt.columns] = fmt.preamble.conj() * np.hanning(fmt.num_active)
    return taper


@njit(cache=True, nogil=True, error_model="numpy")
def _first_taps(response, reach):
    delays = np.empty(response.shape[0], np.int64)
    power = np.empty(response.shape[1], np.float32)
    for m in range(delays.size):
        for i in range(power.size):
            power[i] = response[m, i].real ** 2 + response[m, i].imag ** 2
        noise = np.median(power) / np.log(2)
        strongest = 0
        for lag in range(-reach, reach + 1):
            if power[lag] > power[strongest]:
                strongest = lag
        level = max(power[strongest] * 10**-1.8, 12 * noise)
        delays[m] = strongest
        for lag in range(max(-reach, strongest - reach), strongest + 1):
            if power[lag] >= level:
                # the taper widens a path to about two taps on each side at -18 dB
                delays[m] = min(lag + 2, strongest)
                break
    return delays


def estimate_channels(spectra: np.ndarray, fmt: FrameFormat = DEFAULT_FORMAT) -> ChannelEstimate:
    """Least squares over the shortest sufficient delay window, from spectra of preambles (frames, fft_size).

    The window is chosen by Mallows' C_p: ‖residual‖² + 2·rank·noise_var. The error is rank/num_active of the noise, so
    P = num_active/rank in the loss factor 1 + 1/P.
    """
    basis, adjoint, stacked, windows, offsets = window_bases(fmt)
    h_hat = np.empty((len(spectra), fmt.num_active), np.complex64)
    noise_var, best = np.empty(len(spectra)), np.empty(len(spectra), np.int64)
    uneven = np.empty(len(spectra), np.bool_)
    _least_squares(spectra, fmt.preamble, basis, adjoint, stacked, offsets, h_hat, noise_var, best, uneven)
    for m in np.nonzero(uneven)[0]:
        observed = spectra[m, fmt.columns] * fmt.preamble.conj()
        h_hat[m], noise_var[m], best[m] = channel_of_clean_cells(observed, fmt, window_bases)
    return ChannelEstimate(h_hat, noise_var, np.array(windows)[best])


@njit(cache=True, nogil=True)
def _least_squares(spectra, preamble, basis, adjoint, stacked, offsets, h_hat, noise_var, best, uneven):
    num_active = preamble.size
    observed = np.empty(num_active, np.complex64)
    for m in range(spectra.shape[0]):
        energy = np.float32(0)
        for k in range(num_active):
            y = spectra[m, k if k < num_active // 2 else k + 1]
            observed[k] = y * preamble[k].conjugate()
            energy += y.real * y.real + y.imag * y.imag
        coefficients = np.dot(stacked, np.dot(adjoint, observed))
        least = np.inf
        for w in range(offsets.size - 2, -1, -1):  # the widest first: its noise is the penalty's
            rank = offsets[w + 1] - offsets[w]
            residual = energy
            for c in coefficients[offsets[w] : offsets[w + 1]]:
                residual -= c.real * c.real + c.imag * c.imag
            residual = max(residual, np.float32(NOISE_FLOOR) * energy)
            noise = residual / (num_active - rank)
            if w == offsets.size - 2:
                widest = noise
            if residual + 2 * rank * widest <= least:
                least, best[m], noise_var[m] = residual + 2 * rank * widest, w, noise
        if energy == 0:  # where nothing came nothing is known
            noise_var[m] = np.inf
        inner = slice(offsets[best[m]], offsets[best[m] + 1])
        h_hat[m] = np.dot(basis, np.dot(coefficients[inner], stacked[inner].conj()))
        uneven[m] = _is_uneven(observed, h_hat[m])


@njit(cache=True, nogil=True, fastmath=True)
def _is_uneven(observed, h):
    """Whether cells of CELL subcarriers differ more in their residuals than those of noise do, and these matter.

    The logarithm of the mean less the mean of the logarithms: 0.064 and a deviation of 0.01 for noise.
    """
    total, logarithms, signal = 0.0, 0.0, 0.0
    for c in range(observed.size // CELL):
        energy = np.float32(1e-30)
        for k in range(c * CELL, (c + 1) * CELL):
            misfit = observed[k] - h[k]
            energy += misfit.real * misfit.real + misfit.imag * misfit.imag
            signal += h[k].real * h[k].real + h[k].imag * h[k].imag
        total += energy
        logarithms += np.log(energy)
    num = observed.size // CELL
    return total > LEAST_UNEVEN * signal and np.log(total / num) - logarithms / num > UNEVEN


def mean_snr(channel: ChannelEstimate, noise_var: np.ndarray) -> np.ndarray:
    """Mean SNR per payload symbol (...), linear, less what the estimate's own error (window/num_active) adds to it."""
    bias = channel.window / channel.h_hat.shape[-1]
    return np.maximum(channel.power / noise_var - bias, 0.0)
