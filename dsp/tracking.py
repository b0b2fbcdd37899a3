"""Tracking of phase, clock and gain over the OFDM symbols of a frame, from its pilots. Some frames at a time.

Burst estimation, not loops: every estimate uses the whole frame and nothing but preamble and pilots.

Model of pilot i of OFDM symbol t: ``Y = g_t·exp(j(ω·n_t + 2π·k_i·δ·n_t/fft_size))·H_k·X + noise``, where n_t is the
time since the preamble in samples, ω the residual carrier offset, δ the sample clock offset and g_t a slowly varying
gain, 1 at the preamble (phase noise, fading, gain control).
"""

import dataclasses
import functools
import math

import numpy as np
from numba import njit

from dsp.estimate import NOISE_FLOOR, ChannelEstimate
from dsp.frame import DEFAULT_FORMAT, FrameFormat

SCO_GRID = np.arange(-75e-6, 76e-6, 15e-6)
OUTLIER = 2.5  # a symbol whose pilot residual exceeds this many times the noise is hit by something else
SLACK = 0.02  # of the signal: what radios add to the noise of a payload symbol at most (an EVM of -17 dB)
STEP_EVIDENCE = 2.0  # log-likelihood
MISSING = 0.4  # a symbol whose pilots are weaker than this part of the others' is not there...
MISSING_HIT = 0.5  # ...nor one weaker than this whose pilots do not fit
# variances of the gain's random walk, in units of its observation noise; the last follow a jump
GAIN_STEPS = np.array([0.0, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0])


@dataclasses.dataclass(frozen=True)
class Tracking:
    """What the pilots of one frame say, or of some with a leading axis.

    sco, residual_cfo : (...) clock offset, residual carrier offset in rad/sample
    rotation, delay : (..., symbols) g_t·exp(jω·n_t) complex128; δ·n_t in samples
    noise_var : (..., symbols), inf for symbols that are not there
    """

    sco: np.ndarray
    residual_cfo: np.ndarray
    rotation: np.ndarray
    delay: np.ndarray
    noise_var: np.ndarray

    def __getitem__(self, frames) -> "Tracking":
        """Of one frame, or of a slice of them."""
        return Tracking(*(getattr(self, field.name)[frames] for field in dataclasses.fields(self)))


def track(
    spectra: np.ndarray,
    channel: ChannelEstimate,
    fmt: FrameFormat = DEFAULT_FORMAT,
    sco: float | None = None,
    before: bool = False,
) -> Tracking:
    """Follow phase, clock and gain over the OFDM symbols of some frames.

    Parameters
    ----------
    spectra : (frames, symbols, fft_size) complex64, after the coarse carrier correction; the body of symbol t starts
        ``(t + 1)·symbol_samples`` after the preamble's
    channel : the estimates from the preambles of the same frames
    sco : the clock offset, when it is nearly known: that of the frame before
    before : the symbols end where the preamble begins instead: they are the predecessor's, and sco is known
    """
    num_frames, num_symbols, _ = spectra.shape
    time = (np.arange(num_symbols) + (-float(num_symbols) if before else 1.0)) * fmt.symbol_samples
    columns, slopes, crossings, phasors = _pilot_tables(fmt)
    shape = (num_frames, num_symbols)
    found = Tracking(
        np.empty(num_frames), np.empty(num_frames), np.empty(shape, np.complex128), np.empty(shape), np.empty(shape)
    )
    _track(
        spectra, channel.h_hat, channel.noise_var, channel.power * fmt.num_active, columns, fmt.pilot_index, fmt.pilots,
        slopes, crossings, phasors, SCO_GRID, GAIN_STEPS, time, np.nan if sco is None else float(sco), before,
        found.sco, found.residual_cfo, found.rotation, found.delay, found.noise_var,
    )  # fmt: skip
    return found


@functools.lru_cache(maxsize=8)
def _pilot_tables(fmt: FrameFormat):
    """Tables of the pilots by (OFDM symbol, pilot).

    Their columns; the phase of a delay of one sample at each, in rad; how many of a symbol's lie below DC; and what
    each clock offset of SCO_GRID does to them, undone: (offsets, symbols, pilots) complex128.
    """
    slopes = 2 * np.pi * fmt.subcarriers[fmt.pilot_index] / fmt.fft_size
    time = (np.arange(len(slopes)) + 1.0) * fmt.symbol_samples
    phasors = np.exp(-1j * SCO_GRID[:, None, None] * time[:, None] * slopes)
    return fmt.columns[fmt.pilot_index], slopes, (slopes < 0).sum(axis=1), phasors


@njit(cache=True, nogil=True, error_model="numpy")
def _track(
    spectra, h, preamble_noise, start_weight, columns, index, pilots, slopes, crossings, phasors, sco_grid, steps,
    time, known_sco, before, sco_out, cfo_out, rotation, delay, noise_out,
):  # fmt: skip
    num_symbols, num_pilots = spectra.shape[1], columns.shape[1]
    for m in range(spectra.shape[0]):
        noise_var, power = preamble_noise[m], start_weight[m] / h.shape[1]
        product, weight, energy = _pilot_products(spectra[m], h[m], columns, index, pilots)
        total = np.empty(num_symbols)
        for t in range(num_symbols):
            total[t] = weight[t].sum()
        cfo, sco = 0.0, known_sco
        if not before:
            # a symbol under strong interference must not outvote the others
            share = np.minimum(1.0, (total + num_pilots * noise_var) / np.maximum(energy, 1e-30))
            if np.isnan(known_sco):
                cfo, sco = _coarse_fit(product, share, time[0], sco_grid, phasors)
            else:
                cfo = _coarse_carrier(_turned_sums(product, time, slopes, crossings, 0.0, sco) * share, time[0])[0]
        cfo, sco, raw, usable = _fine_fit(
            product, weight, total, energy, time, slopes, crossings, cfo, sco, start_weight[m], noise_var
        )
        missing = _missing(np.abs(raw), np.sqrt(noise_var / total))
        usable &= ~missing
        observation = noise_var / total
        if before:  # the gain is known at the preamble
            gain, leverage = _smooth_gain(
                raw[::-1].copy(), observation[::-1].copy(), usable[::-1].copy(), noise_var / start_weight[m], steps
            )
            gain, leverage = gain[::-1].copy(), leverage[::-1].copy()
        else:
            gain, leverage = _smooth_gain(raw, observation, usable, noise_var / start_weight[m], steps)
        residual = np.empty(num_symbols)
        for t in range(num_symbols):
            misfit = energy[t] - 2 * (gain[t].conjugate() * raw[t]).real * total[t] + abs(gain[t]) ** 2 * total[t]
            misfit /= num_pilots - leverage[t]  # the gain was fitted to the same pilots
            residual[t] = max(misfit, NOISE_FLOOR * power)
        noise = _symbol_noise(residual, raw, gain, missing, noise_var + SLACK * power)
        for t in range(num_symbols):
            if before and abs(raw[t]) < 0.5:
                noise[t] = np.inf  # nothing says that there is a signal before a preamble
            rotation[m, t] = gain[t] * complex(math.cos(cfo * time[t]), math.sin(cfo * time[t]))
            delay[m, t] = sco * time[t]
            noise_out[m, t] = noise[t]
        sco_out[m], cfo_out[m] = sco, cfo


@njit(cache=True, nogil=True)
def _pilot_products(spectrum, h, columns, index, pilots):
    """Y·(H·X)*, which is |H|²·exp(jθ) plus noise, |H|² of each pilot, and Σ|Y|² of each symbol."""
    num_symbols, num_pilots = spectrum.shape[0], columns.shape[1]
    product = np.empty((num_symbols, num_pilots), np.complex128)
    weight = np.empty((num_symbols, num_pilots))
    energy = np.zeros(num_symbols)
    for t in range(num_symbols):
        for i in range(num_pilots):
            y, known = spectrum[t, columns[t, i]], h[index[t, i]] * pilots[t, i]
            product[t, i] = np.complex128(y) * np.complex128(known).conjugate()
            weight[t, i] = known.real**2 + known.imag**2
            energy[t] += y.real**2 + y.imag**2
    return product, weight, energy


@njit(cache=True, nogil=True, error_model="numpy")
def _coarse_fit(product, share, symbol_time, sco_grid, phasors):
    """(cfo, sco) of the largest |Σ product·exp(-jθ)|: clock offsets of the grid, carrier within ±1 rad a symbol."""
    best, best_cfo, best_sco = -1.0, 0.0, 0.0
    sums = np.empty(product.shape[0], np.complex128)
    for g in range(sco_grid.size):
        for t in range(sums.size):
            total = 0j
            for i in range(product.shape[1]):
                total += product[t, i] * phasors[g, t, i]
            sums[t] = total * share[t]
        cfo, power = _coarse_carrier(sums, symbol_time)
        if power > best:
            best, best_cfo, best_sco = power, cfo, sco_grid[g]
    return best_cfo, best_sco


@njit(cache=True, nogil=True, error_model="numpy")
def _coarse_carrier(sums, symbol_time):
    """Carrier offset within ±1 rad a symbol of the largest |Σ sums·exp(-jθ)|², and that power."""
    step = np.pi / (2 * max(sums.size, 8))
    reach = int(np.ceil(1 / step))
    best, best_cfo = -1.0, 0.0
    for k in range(-reach, reach + 1):
        turn = complex(math.cos(k * step), -math.sin(k * step))
        phasor, total = turn, 0j
        for t in range(sums.size):
            total += sums[t] * phasor
            phasor *= turn
        power = total.real**2 + total.imag**2
        if power > best:
            best, best_cfo = power, k * step / symbol_time
    return best_cfo, best


@njit(cache=True, nogil=True, error_model="numpy")
def _turned(product, time, slopes, crossings, cfo, sco, aligned):
    """aligned[t, i] = product[t, i]·exp(-j·time[t]·(cfo + sco·slopes[t, i])): pilots are evenly spaced, but for DC."""
    num_pilots = product.shape[1]
    spacing = slopes[0, 1] - slopes[0, 0] if crossings[0] != 1 else slopes[0, 2] - slopes[0, 1]
    for t in range(product.shape[0]):
        before = crossings[t]
        angle = -time[t] * sco * spacing
        turn = complex(math.cos(angle), math.sin(angle))
        for first, last in ((0, before), (before, num_pilots)):
            if first == last:
                continue
            angle = -time[t] * (cfo + sco * slopes[t, first])
            phasor = complex(math.cos(angle), math.sin(angle))
            for i in range(first, last):
                aligned[t, i] = product[t, i] * phasor
                phasor *= turn


@njit(cache=True, nogil=True, error_model="numpy")
def _turned_sums(product, time, slopes, crossings, cfo, sco):
    aligned = np.empty_like(product)
    _turned(product, time, slopes, crossings, cfo, sco, aligned)
    return aligned.sum(axis=1)


@njit(cache=True, nogil=True, error_model="numpy")
def _fine_fit(product, weight, total, energy, time, slopes, crossings, cfo, sco, start_weight, noise_var):
    """Gauss–Newton on phase, cfo and sco, leaving out symbols that do not fit the model: (cfo, sco, raw gains, usable).

    Weighted least squares of the phases that remain after each alignment; the preamble, where the phase is 0 by
    definition, counts as an observation of weight start_weight.
    """
    num_symbols, num_pilots = product.shape
    gain = np.empty(num_symbols, np.complex128)
    usable = np.ones(num_symbols, np.bool_)
    aligned = np.empty_like(product)
    last = np.max(np.abs(time))
    for turn in range(4):
        _turned(product, time, slopes, crossings, cfo, sco, aligned)
        for t in range(num_symbols):
            gain[t] = 0
            for i in range(num_pilots):
                gain[t] += aligned[t, i]
            gain[t] /= total[t]
            residual = (energy[t] - abs(gain[t]) ** 2 * total[t]) / num_pilots
            usable[t] = residual < OUTLIER * (noise_var + SLACK * total[t] / num_pilots)
        if usable.sum() < min(3, num_symbols):
            usable[:] = True
        if turn == 3:
            break
        mean = 0j
        for t in range(num_symbols):
            if usable[t]:
                mean += gain[t]
        strength = max(abs(mean) / usable.sum(), 1e-6)
        normal = np.zeros((3, 3))
        right = np.zeros(3)
        normal[0, 0] = start_weight
        for t in range(num_symbols):
            if not usable[t]:
                continue
            moment0 = moment1 = moment2 = phase0 = phase1 = 0.0  # Σ weight·slope^n and Σ phase·slope^n over the pilots
            for i in range(num_pilots):
                slope = slopes[t, i]
                phase = aligned[t, i].imag / strength  # |H|²·θ plus noise
                moment0 += weight[t, i]
                moment1 += weight[t, i] * slope
                moment2 += weight[t, i] * slope * slope
                phase0 += phase
                phase1 += phase * slope
            age = time[t] / last
            normal[0, 0] += moment0
            normal[0, 1] += moment0 * age
            normal[0, 2] += moment1 * age
            normal[1, 1] += moment0 * age * age
            normal[1, 2] += moment1 * age * age
            normal[2, 2] += moment2 * age * age
            right[0] += phase0
            right[1] += phase0 * age
            right[2] += phase1 * age
        for i in range(3):
            normal[i, i] += 1e-9 * start_weight + 1e-30
            for j in range(i):
                normal[i, j] = normal[j, i]
        step = np.linalg.solve(normal, right)
        cfo += step[1] / last
        sco += step[2] / last
    return cfo, sco, gain, usable


@njit(cache=True, nogil=True, error_model="numpy")
def _kalman(raw, noise, step_var, start_var):
    """Rauch–Tung–Striebel smoother (1965) of a complex random walk: mean, variance and log-likelihood."""
    n = raw.size
    mean, var = np.empty(n, np.complex128), np.empty(n)
    prior_var = np.empty(n)
    m, p = 1.0 + 0j, start_var
    log_likelihood = 0.0
    for t in range(n):
        p += step_var
        prior_var[t] = p
        innovation = raw[t] - m
        s = p + noise[t]
        log_likelihood -= np.log(s) + abs(innovation) ** 2 / s
        m += p / s * innovation
        p *= noise[t] / s
        mean[t], var[t] = m, p
    for t in range(n - 2, -1, -1):
        back = var[t] / prior_var[t + 1]
        mean[t] += back * (mean[t + 1] - mean[t])
        var[t] += back**2 * (var[t + 1] - prior_var[t + 1])
    return mean, var, log_likelihood


@njit(cache=True, nogil=True, error_model="numpy")
def _smooth_gain(raw, observation_var, usable, start_var, steps):
    """Kalman smoother of a random-walk gain that starts at 1: gain (symbols,), and leverage: its variance over raw's.

    The step variance is the likeliest of ``steps``; a moving gain must be STEP_EVIDENCE likelier than a fixed one.
    """
    noise = np.where(usable, observation_var, 1e6)
    unit = np.median(observation_var)
    best, best_step = -np.inf, 0.0
    for step in steps:
        evidence = _kalman(raw, noise, step * unit, start_var)[2] - (STEP_EVIDENCE if step > 0 else 0.0)
        if evidence > best:
            best, best_step = evidence, step
    gain, var, _ = _kalman(raw, noise, best_step * unit, start_var)
    return gain, var / noise


@njit(cache=True, nogil=True, error_model="numpy")
def _missing(strength, spread):
    """Which symbols' pilots are not there: clearly weaker than the others', by 4 standard deviations of the noise."""
    usual = min(max(np.median(strength), 0.5), 1.0)
    return strength < np.minimum(MISSING * usual, usual - 4 * spread)


@njit(cache=True, nogil=True, error_model="numpy")
def _symbol_noise(residual, raw, gain, missing, preamble_noise):
    """Noise variance of each symbol: the frame's, its own where it is hit, inf where it is not there."""
    limit = OUTLIER * min(np.median(residual), preamble_noise)
    strength = max(np.median(np.abs(gain)), 0.5)
    total, count = 0.0, 0
    for t in range(residual.size):
        if residual[t] <= limit:
            total += residual[t]
            count += 1
    noise_var = np.empty(residual.size)
    for t in range(residual.size):
        hit = residual[t] > limit
        noise_var[t] = residual[t] if hit else total / count
        if missing[t] or (hit and abs(raw[t]) < MISSING_HIT * strength):
            noise_var[t] = np.inf
    return noise_var
