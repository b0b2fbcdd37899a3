"""Bandwidth expansion: one weight on several real dimensions of the channel, and back by its posterior mean.

Sending a weight k times and combining leaves 1/(1 + kS). A curve c(x) in k dimensions that is longer than a straight
line spreads neighbouring values further apart, so that the same noise causes less error, unless it reaches the next
turn: Shannon–Kotel'nikov maps (Shannon 1949; Kotel'nikov 1959). The limit is (1 + S)^-k.

With t = sgn(x)·|x|^q and r = |t|, a curve has some of these parts; each coordinate's mean power equals that of a weight
sent linearly once:

    spiral    gain·t·(cos ωr, sin ωr)   a double Archimedean spiral: both signs of x wind in the same sense
    line      gain·x                    instead of the spiral, for an odd number of dimensions
    circles   (cos ωx, sin ωx)          of rising ω: each resolves the interval left by those before

Two dimensions are a spiral (Hekland, Floor and Ramstad, IEEE Trans. Commun. 57(11), 2009), three a helix; with ω near 0
they are a straight line, which is repetition. Decoding is the posterior mean of x given all coordinates and their
noise variances, by summation over a grid: exact but for the grid, for any density of x. With one dimension and the
weights' true density it is the Bayesian receiver of linear symbols.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.special import gamma, gammainccinv

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.units import limited

MAX_GRID = 4096  # points; a grid this fine adds an error of some -60 dB
TAIL = 1e-7  # probability beyond the grid
STEPS_PER_DEVIATION = 1.6  # of the posterior; with coarser steps the sums do not approximate the integrals
LARGEST = np.float32(1e12)  # of soft values: an SNR that no receiver measures
NEGLIGIBLE = 16.0  # log-likelihood below the largest
BLOCK = 32  # grid points


@dataclass(frozen=True)
class Curve:
    """A map of one real number to `dims` of them; see above.

    gain : of spiral or line against the circles, which have 1; circles : ω of each, rising
    snr_db, nmse_db : NMSE of a Gaussian x over the SNR per symbol of each dimension
    """

    spiral: float | None
    exponent: float
    gain: float
    circles: tuple[float, ...] = ()
    snr_db: tuple[float, ...] = ()
    nmse_db: tuple[float, ...] = ()

    def __post_init__(self):
        numbers = (self.spiral or 0.0, self.exponent, self.gain, *self.circles)
        if not all(0 <= number < 1e3 for number in numbers) or not 0 < self.exponent <= 1 or self.gain == 0:
            raise InputError(f"a curve's numbers must be positive, its exponent at most 1; got {self}")

    @property
    def dims(self) -> int:
        """Real dimensions: symbols per pair of weights."""
        return (1 if self.spiral is None else 2) + 2 * len(self.circles)

    @property
    def order(self) -> float:
        """The power of |x| whose mean decides the curve's mean power."""
        return 2.0 if self.spiral is None else 2.0 * self.exponent

    def nmse(self, snr) -> np.ndarray:
        """NMSE (...) of a Gaussian x at these linear SNRs (...) per symbol, by interpolation over dB."""
        with np.errstate(divide="ignore"):
            snr_db = 10 * np.log10(snr)
        level_db = np.interp(snr_db, self.snr_db, self.nmse_db)
        level_db = level_db - np.maximum(snr_db - self.snr_db[-1], 0)  # within one turn only noise counts
        return np.where(
            snr_db < self.snr_db[0], np.maximum(10 ** (level_db / 10), 1 / (1 + snr)), 10 ** (level_db / 10)
        )

    def points(self, x: np.ndarray) -> np.ndarray:
        """c(x) (dims, n) float64 of x (n,).

        Where E|x|^order is that of a unit Gaussian, the mean square is 1/2 a coordinate, on average over them.
        """
        if self.spiral is None:
            base = [self.gain * x]
        else:
            radius = np.abs(x) ** self.exponent
            size = self.gain * np.sign(x) * radius * math.sqrt(2 / gaussian_moment(self.order))
            base = [size * np.cos(self.spiral * radius), size * np.sin(self.spiral * radius)]
        rings = [math.sqrt(2) * turn(omega * x) for omega in self.circles for turn in (np.cos, np.sin)]
        # a ring's two coordinates have mean square 1 each; so has a line, and a spiral's two on average
        share = self.dims / ((1 if self.spiral is None else 2) * self.gain**2 + 2 * len(self.circles))
        return np.stack(base + rings) * math.sqrt(share / 2)


LINE = Curve(spiral=None, exponent=1.0, gain=1.0)


def gaussian_moment(order: float) -> float:
    """E|x|^order of a unit Gaussian."""
    return 2 ** (order / 2) * math.gamma((order + 1) / 2) / math.sqrt(math.pi)


@dataclass(frozen=True)
class Density:
    """A generalised Gaussian, density ∝ exp(-|x/width|^shape): 2 Gaussian, 1 Laplace, less for heavier tails."""

    shape: float = 2.0

    def width(self, order: float) -> float:
        """The width at which E|x|^order is that of a unit Gaussian."""
        b = self.shape
        return (gaussian_moment(order) * gamma(1 / b) / gamma((order + 1) / b)) ** (1 / order)

    def variance(self, order: float) -> float:
        """E x² at that width."""
        return float(self.width(order) ** 2 * gamma(3 / self.shape) / gamma(1 / self.shape))

    def reach(self, order: float) -> float:
        """|x| beyond which the probability is TAIL."""
        return float(self.width(order) * gammainccinv(1 / self.shape, TAIL) ** (1 / self.shape))


GAUSSIAN = Density()
SHAPES = tuple(2.0 ** (step / 8) for step in range(-16, 17))  # 1/4 to 4


def fit_shape(x: np.ndarray) -> float:
    """The likeliest of SHAPES for the numbers x (n,) about zero, each at its own likeliest width.

    The mean log-likelihood at the best width a^b = b·mean|x|^b is log(b/(2Γ(1/b))) - log(a) - 1/b.
    """
    size = np.abs(np.asarray(x, np.float64))
    size = size[size > 0]
    if size.size == 0:
        return 2.0
    logs = np.log(size)

    def likelihood(b):
        width = (b * np.mean(np.exp(b * logs))) ** (1 / b)
        return math.log(b / (2 * math.gamma(1 / b))) - math.log(width) - 1 / b

    return max(SHAPES, key=likelihood)


def absolute_scale(weights: np.ndarray, mean: float, order: float) -> float:
    """The scale (0 for a constant tensor) by which (weights - mean)/scale has a unit Gaussian's E|x|^order."""
    offsets = np.abs(np.asarray(weights, np.float64) - mean)
    return float((np.mean(offsets**order) / gaussian_moment(order)) ** (1 / order))


def expand(symbols: np.ndarray, curve: Curve) -> np.ndarray:
    """Pairs of weights (n,) complex64, as `dsp.symbols.to_symbols` makes them, to coordinates (n·dims,) complex64.

    Real parts go along the curve in the real parts, imaginary parts in the imaginary parts: a pair's symbols are the
    coordinates one after the other, which the interleaver puts into different frames.
    """
    pairs = np.ascontiguousarray(symbols, np.complex64).view(np.float32) * np.sqrt(2)
    return curve.points(pairs).astype(np.float32).T.reshape(-1, 2, curve.dims).transpose(0, 2, 1).copy().view(
        np.complex64
    ).reshape(-1)  # fmt: skip


@functools.lru_cache(maxsize=32)
def _grid(curve: Curve, shape: float, num: int):
    """x (num,), log of density times step (num,), points (dims, num): the grid of decoding.

    Steps grow in proportion to |x| beyond x = 3, where few weights are.
    """
    density, order = Density(shape), curve.order
    reach = density.reach(order)
    x = 3 * np.sinh(np.linspace(-1, 1, num) * np.arcsinh(reach / 3))
    weight = -(np.abs(x / density.width(order)) ** shape) + np.log(np.gradient(x))
    return x.astype(np.float32), weight.astype(np.float32), curve.points(x).astype(np.float32)


def _grid_size(curve: Curve, shape: float, snr: float) -> int:
    """Points of a grid of STEPS_PER_DEVIATION steps where the posterior of x is narrowest at that mean SNR."""
    coarse, _, points = _grid(curve, shape, 1024)
    speed = np.max(np.sum(np.diff(points, axis=1) ** 2, axis=0) / np.diff(coarse) ** 2)
    deviation = 1 / math.sqrt(2 * speed * max(snr, 1e-3) + 1)
    first = (coarse[512] - coarse[511]) * 1024
    return int(min(max(64, 2 ** math.ceil(math.log2(STEPS_PER_DEVIATION * first / deviation))), MAX_GRID))


def posterior_mean(
    statistic: np.ndarray, information: np.ndarray, curve: Curve = LINE, density: Density = GAUSSIAN
) -> tuple[np.ndarray, float]:
    """Soft values of curve coordinates (n·dims,), see `dsp.symbols.combine`, to pairs of weights (n,) complex64.

    The inverse of `expand`, E[x | y] for x of `density`. Also the mean posterior variance over that of x: the NMSE to
    be expected. An erased coordinate has information 0.
    """
    shape = (-1, curve.dims)
    statistic = limited(np.ascontiguousarray(statistic, np.complex64).view(np.float32), LARGEST).view(np.complex64)
    statistic, information = statistic.reshape(shape), limited(information, LARGEST).reshape(shape)
    size = _grid_size(curve, density.shape, float(information.mean()) if information.size else 0.0)
    x, weight, points = _grid(curve, density.shape, size)
    pairs = np.empty((len(statistic), 2), np.float32)
    total = _posterior(statistic, information, x, weight, points, pairs)
    pairs *= np.float32(1 / np.sqrt(2))
    return pairs.view(np.complex64)[:, 0], total / max(pairs.size, 1) / density.variance(curve.order)


@njit(cache=True, nogil=True, fastmath=True)
def _posterior(statistic, information, x, weight, points, pairs):
    """Posterior means of both parts of each pair, and the sum of posterior variances."""
    level, tops = np.empty(x.size, np.float32), np.empty(x.size // BLOCK, np.float32)
    total = 0.0
    for n in range(pairs.shape[0]):
        for part in range(2):
            level[:] = weight
            for i in range(points.shape[0]):
                value = np.float32(2) * (statistic[n, i].imag if part else statistic[n, i].real)
                known, row = information[n, i], points[i]
                for g in range(x.size):
                    level[g] += row[g] * (value - row[g] * known)
            for b in range(tops.size):  # negligible blocks are skipped
                block = level[b * BLOCK : (b + 1) * BLOCK]
                highest = block[0]
                for g in range(BLOCK):
                    highest = max(highest, block[g])
                tops[b] = highest
            best = tops.argmax()
            top, near = tops[best], x[best * BLOCK + BLOCK // 2]  # offsets from nearby keep their precision
            mass = mean = square = np.float32(0)
            for b in range(tops.size):
                if tops[b] >= top - np.float32(NEGLIGIBLE):  # the best itself is, however large the numbers are
                    for g in range(b * BLOCK, (b + 1) * BLOCK):
                        share, away = np.exp(level[g] - top), x[g] - near
                        mass += share
                        mean += share * away
                        square += share * away * away
            mean /= mass
            pairs[n, part] = near + mean
            total += max(square / mass - mean * mean, np.float32(0))
    return total
