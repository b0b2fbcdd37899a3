"""Echoes, power-delay profiles and fading: one FIR filter whose taps may vary.

y[n] = Σ_l g_l[n]·x(n − d_l), delays d_l in samples, fractional ones through a windowed sinc. Varying gains are
computed every 64 samples and interpolated linearly, with an error of (2π·64·doppler)²/8: −62 dB at the largest Doppler
allowed, rate/5000.
"""

import numpy as np
from numba import njit

from airnet_sdr.dsp.units import linear
from airnet_sdr.sim.channel.impairments.resample import HALF, windowed_sinc

GRID = 64  # samples between two sets of gains
_SINUSOIDS = 32

# delays in ns and powers in dB: 3GPP TS 36.104 B.2 (epa, eva, etu), ITU-R M.1225 table 3 (indoor_a, indoor_b, from
# the indoor office environment) and table 4 (pedestrian_b)
PROFILES = {
    "epa": ((0, 30, 70, 90, 110, 190, 410), (0, -1, -2, -3, -8, -17.2, -20.8)),
    "eva": ((0, 30, 150, 310, 370, 710, 1090, 1730, 2510), (0, -1.5, -1.4, -3.6, -0.6, -9.1, -7, -12, -16.9)),
    "etu": ((0, 50, 120, 200, 230, 500, 1600, 2300, 5000), (-1, -1, -1, 0, 0, 0, -3, -5, -7)),
    "indoor_a": ((0, 50, 110, 170, 290, 310), (0, -3, -10, -18, -26, -32)),
    "indoor_b": ((0, 100, 200, 300, 500, 700), (0, -3.6, -7.2, -10.8, -18, -25.2)),
    "pedestrian_b": ((0, 200, 800, 1200, 2300, 3700), (0, -0.9, -4.9, -8, -7.8, -23.9)),
}


def profile(name: str, rate_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """(delays in samples, amplitudes of unit total power) of a tabulated profile, float64."""
    delays_ns, powers_db = (np.array(column, dtype=np.float64) for column in PROFILES[name])
    powers = linear(powers_db)
    return delays_ns * 1e-9 * rate_hz, np.sqrt(powers / powers.sum())


class Fading:
    """Gains of unit mean power, each a sum of 32 sinusoids at f_m = doppler·cos(α_m), random phases.

    With α_m uniform in the m-th of 32 equal sectors the autocorrelation over realisations is J0(2π·doppler·τ) (Clarke
    1968; Zheng and Xiao, IEEE Trans. Commun. 51(6), 2003). A Rician K adds to the first gain one wave from a random
    direction: its share of the power is K/(K + 1). doppler in cycles/sample; 0 draws constant gains. Unit mean
    power is over realisations. Gains are independent; Doppler spectra other than Clarke's are not modelled.
    """

    def __init__(self, num: int, doppler: float, rng: np.random.Generator, rician_k: float | None = None):
        sectors = np.arange(_SINUSOIDS) + rng.random((num, _SINUSOIDS))
        angles = np.concatenate([2 * np.pi * sectors / _SINUSOIDS, 2 * np.pi * rng.random((num, 1))], axis=1)
        amplitudes = np.full(angles.shape, np.sqrt(1 / _SINUSOIDS))
        amplitudes[:, -1] = 0
        if rician_k is not None:
            amplitudes[0] = np.sqrt(1 / _SINUSOIDS / (rician_k + 1))
            amplitudes[0, -1] = np.sqrt(rician_k / (rician_k + 1))
        self._waves = amplitudes * np.exp(2j * np.pi * rng.random(angles.shape))  # (num, waves)
        self._steps = 2 * np.pi * doppler * GRID * np.cos(angles)  # rad a grid step
        self._table = np.zeros((*angles.shape, 0))
        self.moves = doppler > 0

    def __call__(self, first: int, num_points: int) -> np.ndarray:
        """Gains at the samples 64·(first + 0 … num_points − 1): (num_points, num) complex128."""
        if num_points > self._table.shape[-1]:
            self._table = np.exp(1j * self._steps[..., None] * np.arange(num_points))
        waves = self._waves * np.exp(1j * self._steps * first)
        return np.matmul(waves[:, None], self._table[..., :num_points])[:, 0].T


@njit(cache=True, nogil=True, fastmath=True)
def _filter(x, first, rows, out):
    """out[k] = Σ_m h[m]·x[k + M − 1 − m], out[0] being sample number first; rows (points, M) holds h every 64."""
    real, imag = x.real.copy(), x.imag.copy()
    num_taps = rows.shape[1]
    moves = rows.shape[0] > 1
    sums = np.empty((4, GRID), dtype=np.float32)
    k = 0
    while k < out.size:
        phase = (first + k) % GRID
        count = min(GRID - phase, out.size - k)
        segment = (first + k) // GRID - first // GRID if moves else 0
        sums[:] = 0
        for m in range(num_taps):
            start = k + num_taps - 1 - m
            for side in range(1 + moves):
                h = rows[segment + side, m]
                if h == 0:
                    continue
                total_real, total_imag = sums[2 * side], sums[2 * side + 1]
                part_real, part_imag = real[start : start + count], imag[start : start + count]
                for j in range(count):  # slices, since an index that might be negative keeps this from vectorising
                    total_real[j] += h.real * part_real[j] - h.imag * part_imag[j]
                    total_imag[j] += h.real * part_imag[j] + h.imag * part_real[j]
        for j in range(count):
            a = np.float32((phase + j) / GRID) if moves else np.float32(0)
            out[k + j] = complex(sums[0, j] + a * (sums[2, j] - sums[0, j]), sums[1, j] + a * (sums[3, j] - sums[1, j]))
        k += count


class Multipath:
    """y[n] = Σ_l gains_l·g_l[n]·x(n − d_l): delays d_l ≥ 0 in samples, gains complex, both (L,).

    g_l[n] is from `fading`, a `Fading` of L gains, or of one for all (flat); None: constant taps. Output is
    as long as the input plus the longest delay, rounded up; it lags by up to 32 samples until `flush`. Power is not
    normalised here. Moving reflectors (varying delays) are not modelled.
    """

    def __init__(self, delays, gains, fading: Fading | None = None):
        self.delays = np.atleast_1d(np.asarray(delays, dtype=np.float64))
        self.gains = np.atleast_1d(np.asarray(gains, dtype=np.complex128))
        self._fading = fading
        sinc_used = np.any(self.delays % 1 != 0)
        self._ahead = HALF - 1 if sinc_used else 0
        self._tail = int(np.ceil(self.delays.max()))
        lags = np.arange(-self._ahead, self._tail + self._ahead + 1)
        self._sincs = windowed_sinc(lags - self.delays[:, None])  # (L, M)
        self._sincs[np.abs(self._sincs) < 1e-9] = 0  # zeros are skipped
        self._first = 0
        self._buffer = np.zeros(self._tail + self._ahead, dtype=np.complex64)

    def taps(self, first: int = 0, num_points: int = 1) -> np.ndarray:
        """h[m] at the samples 64·(first + 0 … num_points − 1): (num_points, M) complex64."""
        gains = self.gains if self._fading is None else self.gains * self._fading(first, num_points)
        return np.atleast_2d(gains @ self._sincs).astype(np.complex64)

    def frequency_response(self, freqs) -> np.ndarray:
        """H(f) = Σ_l gains_l·g_l[0]·exp(−j2πf·d_l), f in cycles/sample; complex128, the shape of freqs."""
        gains = self.gains if self._fading is None else self.gains * self._fading(0, 1)[0]
        return np.exp(-2j * np.pi * np.asarray(freqs, dtype=np.float64)[..., None] * self.delays) @ gains

    def __call__(self, x: np.ndarray) -> np.ndarray:
        x = np.concatenate([self._buffer, x])
        # the buffer begins with M − 1 − ahead past samples, so the first block comes out short by `ahead`
        y = np.empty(max(x.size - self._sincs.shape[1] + 1, 0), dtype=np.complex64)
        if y.size:
            begin = self._first // GRID
            moves = self._fading is not None and self._fading.moves
            num_points = (self._first + y.size - 1) // GRID - begin + 2 if moves else 1
            _filter(x, self._first, self.taps(begin, num_points), y)
        self._first += y.size
        self._buffer = x[y.size :]
        return y

    def flush(self) -> np.ndarray:
        """The remaining samples: the echoes of the last input."""
        return self(np.zeros(self._tail + self._ahead, dtype=np.complex64))


def echoes(x: np.ndarray, delays, gains) -> np.ndarray:
    """y[n] = Σ_l gains_l·x(n − d_l) of a whole array, see `Multipath`; longer by the longest delay, rounded up."""
    multipath = Multipath(delays, gains)
    return np.concatenate([multipath(np.asarray(x, dtype=np.complex64)), multipath.flush()])
