"""The gain of a frame's OFDM symbols: smoothed over time, with the symbols that are missing and the noise of each.

Kernels of `dsp.tracking`.
"""

import numpy as np
from numba import njit

OUTLIER = 2.5  # a symbol whose pilot residual exceeds this many times the noise is hit by something else
STEP_EVIDENCE = 2.0  # log-likelihood
LOG_EVERY = 8  # symbols: a product of as many variances, 1e-20 to 1e7 each, stays in range
MISSING = 0.4  # a symbol whose pilots are weaker than this part of the others' is not there...
MISSING_HIT = 0.5  # ...nor one weaker than this whose pilots do not fit
SURE = 4.6  # log-likelihood: ...nor one whose pilots are all hit and are this much likelier not to be there
CLEAN, MIN_CLEAN = 0.5, 4  # weight of a pilot that tells the noise, and the fewest of them
VECTORS = {"reassoc", "contract", "nsz", "arcp"}  # what lets sums become vector instructions; infinities stay


@njit(cache=True, nogil=True, error_model="numpy")
def _kalman(raw, noise, step_var, start_var):
    """Rauch–Tung–Striebel smoother (1965) of a complex random walk: mean and variance."""
    n = raw.size
    mean, var = np.empty(n, np.complex128), np.empty(n)
    prior_var = np.empty(n)
    m, p = 1.0 + 0j, start_var
    for t in range(n):
        p += step_var
        prior_var[t] = p
        weight = p / (p + noise[t])
        m += weight * (raw[t] - m)
        p = weight * noise[t]
        mean[t], var[t] = m, p
    for t in range(n - 2, -1, -1):
        back = var[t] / prior_var[t + 1]
        mean[t] += back * (mean[t + 1] - mean[t])
        var[t] += back**2 * (var[t + 1] - prior_var[t + 1])
    return mean, var


@njit(cache=True, nogil=True, error_model="numpy", fastmath=VECTORS)
def _evidence(raw, noise, step_vars, start_var):
    """Log-likelihood of each step variance: the innovations of a Kalman filter, all step variances side by side."""
    num = step_vars.size
    real, imag, var = np.ones(num), np.zeros(num), np.full(num, start_var)
    likelihood, spread = np.zeros(num), np.ones(num)
    for t in range(raw.size):
        for g in range(num):
            prior = var[g] + step_vars[g]
            s = prior + noise[t]
            inverse = 1 / s
            to_real, to_imag = raw[t].real - real[g], raw[t].imag - imag[g]
            likelihood[g] -= (to_real * to_real + to_imag * to_imag) * inverse
            spread[g] *= s
            weight = prior * inverse
            real[g] += weight * to_real
            imag[g] += weight * to_imag
            var[g] = weight * noise[t]
        if t % LOG_EVERY == LOG_EVERY - 1 or t == raw.size - 1:
            for g in range(num):
                likelihood[g] -= np.log(spread[g])
                spread[g] = 1
    return likelihood


@njit(cache=True, nogil=True, error_model="numpy")
def smooth_gain(raw, observation_var, usable, start_var, steps):
    """Kalman smoother of a random-walk gain that starts at 1: gain (symbols,), and leverage: its variance over raw's.

    The step variance is the likeliest of ``steps``; a moving gain must be STEP_EVIDENCE likelier than a fixed one.
    """
    noise = np.where(usable, observation_var, 1e6)
    step_vars = steps * np.median(observation_var)
    evidence = _evidence(raw, noise, step_vars, start_var) - np.where(steps > 0, STEP_EVIDENCE, 0.0)
    gain, var = _kalman(raw, noise, step_vars[np.argmax(evidence)], start_var)
    return gain, var / noise


@njit(cache=True, nogil=True, error_model="numpy")
def missing_symbols(strength, spread):
    """Which symbols' pilots are not there: clearly weaker than the others', by 4 standard deviations of the noise."""
    usual = min(max(np.median(strength), 0.5), 1.0)
    return strength < np.minimum(MISSING * usual, usual - 4 * spread)


@njit(cache=True, nogil=True)
def count_clean(pilot_weight):
    """How many pilots of each symbol tell the noise (symbols,); the others lose their weight.

    Below 0 where too few do: then all count by their weights, and the symbol has the noise of the others.
    """
    num_symbols, num_pilots = pilot_weight.shape
    counted = np.empty(num_symbols)
    for t in range(num_symbols):
        clean = 0
        for i in range(num_pilots):
            clean += pilot_weight[t, i] >= CLEAN
        if clean < MIN_CLEAN:
            counted[t] = -num_pilots
            continue
        counted[t] = clean
        for i in range(num_pilots):
            if pilot_weight[t, i] < CLEAN:
                pilot_weight[t, i] = 0
    return counted


@njit(cache=True, nogil=True, error_model="numpy")
def symbol_noise(residual, raw, spread, gain, missing, telling, preamble_noise):
    """Noise variance of each symbol: the frame's, its own where it is hit, inf where it is not there."""
    if not telling.any():
        telling = ~telling  # hit all over
    limit = OUTLIER * min(np.median(residual[telling]), preamble_noise)
    strength = max(np.median(np.abs(gain)), 0.5)
    total, count = 0.0, 0
    for t in range(residual.size):
        if telling[t] and residual[t] <= limit:
            total += residual[t]
            count += 1
    noise_var = np.empty(residual.size)
    for t in range(residual.size):
        hit = residual[t] > limit
        noise_var[t] = residual[t] if hit else total / count if count else preamble_noise
        if not telling[t]:
            # likelihoods of the pilots' mean if they are there and if they are not
            var = spread[t] ** 2 * max(1.0, residual[t] / preamble_noise)
            gone = abs(raw[t]) < strength * (1 - SURE * var) / 2
        else:
            gone = hit and abs(raw[t]) < MISSING_HIT * strength
        if missing[t] or gone:
            noise_var[t] = np.inf
    return noise_var
