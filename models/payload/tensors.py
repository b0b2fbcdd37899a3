"""The plan of one tensor's analog symbols, and its eight bytes in the manifest.

Layout, big endian: mean (upper 16 bits of a float32), scale (16-bit code of log2, 0 for a constant tensor), copies
(8 bits), power (8 bits, quarter dB), shape of the weights' density (8 bits, place in `dsp.expansion.SHAPES`) and curve
(8 bits, `models.curves`, 0 for none).
"""

import dataclasses
import struct

import numpy as np

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.expansion import GAUSSIAN, LINE, SHAPES, Curve, Density, absolute_scale, fit_shape
from airnet_sdr.dsp.power_range import POWER_STEP_DB
from airnet_sdr.dsp.symbols import num_pairs, sums
from airnet_sdr.models.curves import code_of, curve_of

TENSOR_BYTES = struct.calcsize(">HHBbBB")
MOST_PLANS, SMALL_TENSOR = 512, 8192  # tensors with plans of their own; weights of those that may share one
SHAPE_WEIGHTS = 1 << 16  # at most, to which a shape is fitted
SUM_WEIGHTS = 1 << 18  # summed per call
_TENSOR, _PAIR = struct.Struct(">HHBbBB"), struct.Struct(">HH")
_SCALE_STEPS_PER_OCTAVE = 256


@dataclasses.dataclass(frozen=True)
class TensorPlan:
    """Plan of one tensor: value = mean + √2·scale·symbol part; each symbol ``copies`` times at ``power_db``.

    `curve` expands the symbols, None for linear; `density` is that of (value - mean)/scale, for the Bayesian
    receiver.
    """

    mean: float
    scale: float
    copies: int
    power_db: float
    density: Density = GAUSSIAN
    curve: Curve | None = None

    @property
    def uses(self) -> int:
        """Payload symbols per pair of weights."""
        return self.copies * (1 if self.curve is None else self.curve.dims)

    def num_symbols(self, numel: int) -> int:
        """Payload symbols of a tensor of ``numel`` weights."""
        return num_pairs(numel) * self.uses

    def to_bytes(self) -> bytes:
        """Encode; InputError if a value does not fit."""
        power = self.power_db / POWER_STEP_DB
        if not (1 <= self.copies <= 255 and -128 <= power <= 127):
            raise InputError(
                f"manifest: copies must be 1 to 255 and power -32 to 31.75 dB; got {self.copies} and {self.power_db} dB"
            )
        if not (np.isfinite(self.mean) and 0 <= self.scale < np.inf):
            raise InputError(
                f"manifest: mean and scale must be finite; got {self.mean}, {self.scale}; check the weights"
            )
        shape, curve = SHAPES.index(self.density.shape), code_of(self.curve)
        return _TENSOR.pack(_mean_code(self.mean), _scale_code(self.scale), self.copies, round(power), shape, curve)

    @classmethod
    def from_bytes(cls, data: bytes, offset: int) -> "TensorPlan":
        """Decode the eight bytes at ``offset``; struct.error if they are invalid."""
        mean, scale, copies, power, shape, curve = _TENSOR.unpack_from(data, offset)
        if copies < 1 or not np.isfinite(_mean_value(mean)):
            raise struct.error("a tensor without copies or finite mean")
        if shape >= len(SHAPES):
            raise struct.error(f"density {shape} of {len(SHAPES)}")
        density = Density(SHAPES[shape])
        return cls(_mean_value(mean), _scale_value(scale), copies, power * POWER_STEP_DB, density, curve_of(curve))


def plan_of_each(numels: list[int]) -> list[int]:
    """The place of each tensor's plan in the manifest.

    Up to MOST_PLANS tensors have plans of their own. Of more, small ones share a plan: those of equal size in turn, by
    twos, as gains and biases alternate.
    """
    if len(numels) <= MOST_PLANS:
        return list(range(len(numels)))
    places: dict[tuple[int, int], int] = {}
    met: dict[int, int] = {}
    result = []
    for i, numel in enumerate(numels):
        met[numel] = met.get(numel, -1) + 1
        key = (numel, met[numel] % 2) if numel < SMALL_TENSOR else (-1, i)
        result.append(places.setdefault(key, len(places)))
    return result


def centre_and_scale(weights: np.ndarray, run=map) -> tuple[float, float]:
    """Mean of finite weights (n,) and RMS about it, rounded as in the manifest: sender and receiver agree exactly.

    ``run`` maps a function over parts of the weights, `map` or an executor's. InputError if some are not finite.
    """
    reference = float(weights[0])  # offsets from it keep their precision for means far from 0
    parts = (weights[first : first + SUM_WEIGHTS] for first in range(0, weights.size, SUM_WEIGHTS))
    total, squares = np.sum(list(run(lambda part: sums(part, reference), parts)), axis=0) / weights.size
    if not np.isfinite(total):
        raise InputError(f"weights must be finite; got {np.sum(~np.isfinite(weights))} others; check the training")
    mean = _mean_value(_mean_code(reference + total))
    offset = mean - reference
    rms = np.sqrt(max(0.0, squares - 2 * offset * total + offset * offset))
    return mean, _scale_value(_scale_code(rms))


def normalisation(weights: np.ndarray, curve: Curve | None = None, run=map) -> tuple[float, float, Density]:
    """Mean, scale and density of finite weights (n,), rounded as in the manifest.

    The scale is the RMS about the mean; for a curve it is that of the moment that sets the curve's power.
    """
    mean, scale = centre_and_scale(weights, run)
    if scale == 0:
        return mean, scale, GAUSSIAN
    if curve is not None and curve.order != LINE.order:
        scale = _scale_value(_scale_code(absolute_scale(weights, mean, curve.order)))
    part = weights[:: -(-weights.size // SHAPE_WEIGHTS)]
    return mean, scale, Density(fit_shape((part - np.float32(mean)) / np.float32(scale)))


def mean_and_scale_bytes(mean: float, scale: float) -> bytes:
    """Mean and scale as `centre_and_scale` rounds them, four bytes."""
    return _PAIR.pack(_mean_code(mean), _scale_code(scale))


def mean_and_scale(data: bytes, offset: int) -> tuple[float, float]:
    """The inverse of `mean_and_scale_bytes`; struct.error if they are invalid."""
    mean, scale = _PAIR.unpack_from(data, offset)
    if not np.isfinite(_mean_value(mean)):
        raise struct.error("a mean that is not finite")
    return _mean_value(mean), _scale_value(scale)


def _mean_code(mean: float) -> int:
    return int(np.float32(mean).view(np.uint32) >> 16)


def _mean_value(code: int) -> float:
    return float(np.uint32(code << 16).view(np.float32))


def _scale_code(scale: float) -> int:
    if scale == 0:
        return 0
    return int(np.clip(round(np.log2(scale) * _SCALE_STEPS_PER_OCTAVE) + 32768, 1, 65535))


def _scale_value(code: int) -> float:
    return 0.0 if code == 0 else float(2.0 ** ((code - 32768) / _SCALE_STEPS_PER_OCTAVE))
