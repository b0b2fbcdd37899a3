"""Weights to unit-power complex symbols and back: centring, scaling, two weights a symbol, linear MMSE."""

import numpy as np


def to_symbols(weights: np.ndarray, mean: float, scale: float) -> np.ndarray:
    """Weights (n,) float32 to symbols (ceil(n/2),) complex64: ``((w[2i] − mean) + j(w[2i+1] − mean)) / (√2·scale)``.

    With ``scale`` the RMS of the weights about ``mean`` the symbols have unit average power. An odd last weight is paired with
    ``mean``; a scale of 0 (a constant tensor) gives zeros.
    """
    out = np.zeros((len(weights) + 1) // 2 * 2, np.float32)
    if scale > 0:
        out[: len(weights)] = (weights.astype(np.float64) - mean) / (np.sqrt(2) * scale)
    return out.view(np.complex64)


def to_weights(symbols: np.ndarray, num_weights: int, mean: float, scale: float) -> np.ndarray:
    """The inverse of `to_symbols`: (num_weights,) float32."""
    pairs = np.ascontiguousarray(symbols, np.complex64).view(np.float32)[:num_weights]
    return (pairs * np.float32(np.sqrt(2) * scale) + np.float32(mean)).astype(np.float32)


def repeat(symbols: np.ndarray, copies: int, power: float) -> np.ndarray:
    """Each symbol ``copies`` times in a row at ``power``: (n,) to (n·copies,) complex64."""
    return np.repeat(symbols * np.float32(np.sqrt(power)), copies)


def combine(statistic: np.ndarray, information: np.ndarray, copies: int, power: float):
    """Maximum-ratio combining of `repeat`: matched-filter outputs (n·copies,) to those of the symbols themselves (n,).

    ``statistic`` is conj(h)·y/noise_var and ``information`` |h|²/noise_var, summed over receptions; after combining
    ``information`` is the SNR of a unit-power symbol, copies·power·S in white noise.
    """
    total = statistic.reshape(-1, copies).sum(axis=1) * np.float32(np.sqrt(power))
    return total, information.reshape(-1, copies).sum(axis=1) * np.float32(power)


def linear_mmse(statistic: np.ndarray, information: np.ndarray) -> np.ndarray:
    """Linear MMSE estimate of unit-power symbols, ``statistic / (information + 1)``: NMSE 1/(1 + S); 0 where nothing came."""
    return statistic / (information + np.float32(1))
