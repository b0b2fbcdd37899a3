"""Synchronisation: find preambles anywhere, at any carrier offset in range, and measure their offset and timing.

Detection is in two steps. The *lag product* ``z[n] = y[n+1]·y*[n]`` turns a carrier offset into a constant phase, so a
correlation of z with the preamble's own lag product finds the preamble whatever the offset (differential detection,
Colavolpe & Raheli 2000), with one FFT pair for all offsets. Its normalised metric is compared with a threshold
that noise passes with probability exp(-LAG_EXPONENT) a sample. Candidates are confirmed coherently: ``y·s*`` is a tone at
the carrier offset, and its periodogram peak over the whole range must exceed what noise reaches with probability
bins·exp(-TONE_EXPONENT). The peak, refined by Newton's method, is the maximum-likelihood estimate for a single path, with
variance 6/(S·N³) at SNR S per sample over N samples.
"""

import dataclasses

import numpy as np
from numba import njit
from scipy import fft

from dsp.frame import DEFAULT_FORMAT, FrameFormat
from dsp.ofdm import preamble_samples

LAG_EXPONENT = 11.0
TONE_EXPONENT = 27.0
SCAN_FFT = 8192
CLUSTER_SAMPLES = 32
MAX_CFO = 0.377  # rad/sample: ±150 kHz at 2.5 MS/s


@dataclasses.dataclass(frozen=True)
class Acquisition:
    """A confirmed preamble: index of its first prefix sample, carrier offset (rad/sample), coherence |corr|²/energies in 0…1."""

    start: int
    cfo: float
    coherence: float


class PreambleDetector:
    """Searches samples for the preamble of a format, for carrier offsets within ±max_cfo rad/sample."""

    def __init__(self, fmt: FrameFormat = DEFAULT_FORMAT, max_cfo: float = MAX_CFO):
        self.max_cfo = max_cfo
        self.reference = preamble_samples(fmt)
        self.length = self.reference.size
        lag = self.reference[1:] * self.reference[:-1].conj()
        lag = lag - lag.mean()  # a DC offset or coloured noise puts a constant into the lag product: ignore it
        self._lag_spectrum = fft.fft(lag, SCAN_FFT).conj().astype(np.complex64)
        self._lag_energy = float(np.sum(np.abs(lag.astype(np.complex128)) ** 2))
        self._threshold = LAG_EXPONENT / lag.size
        self._tone_threshold = TONE_EXPONENT / self.length
        self._energy = float(np.sum(np.abs(self.reference.astype(np.complex128)) ** 2))
        self._tone_fft = 1 << (4 * self.length - 1).bit_length()

    def scan(self, samples: np.ndarray) -> np.ndarray:
        """Candidate preamble starts, rising, in samples (n,) complex64: every start in 0…n-length is examined."""
        num_starts = samples.size - self.length + 1
        if num_starts <= 0:
            return np.empty(0, np.int64)
        num_lags = self.length - 1
        hop = SCAN_FFT - num_lags + 1
        blocks = -(-num_starts // hop)
        product = np.zeros((blocks, SCAN_FFT), np.complex64)
        window_energy = np.empty(blocks * hop, np.float32)
        _lag_products(samples, hop, num_lags, product, window_energy)
        spectrum = fft.fft(product, axis=1, overwrite_x=True)
        spectrum *= self._lag_spectrum
        correlation = fft.ifft(spectrum, axis=1, overwrite_x=True)
        peaks = _peaks(correlation, hop, window_energy, num_starts, np.float32(self._threshold * self._lag_energy))
        return peaks

    def acquire(self, samples: np.ndarray, start: int) -> Acquisition | None:
        """Confirm a preamble at ``start`` and measure its carrier offset; None when there is none."""
        if start < 0 or start + self.length > samples.size:
            return None
        received = samples[start : start + self.length]
        energy = float(np.vdot(received, received).real)
        if not energy > 0:
            return None
        tone = received * self.reference.conj()
        spectrum = fft.fft(tone, self._tone_fft)
        reach = min(int(np.ceil(self.max_cfo * self._tone_fft / (2 * np.pi))), self._tone_fft // 2 - 1)
        power = np.abs(np.concatenate([spectrum[-reach:], spectrum[: reach + 1]])) ** 2
        peak = int(np.argmax(power))
        if power[peak] < self._tone_threshold * energy * self._energy:
            return None
        cfo, peak_power = _refine_tone(tone, 2 * np.pi * (peak - reach) / self._tone_fft)
        return Acquisition(start, cfo, peak_power / (energy * self._energy))


@njit(cache=True, nogil=True)
def _lag_products(samples, hop, num_lags, product, window_energy):
    """Fill overlapping rows with lag products, and window_energy[m] = Σ_{i<num_lags} |z[m+i]|²."""
    total = samples.size - 1
    size = product.shape[1]
    for row in range(product.shape[0]):
        base = row * hop
        out = product[row]
        for i in range(min(size, total - base)):
            a, b = samples[base + i + 1], samples[base + i]
            out[i] = complex(a.real * b.real + a.imag * b.imag, a.imag * b.real - a.real * b.imag)
        energy = 0.0
        for i in range(num_lags):
            energy += out[i].real ** 2 + out[i].imag ** 2
        window_energy[base] = energy
        for i in range(hop - 1):
            new, old = out[i + num_lags], out[i]
            energy += (new.real**2 + new.imag**2) - (old.real**2 + old.imag**2)
            window_energy[base + i + 1] = energy


@njit(cache=True, nogil=True)
def _peaks(correlation, hop, window_energy, num_starts, threshold):
    """Largest start of each cluster of starts whose |correlation|² exceeds threshold·window_energy."""
    found = []
    last, best = -CLUSTER_SAMPLES - 1, np.float32(0)
    for start in range(num_starts):
        c = correlation[start // hop, start % hop]
        power = c.real * c.real + c.imag * c.imag
        if power > threshold * window_energy[start] and power > 0:
            metric = power / window_energy[start]
            if start - last > CLUSTER_SAMPLES:
                found.append(start)
                last, best = start, metric
            elif metric > best:
                found[-1] = start
                last, best = start, metric
    return np.array(found, dtype=np.int64)


@njit(cache=True, nogil=True)
def _refine_tone(tone, cfo):
    """Newton's method on the periodogram |Σ tone[n]·exp(-j·cfo·n)|²: (cfo, peak power)."""
    middle = (tone.size - 1) / 2
    power = 0.0
    for _ in range(4):
        a0 = a1 = a2 = 0j
        step = np.exp(-1j * cfo)
        phasor = np.exp(1j * cfo * middle)
        for n in range(tone.size):
            value = tone[n] * phasor
            t = n - middle
            a0 += value
            a1 += t * value
            a2 += t * t * value
            phasor *= step
        power = abs(a0) ** 2
        slope = 2 * (a0.conjugate() * -1j * a1).real
        curvature = 2 * (abs(a1) ** 2 - (a0.conjugate() * a2).real)
        if curvature >= 0:
            break
        cfo -= slope / curvature
    return cfo, power
