"""Weights to the bytes of a digital payload, and back.

Every quantisation step of a tensor has a cost in bits, the entropy of the levels, and a damage, read from the curves
that plan the analog protection at the NMSE of the quantised weights. At a price λ per bit every tensor takes the step
of least damage + λ·bits. Bisection finds the smallest λ whose bytes fit: the Lagrangian optimum over all choices of
steps (Shoham and Gersho, Efficient bit allocation for an arbitrary set of quantizers, IEEE Trans. ASSP 36(9), 1988).

Noise may lower a loss that is not calibrated. No error counts as a gain, nor as less than a smaller one; SMALL of the
greatest damage grows with the error of every tensor, as errors of many tensors cost more than the sum of each; and an
error above a tensor's variance, which no measurement has, costs what the greatest damage is worth.
"""

import dataclasses

import numpy as np

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models.digital import compress
from airnet_sdr.models.digital.normalised import anchors
from airnet_sdr.models.digital.quantise import Quantised, dequantise, quantise, step_code, steps_of
from airnet_sdr.models.packing import real_view

STEPS = np.geomspace(0.02, 8, 70)  # of a tensor's RMS
ROUNDINGS = (0.5, 0.4, 0.33)  # dead zones
NUM_BISECTIONS = 40
SMALL = 0.001  # of the greatest damage
_FACTORS = 2 ** np.arange(0, 20, 1 / 32)


def compressed(checkpoint, num_bytes: int, damage=None, snr_grid_db=None) -> bytes:
    """A checkpoint's weights compressed to at most ``num_bytes``.

    A network trained for bits keeps its levels if they fit; any other is quantised by `compress_to_fit`.
    """
    tensors, steps = list(map(real_view, checkpoint.tensors.values())), steps_of(checkpoint.metadata)
    if steps:
        data = compress.encode(on_grid(tensors, steps))
        if len(data) <= num_bytes:
            return data
    kept = anchors(checkpoint.tensors)
    return compress.encode(compress_to_fit(tensors, num_bytes, damage, snr_grid_db, kept))


def compress_to_fit(
    tensors: list[np.ndarray], num_bytes: int, damage=None, snr_grid_db=None, kept: list[np.ndarray] | None = None
) -> list[Quantised]:
    """Quantise float32 weights so that `compress.encode` returns at most ``num_bytes``.

    ``damage`` (tensors, G) is over the weight SNRs ``snr_grid_db`` (G,); without it the damage of every tensor is its
    NMSE. ``kept`` are indices of weights of each tensor that do not become 0. Raises InputError if even the coarsest
    steps do not fit.
    """
    kept = kept or [np.zeros(0, np.int64)] * len(tensors)
    choices = [_choices(*each) for each in zip(tensors, kept, strict=True)]
    nmse = [np.array([option.nmse for option in options]) for options in choices]
    costs = nmse if damage is None else _costs(nmse, np.asarray(damage, np.float64), snr_grid_db)
    low, high = 0.0, 1.0  # prices per bit: too many bytes at the lower, few enough at the higher
    best = _at_price(choices, costs, high)
    while len(compress.encode(best)) > num_bytes:
        low, high = high, 16 * high
        if high > 1e12:
            raise InputError(f"the network does not compress to {num_bytes} bytes; raise the budget or send a smaller")
        best = _at_price(choices, costs, high)
    if low == 0:
        low = 1e-15 * high
    for _ in range(NUM_BISECTIONS):
        middle = np.sqrt(low * high)
        found = _at_price(choices, costs, middle)
        if len(compress.encode(found)) <= num_bytes:
            best, high = found, middle
        else:
            low = middle
    return best


def _costs(nmse: list[np.ndarray], damage: np.ndarray, snr_grid_db) -> list[np.ndarray]:
    """What each choice of a tensor costs, by the NMSE that it leaves."""
    worst = max(float(damage.max()), 0.0)
    rising = np.maximum.accumulate(np.maximum(damage, 0)[:, ::-1], axis=1)[:, ::-1]  # with the error
    costs = []
    for errors, curve in zip(nmse, rising, strict=True):
        weight_snr_db = 10 * np.log10(np.maximum(1 / np.maximum(errors, 1e-12) - 1, 1e-12))
        measured = np.interp(weight_snr_db, snr_grid_db, curve)
        costs.append(measured + worst * (SMALL * errors + np.maximum(errors - 1, 0)) + 1e-9 * errors)
    return costs


def weights_of(data: bytes, numels: list[int]) -> list[np.ndarray]:
    """The inverse of `compress_to_fit` and `compress.encode`: weights (numel,) float32 a tensor."""
    return [dequantise(tensor) for tensor in compress.decode(data, numels)]


def on_grid(tensors: list[np.ndarray], steps: list[float], rounding: float = 0.5) -> list[Quantised]:
    """Each tensor's weights as levels: the nearest multiple of its step, with less rounding one nearer to 0."""
    found = [quantise(weights, step_code(step), rounding) for weights, step in zip(tensors, steps, strict=True)]
    return [dataclasses.replace(tensor, shift_code=0) for tensor in found]


def quantise_to_fit(tensors: list[np.ndarray], steps: list[float], num_bytes: int) -> list[Quantised]:
    """`on_grid` with the most rounding that fits ``num_bytes``; if none does, all steps grow by one factor.

    Raises InputError if no factor fits.
    """
    for factor, rounding in [(1, r) for r in np.arange(0.5, 0.2, -0.005)] + [(f, 0.2) for f in _FACTORS]:
        found = on_grid(tensors, [step * factor for step in steps], rounding)
        if len(compress.encode(found)) <= num_bytes:
            return found
    raise InputError(f"the network does not compress to {num_bytes} bytes; give it more, or prune it first")


class _Choice:
    """One way to quantise a tensor: its levels, their bits, and the NMSE about the tensor's mean."""

    def __init__(self, weights, step, rounding, power, kept):
        self.tensor = quantise(weights, step_code(step), rounding, kept)
        counts = np.unique(self.tensor.levels, return_counts=True)[1]
        self.bits = float(counts @ np.log2(weights.size / counts))
        error = dequantise(self.tensor) - weights.reshape(-1)
        self.nmse = float(np.mean(np.square(error, dtype=np.float64)) / power) if power else 0.0


def _choices(weights, kept) -> list[_Choice]:
    power = float(np.var(weights, dtype=np.float64))
    rms = float(np.sqrt(np.mean(np.square(weights, dtype=np.float64)))) or 1.0
    return [_Choice(weights, step * rms, rounding, power, kept) for step in STEPS for rounding in ROUNDINGS]


def _at_price(choices, costs, price) -> list[Quantised]:
    selected = []
    for options, cost in zip(choices, costs, strict=True):
        bits = np.array([option.bits for option in options])
        selected.append(options[int(np.argmin(cost + price * bits))].tensor)
    return selected
