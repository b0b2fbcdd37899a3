"""Synchronisation: find preambles anywhere, at any carrier offset in range, and measure their offset and timing.

Detection is in two steps. The *lag product* ``z[n] = y[n+1]·y*[n]`` turns a carrier offset into a constant phase, so a
correlation of z with the preamble's own lag product finds the preamble whatever the offset (differential detection,
Colavolpe & Raheli 2000), with one FFT pair for all offsets. Its normalised metric, on samples and between them, is
compared with a threshold that noise passes with a probability of some 4·exp(-LAG_EXPONENT) a sample. Candidates are
confirmed coherently: ``y·s*`` is a tone at the carrier offset, and its periodogram peak over the whole range must
exceed what noise reaches with probability bins·exp(-TONE_EXPONENT), a first time as it is, then aligned and refined.
The peak, refined by Newton's method, is the maximum-likelihood estimate for a single path, with variance 6/(S·N³) at
SNR S per sample over N samples.
"""

import dataclasses

import numpy as np
from numba import njit
from scipy import fft

from airnet_sdr.dsp.alignment import TIMING_REACH, align_preambles, best_shift
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat
from airnet_sdr.dsp.ofdm import preamble_samples

LAG_EXPONENT = 9.0
TONE_EXPONENT = 27.0
TONE_TURN = 1.6  # radians: of a tone summed over samples in which it turns so far, 0.8 of the power is left
TONE_LOSS = 0.38  # of the coherence is left at worst, half a sample and half a bin off: 0.6·0.8·0.8
SCAN_FFT = 8192
FFT_LANES = 4  # rows are transformed so many at a time; a row alone takes as long
SCAN_ROWS = 32  # of a tile at most: larger ones leave the cache, of smaller ones threads wait for the interpreter
TONE_ROWS = 256
CLUSTER_SAMPLES = 32
MAX_CFO = 0.377  # rad/sample: ±150 kHz at 2.5 MS/s


@dataclasses.dataclass(frozen=True)
class Acquisition:
    """A confirmed preamble, or some with a leading axis.

    start : (...) index of the first sample; cfo (...) in rad/sample; coherence (...) |corr|²/energies in 0…1
    """

    start: np.ndarray
    cfo: np.ndarray
    coherence: np.ndarray

    def __getitem__(self, frames) -> "Acquisition":
        """Of one preamble, or of a slice of them."""
        return Acquisition(self.start[frames], self.cfo[frames], self.coherence[frames])


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
        self._hop = SCAN_FFT - lag.size  # starts a transform examines, each with the one after it
        self._step = max(8, 1 << (lag.size // 32).bit_length())  # of energies: a sixteenth of the preamble
        self._threshold = LAG_EXPONENT / lag.size
        self._tone_threshold = TONE_EXPONENT / self.length
        self._energy = float(np.sum(np.abs(self.reference.astype(np.complex128)) ** 2))
        self._tone_halvings = int(np.log2(max(1, min(TONE_TURN / max_cfo, self.length / 16))))
        self._tone_step = 1 << self._tone_halvings  # samples that are summed before the periodogram
        self._tone_fft = 1 << (3 * self.length // (2 * self._tone_step)).bit_length()  # 1.5 to 3 bins a bin of its own
        self._reach = int(np.ceil(max_cfo * self._tone_step * self._tone_fft / (2 * np.pi)))
        self._reach = min(self._reach, self._tone_fft // 2 - 1)

    def scan(self, samples: np.ndarray, run=map) -> np.ndarray:
        """Candidate preamble starts, rising, in samples (n,) complex64: every start in 0…n-length is examined.

        ``run`` maps a function over the tiles of the search, `map` or an executor's.
        """
        num_starts = samples.size - self.length + 1
        if num_starts <= 0:
            return np.empty(0, np.int64)
        num_lanes = -(-num_starts // (FFT_LANES * self._hop))
        num_tiles = 2 * -(-num_lanes * FFT_LANES // (2 * SCAN_ROWS))  # as many for each of two threads
        tile = FFT_LANES * self._hop * -(-num_lanes // num_tiles)

        def search(first):
            return self._scan_tile(samples, first, min(first + tile, num_starts))

        found = zip(*run(search, range(0, num_starts, tile)), strict=True)
        return _strongest_of_clusters(*map(np.concatenate, found))[0]

    def _scan_tile(self, samples, first, stop):
        """Starts in first…stop-1 at which the lag product and then the tone exceed their thresholds, and coherences."""
        rows = -(-(stop - first) // (FFT_LANES * self._hop)) * FFT_LANES
        product = np.empty((rows, SCAN_FFT), np.complex64)
        energy = np.empty((rows, SCAN_FFT // self._step), np.float32)
        _lag_products(samples, first, self._hop, product, energy)
        spectrum = fft.fft(product, axis=1, overwrite_x=True)
        spectrum *= self._lag_spectrum
        correlation = fft.ifft(spectrum, axis=1, overwrite_x=True)
        window = (self.length - 1) // self._step
        limit = np.float32(self._threshold * self._lag_energy)
        starts, metrics = _above_threshold(correlation, energy, window, self._hop, first, stop, limit)
        starts, _ = _strongest_of_clusters(starts, metrics)
        parts = [starts[i : i + TONE_ROWS] for i in range(0, starts.size, TONE_ROWS)]
        coherence = np.concatenate([metrics[:0], *(self._tones(samples, part)[1] for part in parts)])
        confirmed = coherence > TONE_LOSS * self._tone_threshold
        return starts[confirmed], coherence[confirmed]

    def acquire(self, samples: np.ndarray, start: int) -> Acquisition | None:
        """Confirm a preamble at ``start`` and measure its carrier offset; None when there is none.

        The best start within TIMING_REACH samples is taken.
        """
        shift = int(best_shift(samples, start, self.reference, self._tone(samples, start)))
        # a part of a sample off, the tone was not the preamble's alone
        found = self.acquire_near(samples, np.array([start + shift]), self._tone(samples, start + shift), reach=0)
        return found[0] if found.start.size else None

    def acquire_near(self, samples, starts, cfo: float, reach: int = TIMING_REACH) -> Acquisition:
        """Preambles near the expected starts (m,), of carrier offsets near ``cfo``, up to the first that is none."""
        found, confirmed = self.acquire_each(samples, starts, cfo, reach)
        return found[: np.argmin(np.append(confirmed, False))]

    def acquire_each(self, samples, starts, cfo: float, reach: int = TIMING_REACH) -> tuple[Acquisition, np.ndarray]:
        """What is near each of the expected starts (m,), and whether it is a preamble (m,) bool."""
        places, cfos = np.array(starts, np.int64), np.full(len(starts), cfo, np.float64)
        coherence = np.zeros(len(starts))
        align_preambles(samples, self.reference, self._energy, reach, places, cfos, coherence)
        return Acquisition(places, cfos, coherence), coherence > self._tone_threshold

    def _tone(self, samples, start):
        return self._tones(samples, np.array([start]))[0][0] if self._holds(samples, start) else 0.0

    def _tones(self, samples, starts):
        """Carrier offsets (m,) and coherences (m,) of the largest bins of the periodograms of y·s* at starts (m,)."""
        rows = -(-len(starts) // FFT_LANES) * FFT_LANES
        tones = np.zeros((rows, self._tone_fft), np.complex64)
        energy = np.empty(len(starts), np.float32)
        _tone_sums(samples, starts, self.reference, self._tone_halvings, tones, energy)
        bins, power = _largest_bins(fft.fft(tones, axis=1, overwrite_x=True)[: len(starts)], self._reach)
        return 2 * np.pi / (self._tone_fft * self._tone_step) * bins, power / (energy * np.float32(self._energy))

    def _holds(self, samples, start):
        return 0 <= start <= samples.size - self.length


@njit(cache=True, nogil=True)
def _strongest_of_clusters(starts, metrics):
    """Of starts (n,) rising within CLUSTER_SAMPLES of their neighbour, those of the largest metrics, and these."""
    strongest = np.empty(starts.size, np.int64)
    count = 0
    for i in range(starts.size):
        if i == 0 or starts[i] - starts[i - 1] > CLUSTER_SAMPLES:
            strongest[count] = i
            count += 1
        elif metrics[i] > metrics[strongest[count - 1]]:
            strongest[count - 1] = i
    return starts[strongest[:count]], metrics[strongest[:count]]


@njit(cache=True, nogil=True, fastmath=True)
def _lag_products(samples, first, hop, product, energy):
    """Overlapping rows of lag products z, and Σ|z|² over the steps of a row; 0 past the end of the samples."""
    length = product.shape[1] // energy.shape[1]
    for row in range(product.shape[0]):
        here = samples[first + row * hop :]
        after = here[1:]
        z = product[row]
        count = min(z.size, after.size)
        for i in range(count):
            z[i] = after[i] * here[i].conjugate()
        z[count:] = 0
        for block in range(energy.shape[1]):
            step = z[block * length : (block + 1) * length]
            total = np.float32(0)
            for i in range(step.size):
                total += step[i].real * step[i].real + step[i].imag * step[i].imag
            energy[row, block] = total


@njit(cache=True, nogil=True, fastmath=True)
def _above_threshold(correlation, energy, window, hop, first, stop, threshold):
    """Starts whose metric exceeds threshold·(energy of their window), the window rounded to whole steps; the ratios.

    The metric is the larger of |c[i]|², for a preamble on sample i, and |c[i] + c[i+1]|²/2, for one between i and i+1:
    half a sample off, either neighbour has a third of the power; their phase is the same, their noise is not, and so
    the sum has twice that. The start is the better of the two.
    """
    starts, metrics = [first][:0], [np.float32(0)][:0]
    step = correlation.shape[1] // energy.shape[1]
    metric = np.empty(hop, np.float32)
    for row in range(correlation.shape[0]):
        here, after = correlation[row, :hop], correlation[row, 1:]
        for i in range(hop):
            x, y = here[i].real, here[i].imag
            u, v = x + after[i].real, y + after[i].imag
            metric[i] = max(x * x + y * y, np.float32(0.5) * (u * u + v * v))
        # silence holds the transform's rounding errors
        floor = np.float32(1e-6) * energy[row].sum() + np.float32(1e-30)
        examined = min(hop, stop - first - row * hop)  # none in the rows that fill up FFT_LANES
        for low in range(0, examined, step):
            block = low // step
            total = floor + energy[row, block : block + window].sum()
            limit = threshold * total
            part = metric[low : min(low + step, examined)]
            above = False
            for i in range(part.size):  # a search that stops at the first would be slower
                above |= part[i] > limit
            if not above:
                continue
            for i in range(part.size):
                if part[i] > limit:
                    start = first + row * hop + low + i
                    later = abs(after[low + i]) > abs(here[low + i])
                    starts.append(min(start + later, stop - 1))
                    metrics.append(part[i] / total)
    return np.array(starts, dtype=np.int64), np.array(metrics, dtype=np.float32)


@njit(cache=True, nogil=True, fastmath=True)
def _add_pairs(terms, sums):
    for k in range(sums.size):
        sums[k] = terms[2 * k] + terms[2 * k + 1]


@njit(cache=True, nogil=True, fastmath=True)
def _tone_sums(samples, starts, reference, halvings, tones, energy):
    """tones[m], sums of samples[starts[m] + n]·reference*[n] over 2^halvings n each, and the energy of the samples."""
    terms, pairs = np.empty_like(reference), np.empty_like(reference)
    for m in range(starts.size):
        received = samples[starts[m] : starts[m] + reference.size]
        total = np.float32(1e-30)
        for n in range(received.size):
            total += received[n].real * received[n].real + received[n].imag * received[n].imag
        energy[m] = total
        for n in range(received.size):
            terms[n] = received[n] * reference[n].conjugate()
        num = received.size
        for _ in range(halvings):
            num //= 2
            _add_pairs(terms, pairs[:num])
            terms, pairs = pairs, terms
        tones[m, :num] = terms[:num]


@njit(cache=True, nogil=True, fastmath=True)
def _largest_bins(spectrum, reach):
    """The largest of the bins -reach…reach of each row, as (bins, powers)."""
    bins, powers = np.zeros(len(spectrum), np.int64), np.zeros(len(spectrum), np.float32)
    for m in range(len(spectrum)):
        for k in range(-reach, reach + 1):
            power = spectrum[m, k].real ** 2 + spectrum[m, k].imag ** 2
            if power > powers[m]:
                bins[m], powers[m] = k, power
    return bins, powers
