"""Synchronisation: find preambles anywhere, at any carrier offset in range, and measure their offset and timing.

Detection is in two steps. The *lag product* ``z[n] = y[n+1]·y*[n]`` turns a carrier offset into a constant phase, so a
correlation of z with the preamble's own lag product finds the preamble whatever the offset (differential detection,
Colavolpe & Raheli 2000), with one FFT pair for all offsets. Its normalised metric is compared with a threshold
that noise passes with probability exp(-LAG_EXPONENT) a sample. Candidates are confirmed coherently: ``y·s*`` is a tone
at the carrier offset, and its periodogram peak over the whole range must exceed what noise reaches with probability
bins·exp(-TONE_EXPONENT), a first time as it is, then aligned and refined. The peak, refined by Newton's method, is the
maximum-likelihood estimate for a single path, with variance 6/(S·N³) at SNR S per sample over N samples.
"""

import dataclasses

import numpy as np
from numba import njit
from scipy import fft

from dsp.frame import DEFAULT_FORMAT, FrameFormat
from dsp.ofdm import preamble_samples

LAG_EXPONENT = 8.0
TONE_EXPONENT = 27.0
TONE_LOSS = 0.4  # of the coherence is left at worst half a sample off and half a bin off: 0.6·0.8, and some noise
SCAN_FFT = 8192
SCAN_ROWS = 8  # transforms at a time: what fits a core's cache
TONE_ROWS = 32
ENERGY_STEP = 32
CLUSTER_SAMPLES = 32
TIMING_REACH = 2  # samples that a preamble may be off its expected place
MAX_CFO = 0.377  # rad/sample: ±150 kHz at 2.5 MS/s


@dataclasses.dataclass(frozen=True)
class Acquisition:
    """A confirmed preamble: index of its first sample, cfo in rad/sample, coherence |corr|²/energies in 0…1."""

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
        self._tone_fft = 1 << (3 * self.length // 2).bit_length()  # 1.5 to 3 bins a bin of the preamble's own
        self._reach = min(int(np.ceil(max_cfo * self._tone_fft / (2 * np.pi))), self._tone_fft // 2 - 1)
        # turned so that the bins searched begin at 0
        turn = np.exp(2j * np.pi * self._reach / self._tone_fft * np.arange(self.length))
        self._turned_reference = (self.reference.conj() * turn).astype(np.complex64)

    def scan(self, samples: np.ndarray, run=map) -> np.ndarray:
        """Candidate preamble starts, rising, in samples (n,) complex64: every start in 0…n-length is examined.

        ``run`` maps a function over the tiles of the search, `map` or an executor's.
        """
        num_starts = samples.size - self.length + 1
        if num_starts <= 0:
            return np.empty(0, np.int64)
        hop = SCAN_FFT - self.length + 2
        tile = hop * SCAN_ROWS
        padded = samples if samples.size >= SCAN_FFT + 1 else np.pad(samples, (0, SCAN_FFT + 1 - samples.size))

        def search(first):
            return self._scan_tile(padded, first, min(first + tile, num_starts))

        starts, metrics = map(np.concatenate, zip(*run(search, range(0, num_starts, tile)), strict=True))
        starts = _strongest_of_clusters(starts, metrics)

        def confirm(first):
            part = starts[first : first + TONE_ROWS]
            return part[self._tones(samples, part)[1] > TONE_LOSS * self._tone_threshold]

        return np.concatenate([starts[:0], *run(confirm, range(0, starts.size, TONE_ROWS))])

    def _scan_tile(self, samples, first, stop):
        """Starts in first…stop-1 above the threshold, and their metrics."""
        num_lags = self.length - 1
        hop = SCAN_FFT - num_lags + 1
        product = np.empty((-(-(stop - first) // hop), SCAN_FFT), np.complex64)
        energy = np.empty((len(product), SCAN_FFT // ENERGY_STEP), np.float32)
        _lag_products(samples, first, hop, product, energy)
        spectrum = fft.fft(product, axis=1, overwrite_x=True)
        spectrum *= self._lag_spectrum
        correlation = fft.ifft(spectrum, axis=1, overwrite_x=True)
        window = num_lags // ENERGY_STEP
        return _above_threshold(
            correlation, energy, window, hop, first, stop, np.float32(self._threshold * self._lag_energy)
        )

    def acquire(self, samples: np.ndarray, start: int) -> Acquisition | None:
        """Confirm a preamble at ``start`` and measure its carrier offset; None when there is none.

        The best start within TIMING_REACH samples is taken.
        """
        shift = int(_alignment(samples, start, self.reference, self._tone(samples, start)))
        # a part of a sample off, the tone was not the preamble's alone
        found = self.acquire_near(samples, np.array([start + shift]), self._tone(samples, start + shift), reach=0)
        return found[0] if found else None

    def acquire_near(self, samples, starts, cfo: float, reach: int = TIMING_REACH) -> list[Acquisition]:
        """Preambles near the expected starts (m,), of carrier offsets near ``cfo``, up to the first that is none."""
        places, cfos = np.array(starts, np.int64), np.full(len(starts), cfo, np.float64)
        coherence = np.zeros(len(starts))
        _acquire(samples, self.reference, self._energy, reach, places, cfos, coherence)
        count = int(np.argmin(np.append(coherence > self._tone_threshold, False)))
        return [Acquisition(int(places[m]), float(cfos[m]), float(coherence[m])) for m in range(count)]

    def _tone(self, samples, start):
        return self._tones(samples, np.array([start]))[0][0] if self._holds(samples, start) else 0.0

    def _tones(self, samples, starts):
        """Carrier offsets (m,) and coherences (m,) of the largest bins of the periodograms of y·s* at starts (m,)."""
        products = np.zeros((len(starts), self._tone_fft), np.complex64)
        energy = np.empty(len(starts), np.float32)
        _turned_products(samples, starts, self._turned_reference, products, energy)
        spectrum = fft.fft(products, axis=1, overwrite_x=True)[:, : 2 * self._reach + 1]
        power = spectrum.real**2 + spectrum.imag**2
        largest = 2 * np.pi * (np.argmax(power, axis=1) - self._reach) / self._tone_fft
        return largest, power.max(axis=1, initial=0) / (energy * np.float32(self._energy))

    def _holds(self, samples, start):
        return 0 <= start <= samples.size - self.length


def _strongest_of_clusters(starts, metrics):
    """Of starts (n,) rising that lie within CLUSTER_SAMPLES of their neighbour, the one of the largest metric."""
    if not starts.size:
        return starts
    cluster = np.cumsum(np.diff(starts, prepend=starts[0]) > CLUSTER_SAMPLES)
    order = np.lexsort((-metrics, cluster))
    return starts[order[np.unique(cluster[order], return_index=True)[1]]]


@njit(cache=True, nogil=True, fastmath=True)
def _lag_products(samples, first, hop, product, energy):
    """Overlapping rows of lag products z, and Σ|z|² over each ENERGY_STEP of a row; 0 past the end of the samples."""
    for row in range(product.shape[0]):
        base = first + row * hop
        z = product[row]
        count = max(0, min(z.size, samples.size - 1 - base))
        for i in range(count):
            a, b = samples[base + i + 1], samples[base + i]
            z[i] = complex(a.real * b.real + a.imag * b.imag, a.imag * b.real - a.real * b.imag)
        z[count:] = 0
        for block in range(energy.shape[1]):
            total = np.float32(0)
            for i in range(block * ENERGY_STEP, (block + 1) * ENERGY_STEP):
                total += z[i].real * z[i].real + z[i].imag * z[i].imag
            energy[row, block] = total


@njit(cache=True, nogil=True, fastmath=True)
def _above_threshold(correlation, energy, window, hop, first, stop, threshold):
    """Starts whose |correlation|² exceeds threshold·(energy of their window), the window rounded to whole steps."""
    starts, metrics = [first][:0], [np.float32(0)][:0]
    for row in range(correlation.shape[0]):
        # silence holds the transform's rounding errors
        floor = np.float32(1e-6) * energy[row].sum() + np.float32(1e-30)
        for block in range((hop + ENERGY_STEP - 1) // ENERGY_STEP):
            total = floor
            for i in range(block, min(block + window, energy.shape[1])):
                total += energy[row, i]
            limit = threshold * total
            low = block * ENERGY_STEP
            high = min(low + ENERGY_STEP, hop, stop - first - row * hop)
            largest = np.float32(0)
            for i in range(low, high):
                c = correlation[row, i]
                largest = max(largest, c.real * c.real + c.imag * c.imag)
            if largest <= limit:
                continue
            for i in range(low, high):
                c = correlation[row, i]
                power = c.real * c.real + c.imag * c.imag
                if power > limit:
                    starts.append(first + row * hop + i)
                    metrics.append(power / total)
    return np.array(starts, dtype=np.int64), np.array(metrics, dtype=np.float32)


@njit(cache=True, nogil=True, fastmath=True)
def _turned_products(samples, starts, reference, products, energy):
    """products[m, n] = samples[starts[m] + n]·reference[n], and the energy of the samples."""
    for m in range(starts.size):
        total = np.float32(1e-30)
        for n in range(reference.size):
            value = samples[starts[m] + n]
            products[m, n] = value * reference[n]
            total += value.real * value.real + value.imag * value.imag
        energy[m] = total


@njit(cache=True, nogil=True)
def _acquire(samples, reference, reference_energy, reach, starts, cfo, coherence):
    """Move starts and carrier offsets to the best near them; coherence stays 0 where the samples do not suffice."""
    for m in range(starts.size):
        starts[m] += _alignment(samples, starts[m], reference, cfo[m], reach)
        if starts[m] < 0 or starts[m] + reference.size > samples.size:
            continue
        received = samples[starts[m] : starts[m] + reference.size]
        energy = 0.0
        for value in received:
            energy += value.real * value.real + value.imag * value.imag
        cfo[m], power = _refine_tone(received, reference, cfo[m])
        if energy > 0:
            coherence[m] = power / (energy * reference_energy)


@njit(cache=True, nogil=True, fastmath=True)
def _alignment(samples, start, reference, cfo, reach=TIMING_REACH):
    """The shift within ``reach`` samples at which the preamble, turned by cfo, correlates best."""
    best, best_shift = np.float32(-1), 0
    turned = np.empty_like(reference)
    step, phasor = np.exp(-1j * cfo), 1 + 0j
    for n in range(reference.size):
        turned[n] = reference[n].conjugate() * phasor
        phasor *= step
    for shift in range(-reach, reach + 1):
        first = start + shift
        if first < 0 or first + reference.size > samples.size:
            continue
        total = np.complex64(0)
        for n in range(reference.size):
            total += samples[first + n] * turned[n]
        power = total.real * total.real + total.imag * total.imag
        if power > best:
            best, best_shift = power, shift
    return best_shift


@njit(cache=True, nogil=True)
def _refine_tone(received, reference, cfo):
    """Newton's method on the periodogram |Σ y[n]·s*[n]·exp(-j·cfo·n)|²: (cfo, peak power)."""
    tone = received * np.conj(reference)
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
