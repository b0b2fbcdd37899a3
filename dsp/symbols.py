"""Weights to unit-power complex symbols and back: centring, scaling, two weights a symbol, linear MMSE."""

import numpy as np
from numba import njit

LARGEST = float(np.finfo(np.float32).max)
ABSURD = 1e20  # a mean or scale of weights above may make them infinite


def num_pairs(num_weights: int) -> int:
    """Symbols that carry ``num_weights`` weights once, two each; an odd last one has a symbol of its own."""
    return (num_weights + 1) // 2


def to_symbols(weights: np.ndarray, mean: float, scale: float) -> np.ndarray:
    """Weights (n,) float32 to symbols (ceil(n/2),) complex64: ``((w[2i] − mean) + j(w[2i+1] − mean)) / (√2·scale)``.

    With ``scale`` the RMS of the weights about ``mean`` the symbols have unit average power. An odd last weight is
    paired with ``mean``; a scale of 0 (a constant tensor) gives zeros.
    """
    out = np.zeros(2 * num_pairs(len(weights)), np.float32)
    if scale > 0:
        np.subtract(weights, np.float32(mean), out=out[: len(weights)])
        out *= np.float32(1 / (np.sqrt(2) * scale))
    return out.view(np.complex64)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def sums(values, reference):
    """Sums of values (n,) less the reference, and of their squares, in double precision."""
    total = squares = 0.0
    for i in range(values.size):
        offset = values[i] - reference
        total += offset
        squares += offset * offset
    return total, squares


def to_weights(
    symbols: np.ndarray, num_weights: int, mean: float, scale: float, out: np.ndarray | None = None
) -> np.ndarray:
    """The inverse of `to_symbols`: (num_weights,) float32, finite whatever mean and scale are; in ``out`` if given."""
    pairs = np.ascontiguousarray(symbols, np.complex64).view(np.float32)
    with np.errstate(over="ignore"):
        weights = np.multiply(pairs[:num_weights], np.float32(min(np.sqrt(2) * scale, LARGEST)), out=out)
        weights += np.float32(mean)
    if max(scale, abs(mean)) > ABSURD:
        np.clip(weights, -LARGEST, LARGEST, out=weights)
    return weights


def repeat(symbols: np.ndarray, copies: int, power: float) -> np.ndarray:
    """Each symbol ``copies`` times in a row at ``power``: (n,) to (n·copies,) complex64."""
    scaled = symbols if power == 1 else symbols * np.float32(np.sqrt(power))
    return scaled if copies == 1 else np.repeat(scaled, copies)


def combine(statistic: np.ndarray, information: np.ndarray, copies: int, power: float) -> tuple[np.ndarray, np.ndarray]:
    """Maximum-ratio combining of `repeat`: matched-filter outputs (n·copies,) to those of the symbols themselves (n,).

    ``statistic`` is conj(h)·y/noise_var and ``information`` |h|²/noise_var, summed over receptions; after combining
    ``information`` is the SNR of a unit-power symbol, copies·power·S in white noise.
    """
    if copies > 1:
        statistic = statistic.reshape(-1, copies).sum(axis=1)
        information = information.reshape(-1, copies).sum(axis=1)
    if power == 1:
        return statistic, information
    return statistic * np.float32(np.sqrt(power)), information * np.float32(power)


def linear_mmse(statistic: np.ndarray, information: np.ndarray) -> tuple[np.ndarray, float]:
    """Linear MMSE estimate of unit-power symbols (n,) complex64, ``statistic / (information + 1)``, 0 where nothing
    came.

    Also the NMSE to be expected: the mean of 1/(1 + S), S the information of each symbol.
    """
    symbols = np.empty(statistic.size, np.complex64)
    return symbols, _shrink(statistic, information, symbols) / max(statistic.size, 1)


@njit(cache=True, nogil=True, fastmath=True)
def _shrink(statistic, information, symbols):
    total = 0.0
    for i in range(statistic.size):
        share = np.float32(1) / (np.float32(1) + information[i])
        symbols[i] = statistic[i] * share
        total += share
    return total
