"""Weights to integer levels and back: one uniform step per tensor, a dead zone, reconstruction at the centroids.

``level = sign(w)·floor(|w|/step + rounding)``: a rounding below 1/2 maps more weights to 0, which saves bits in the
entropy coder (Sullivan, Efficient scalar quantization of exponential and Laplacian random variables, IEEE Trans. Inf.
Theory 42(5), 1996). Levels other than 0 are rebuilt ``shift`` steps nearer to 0, at the mean of the weights mapped to
them.
"""

import dataclasses

import numpy as np

ROUNDING = 0.4
SHIFT_STEPS = 256  # shift is sent as an integer in 1/256 of a step
STEPS_PER_OCTAVE = 512
MAX_LEVEL = 127
MAX_CODE = 65535  # of a step
MAX_ROWS, MAX_KERNEL = 65535, 255  # largest output channels and kernel size that a tensor's header holds


@dataclasses.dataclass(frozen=True)
class Quantised:
    """A tensor's levels (n,) int32, the code of its step (16 bits) and of its shift (8 bits, signed).

    `layout` is (output channels, kernel size); (1, 1) for tensors without them.
    """

    levels: np.ndarray
    step_code: int
    shift_code: int
    layout: tuple[int, int] = (1, 1)


def step_code(step: float) -> int:
    """The code 0…`MAX_CODE` of the nearest step that can be sent."""
    return int(np.clip(round(np.log2(step) * STEPS_PER_OCTAVE) + 32768, 0, MAX_CODE))


def step_value(code: int) -> float:
    """The step of a code."""
    return float(2.0 ** ((code - 32768) / STEPS_PER_OCTAVE))


def steps_of(metadata: dict[str, str]) -> list[float] | None:
    """The quantisation step of every tensor of a checkpoint trained for bits (`models.entropy`), otherwise None.

    Raises ValueError for what is no code of a step.
    """
    codes = [int(code) for code in metadata.get("steps", "").split(",") if code]
    if not all(0 <= code <= MAX_CODE for code in codes):
        raise ValueError(f"a step's code is 0 to {MAX_CODE}")
    return [step_value(code) for code in codes] or None


def grid_of(metadata: dict[str, str]) -> list[float]:
    """The grid of every tensor: its step, for a hybrid a fraction of it; [] if not trained for bits."""
    return [step / int(metadata.get("parts", "1")) for step in steps_of(metadata) or ()]


def quantise(weights: np.ndarray, code: int, rounding: float = ROUNDING, anchors=()) -> Quantised:
    """Finite weights, float32 of any shape, to levels with the step of a code; at most ±127. Those with the indices
    ``anchors`` (`normalised`) have a level other than 0, unless they are 0."""
    rows, kernel = (len(weights), int(np.prod(weights.shape[2:]))) if weights.ndim > 1 else (1, 1)
    layout = (rows, kernel) if 0 < rows <= MAX_ROWS and 0 < kernel <= MAX_KERNEL else (1, 1)
    weights = weights.reshape(-1)
    scaled = np.abs(weights.astype(np.float64)) / step_value(code)
    magnitude = np.minimum(np.floor(scaled + rounding), MAX_LEVEL)
    anchors = np.asarray(anchors, np.int64)
    magnitude[anchors] = np.maximum(magnitude[anchors], 1)
    outside = magnitude > 0
    shift = float(np.mean((magnitude - scaled)[outside])) if outside.any() else 0.0
    levels = (np.sign(weights) * magnitude).astype(np.int32)
    return Quantised(levels, code, int(np.clip(round(shift * SHIFT_STEPS), -128, 127)), layout)


def dequantise(tensor: Quantised) -> np.ndarray:
    """Levels to weights (n,) float32."""
    magnitude = np.abs(tensor.levels) - tensor.shift_code / SHIFT_STEPS
    weights = np.where(tensor.levels, np.sign(tensor.levels) * magnitude * step_value(tensor.step_code), 0)
    return weights.astype(np.float32)
