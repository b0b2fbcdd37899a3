"""Decibels and linear ratios, power, NMSE and EVM: each definition once."""

import numpy as np


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
    samples = np.asarray(samples, dtype=np.complex128)
    return float(np.mean(np.abs(samples) ** 2)) if samples.size else 0.0


def nmse(estimate, truth) -> float:
    """Normalised mean squared error Σ|x_hat − x|² / Σ|x|², linear, in float64.

    The square root is the error vector magnitude (EVM).
    """
    estimate, truth = np.asarray(estimate), np.asarray(truth)
    error = estimate.astype(np.complex128) - truth
    return float(np.sum(np.abs(error) ** 2) / np.sum(np.abs(truth.astype(np.complex128)) ** 2))
