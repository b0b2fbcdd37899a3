"""Decibels and linear ratios, power, NMSE and EVM: each definition once."""

import numpy as np

POWER_SAMPLES = 1 << 20  # in double precision at a time


def db(power_ratio):
    """10·log10 of a power ratio; 0 gives -inf without a warning."""
    with np.errstate(divide="ignore"):
        return 10 * np.log10(power_ratio)


def linear(value_db):
    """The power ratio of a value in dB.

    >>> float(linear(20))
    100.0
    """
    return 10 ** (np.asarray(value_db, dtype=np.float64) / 10)[()]


def power(samples) -> float:
    """Mean of |x|² in float64; 0 for no samples."""
    samples = np.asarray(samples).reshape(-1)
    blocks = (samples[i : i + POWER_SAMPLES].astype(np.complex128) for i in range(0, samples.size, POWER_SAMPLES))
    return sum((float(np.sum(np.abs(block) ** 2)) for block in blocks), 0.0) / max(samples.size, 1)


def limited(values: np.ndarray, most: float | np.floating) -> np.ndarray:
    """Values as finite float32 of magnitude at most ``most``, what is no number as 0: a hostile sender's may be any."""
    return np.nan_to_num(np.clip(np.ascontiguousarray(values, np.float32), -most, most), copy=False)


def nmse(estimate, truth) -> float:
    """Normalised mean squared error Σ|x_hat − x|² / Σ|x|², linear, in float64.

    The square root is the error vector magnitude (EVM).
    """
    estimate, truth = np.asarray(estimate), np.asarray(truth)
    error = estimate.astype(np.complex128) - truth
    return float(np.sum(np.abs(error) ** 2) / np.sum(np.abs(truth.astype(np.complex128)) ** 2))
