"""Channel estimation from the preamble, and tracking of phase, clock and gain from the pilots of one frame.

Burst estimation, not loops: every estimate uses the whole frame and nothing but preamble and pilots.

Model of pilot i of OFDM symbol t: ``Y = g_t·exp(j(ω·n_t + 2π·k_i·δ·n_t/fft_size))·H_k·X + noise``, where n_t is the
time since the preamble in samples, ω the residual carrier offset, δ the sample clock offset and g_t a slowly varying
gain, 1 at the preamble (phase noise, fading, gain control).
"""

import dataclasses
import functools

import numpy as np
from numba import njit
from scipy import fft

from dsp.frame import DEFAULT_FORMAT, FrameFormat

FIRST_PATH_TAP = 4  # where the FFT window puts the first path: taps before it hold the leakage of fractional delays
WINDOWS = (10, 16, 24, 36, 64)  # delay windows in samples, the shortest that explains the preamble is taken
SCO_GRID = np.arange(-75e-6, 76e-6, 15e-6)
OUTLIER = 2.5  # a symbol whose pilot residual exceeds this many times the noise is hit by something else
NOISE_FLOOR = 1e-6  # of the signal: below, single precision's own errors are measured
SLACK = 0.02  # of the signal: what radios add to the noise of a payload symbol at most (an EVM of -17 dB)
STEP_EVIDENCE = 2.0  # log-likelihood
MISSING = 0.4  # a symbol whose pilots are weaker than this part of the others' is not there
# variances of the gain's random walk, in units of its observation noise; the last follow a jump
GAIN_STEPS = np.array([0.0, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0])


@dataclasses.dataclass(frozen=True)
class ChannelEstimate:
    """Channel at the preamble: h_hat (num_active,) complex64, transmit amplitude included; noise_var a subcarrier."""

    h_hat: np.ndarray
    noise_var: float
    window: int

    @property
    def power(self) -> float:
        """Mean |h_hat|²."""
        return float(np.vdot(self.h_hat, self.h_hat).real) / self.h_hat.size


@dataclasses.dataclass(frozen=True)
class Tracking:
    """What the pilots say: clock offset, residual carrier offset (rad/sample), gain g_t and noise_var of each OFDM
    symbol.

    ``rotation`` (symbols,) holds g_t·exp(jω·n_t), ``delay`` (symbols,) δ·n_t in samples; erased symbols have noise_var
    inf.
    """

    sco: float
    residual_cfo: float
    rotation: np.ndarray
    delay: np.ndarray
    noise_var: np.ndarray


@functools.lru_cache(maxsize=8)
def _window_bases(fmt: FrameFormat):
    """Orthonormal basis (num_active, rank) of the widest window's responses, and those of all windows within it.

    Returns the widest basis, its adjoint, the windows, the adjoint bases of all stacked (Σ ranks, rank), their offsets.
    """
    windows = [w for w in WINDOWS if w <= fmt.num_active // 4]
    bases = []
    for window in windows:
        phase = -2j * np.pi * fmt.subcarriers[:, None] * np.arange(window) / fmt.fft_size
        u, s, _ = np.linalg.svd(np.exp(phase), full_matrices=False)
        bases.append(u[:, s > 1e-3 * s[0]])
    widest = bases[-1]
    stacked = np.concatenate([basis.conj().T @ widest for basis in bases])
    offsets = np.cumsum([0] + [basis.shape[1] for basis in bases])
    complex64 = (np.ascontiguousarray(m, np.complex64) for m in (widest, widest.conj().T, stacked))
    return *complex64, windows, offsets


def first_path(spectrum: np.ndarray, fmt: FrameFormat = DEFAULT_FORMAT) -> int:
    """Delay in samples (may be negative) of the first path, from a preamble's active subcarriers (num_active,).

    The impulse response under a Hann taper over frequency (side lobes -31 dB); the first path is the first tap within
    18 dB of the strongest and clear of the noise, among those up to a prefix length around the strongest.
    """
    grid = np.zeros(fmt.fft_size, np.complex64)
    grid[fmt.bins] = spectrum * _tapered_preamble(fmt)
    return _first_tap(np.abs(fft.ifft(grid)) ** 2, fmt.prefix_samples)


@functools.lru_cache(maxsize=8)
def _tapered_preamble(fmt: FrameFormat):
    return (fmt.preamble.conj() * np.hanning(fmt.num_active)).astype(np.complex64)


@njit(cache=True, nogil=True, error_model="numpy")
def _first_tap(power, reach):
    noise = np.median(power) / np.log(2)
    strongest = 0
    for lag in range(-reach, reach + 1):
        if power[lag] > power[strongest]:
            strongest = lag
    level = max(power[strongest] * 10**-1.8, 12 * noise)
    for lag in range(max(-reach, strongest - reach), strongest + 1):
        if power[lag] >= level:
            # the taper widens a path to about two taps on each side at -18 dB
            return min(lag + 2, strongest)
    return strongest


def estimate_channel(spectrum: np.ndarray, fmt: FrameFormat = DEFAULT_FORMAT) -> ChannelEstimate:
    """Least squares over the shortest sufficient delay window, from the preamble's active subcarriers (num_active,).

    The window is chosen by Mallows' C_p: ‖residual‖² + 2·rank·noise_var. The error is rank/num_active of the noise, so
    P = num_active/rank in the loss factor 1 + 1/P.
    """
    basis, adjoint, stacked, windows, offsets = _window_bases(fmt)
    observed = spectrum * fmt.preamble.conj()
    energy = float(np.vdot(observed, observed).real)
    coefficients = stacked @ (adjoint @ observed)
    explained = np.add.reduceat(coefficients.real**2 + coefficients.imag**2, offsets[:-1])
    rank = np.diff(offsets)
    residual = np.maximum(energy - explained, NOISE_FLOOR * energy)
    noise_var = residual / (fmt.num_active - rank)
    best = int(np.argmin(residual + 2 * rank * noise_var[-1]))
    inner = slice(offsets[best], offsets[best + 1])
    h_hat = basis @ (coefficients[inner] @ stacked[inner].conj())
    return ChannelEstimate(h_hat, float(noise_var[best]), windows[best])


def track(
    grid: np.ndarray, channel: ChannelEstimate, fmt: FrameFormat = DEFAULT_FORMAT, sco_before: float | None = None
) -> Tracking:
    """Follow phase, clock and gain over the OFDM symbols of a frame.

    Parameters
    ----------
    grid : (symbols, num_active) complex64, active subcarriers after the coarse carrier correction; the body of symbol
        t starts ``(t + 1)·symbol_samples`` after the preamble's
    channel : the estimate from the preamble of the same frame
    sco_before : when given, the symbols end where the preamble begins instead: they are the predecessor's, and the
        clock offset is known already
    """
    num_symbols = len(grid)
    product, weight, energy = _pilot_products(grid, channel.h_hat, fmt.pilot_index, fmt.pilots)
    outward = slice(None) if sco_before is None else slice(None, None, -1)  # the gain is known at the preamble
    time = (np.arange(num_symbols) + (1.0 if sco_before is None else -num_symbols)) * fmt.symbol_samples
    slope = _pilot_slopes(fmt)[:num_symbols]
    start_weight = channel.power * fmt.num_active
    total = weight.sum(axis=1)
    cfo, sco = 0.0, sco_before
    if sco_before is None:
        # a symbol under strong interference must not outvote the others
        share = np.minimum(1, (total + fmt.num_pilots * channel.noise_var) / energy.clip(min=1e-30))
        cfo, sco = _coarse_fit(product * share[:, None], time[0], SCO_GRID, _clock_phasors(fmt)[:, :num_symbols])
    cfo, sco, raw, usable = _fine_fit(product, weight, energy, time, slope, cfo, sco, start_weight, channel.noise_var)
    observation_var = channel.noise_var / total
    missing = _missing(np.abs(raw), np.sqrt(observation_var))
    usable &= ~missing
    gain, leverage = _smooth_gain(
        raw[outward],
        observation_var[outward],
        usable[outward],
        channel.noise_var / start_weight,
        GAIN_STEPS,
    )
    gain, leverage = gain[outward], leverage[outward]
    residual = energy - 2 * (gain.conj() * raw).real * total + np.abs(gain) ** 2 * total
    residual /= fmt.num_pilots - leverage  # the gain was fitted to the same pilots
    residual = np.maximum(residual, NOISE_FLOOR * channel.power)
    noise_var = _symbol_noise(residual, raw, gain, channel.noise_var + SLACK * channel.power)
    noise_var[missing] = np.inf
    if sco_before is not None:
        noise_var[np.abs(raw) < 0.5] = np.inf  # nothing says that there is a signal before a preamble
    return Tracking(float(sco), float(cfo), gain * np.exp(1j * cfo * time), sco * time, noise_var)


def soft_slots(
    grid: np.ndarray, channel: ChannelEstimate, tracking: Tracking | None = None, fmt: FrameFormat = DEFAULT_FORMAT
):
    """Matched-filter output of every data slot of the frame; without tracking, by the preamble's estimates alone.

    Returns
    -------
    statistic : (symbols·slots_per_symbol,) complex64, conj(h)·y/noise_var
    information : same shape float32, |h|²/noise_var: the SNR of a unit-power symbol there; both 0 where erased

    Sums of both over repeated receptions are maximum-ratio combining; statistic/(information + 1) is linear MMSE.
    """
    if tracking is None:
        still = np.zeros(len(grid))
        tracking = Tracking(0.0, 0.0, still + 1 + 0j, still, still + channel.noise_var)
    statistic = np.empty((len(grid), fmt.slots_per_symbol), np.complex64)
    information = np.empty((len(grid), fmt.slots_per_symbol), np.float32)
    slope = 2 * np.pi / fmt.fft_size * tracking.delay
    _matched_filter(
        grid, channel.h_hat, fmt.data_index, tracking.rotation, slope, tracking.noise_var, statistic, information
    )
    return statistic.reshape(-1), information.reshape(-1)


def mean_snr(channel: ChannelEstimate, noise_var: float) -> float:
    """Mean SNR per payload symbol, linear, less what the estimate's own error (window/num_active) adds to it."""
    bias = channel.window / channel.h_hat.size
    return max(channel.power / noise_var - bias, 0.0)


@njit(cache=True, nogil=True)
def _pilot_products(grid, h, pilot_index, pilots):
    """Y·(H·X)*, which is |H|²·exp(jθ) plus noise, |H|² of each pilot, and Σ|Y|² of each symbol."""
    num_symbols, num_pilots = grid.shape[0], pilot_index.shape[1]
    product = np.empty((num_symbols, num_pilots), np.complex128)
    weight = np.empty((num_symbols, num_pilots))
    energy = np.zeros(num_symbols)
    for t in range(num_symbols):
        for i in range(num_pilots):
            y, known = grid[t, pilot_index[t, i]], h[pilot_index[t, i]] * pilots[t, i]
            product[t, i] = np.complex128(y) * np.complex128(known).conjugate()
            weight[t, i] = known.real**2 + known.imag**2
            energy[t] += y.real**2 + y.imag**2
    return product, weight, energy


@functools.lru_cache(maxsize=8)
def _pilot_slopes(fmt: FrameFormat):
    """Phase of a delay of one sample at each pilot (max_symbols, num_pilots), rad."""
    return 2 * np.pi * fmt.subcarriers[fmt.pilot_index] / fmt.fft_size


@functools.lru_cache(maxsize=8)
def _clock_phasors(fmt: FrameFormat):
    """What each clock offset of SCO_GRID does to the pilots, undone: (offsets, symbols, pilots) complex128."""
    time = (np.arange(len(fmt.pilot_index)) + 1.0) * fmt.symbol_samples
    return np.exp(-1j * SCO_GRID[:, None, None] * time[:, None] * _pilot_slopes(fmt))


@njit(cache=True, nogil=True, error_model="numpy")
def _coarse_fit(product, symbol_time, sco_grid, clock_phasors):
    """(cfo, sco) of the largest |Σ product·exp(-jθ)|: clock offsets of the grid, carrier within ±1 rad a symbol."""
    num_symbols = product.shape[0]
    step = np.pi / (2 * max(num_symbols, 8))
    reach = int(np.ceil(1 / step))
    best, best_cfo, best_sco = -1.0, 0.0, 0.0
    per_symbol = np.empty(num_symbols, np.complex128)
    for g in range(sco_grid.size):
        for t in range(num_symbols):
            total = 0j
            for i in range(product.shape[1]):
                total += product[t, i] * clock_phasors[g, t, i]
            per_symbol[t] = total
        for k in range(-reach, reach + 1):
            turn = np.exp(-1j * k * step)
            phasor, total = turn, 0j
            for t in range(num_symbols):
                total += per_symbol[t] * phasor
                phasor *= turn
            power = total.real**2 + total.imag**2
            if power > best:
                best, best_cfo, best_sco = power, k * step / symbol_time, sco_grid[g]
    return best_cfo, best_sco


@njit(cache=True, nogil=True, error_model="numpy")
def _fine_fit(product, weight, energy, time, slope, cfo, sco, start_weight, noise_var):
    """Gauss–Newton on phase, cfo and sco, leaving out symbols that do not fit the model: (cfo, sco, raw gains, usable).

    Weighted least squares of the phases that remain after each alignment; the preamble, where the phase is 0 by
    definition, counts as an observation of weight start_weight.
    """
    num_symbols, num_pilots = product.shape
    total = weight.sum(axis=1)
    gain = np.empty(num_symbols, np.complex128)
    usable = np.ones(num_symbols, np.bool_)
    last = np.max(np.abs(time))
    for turn in range(4):
        normal = np.zeros((3, 3))
        right = np.zeros(3)
        aligned = np.empty_like(product)
        for t in range(num_symbols):
            gain[t] = 0
            for i in range(num_pilots):
                aligned[t, i] = product[t, i] * np.exp(-1j * time[t] * (cfo + sco * slope[t, i]))
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
        normal[0, 0] = start_weight
        for t in range(num_symbols):
            if not usable[t]:
                continue
            for i in range(num_pilots):
                a = (1.0, time[t] / last, time[t] / last * slope[t, i])
                phase = aligned[t, i].imag / strength  # |H|²·θ plus noise
                for m in range(3):
                    right[m] += a[m] * phase
                    for n in range(3):
                        normal[m, n] += weight[t, i] * a[m] * a[n]
        for m in range(3):
            normal[m, m] += 1e-9 * start_weight + 1e-30
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
def _symbol_noise(residual, raw, gain, preamble_noise):
    """Noise variance of each symbol: the frame's, its own where it is hit, inf where the pilots are missing."""
    limit = OUTLIER * min(np.median(residual), preamble_noise)
    strength = max(np.median(np.abs(gain)), 0.5)
    total, count = 0.0, 0
    for t in range(residual.size):
        if residual[t] <= limit:
            total += residual[t]
            count += 1
    noise_var = np.empty(residual.size)
    for t in range(residual.size):
        if residual[t] <= limit:
            noise_var[t] = total / count
        else:
            noise_var[t] = np.inf if abs(raw[t]) < 0.5 * strength else residual[t]
    return noise_var


@njit(cache=True, nogil=True, error_model="numpy")
def _matched_filter(grid, h, data_index, rotation, slope, noise_var, statistic, information):
    num_active = h.size
    filtered = np.empty(num_active, np.complex64)
    power = np.empty(num_active, np.float32)
    for t in range(grid.shape[0]):
        if np.isinf(noise_var[t]):
            statistic[t], information[t] = 0, 0
            continue
        gain = np.float32((rotation[t].real ** 2 + rotation[t].imag ** 2) / noise_var[t])
        step = np.exp(-1j * slope[t])
        phasor = rotation[t].conjugate() / noise_var[t] * np.exp(1j * slope[t] * (num_active // 2))
        for k in range(num_active):
            if k == num_active // 2:  # DC is skipped
                phasor *= step
            filtered[k] = h[k].conjugate() * np.complex64(phasor) * grid[t, k]
            power[k] = (h[k].real * h[k].real + h[k].imag * h[k].imag) * gain
            phasor *= step
        for i in range(statistic.shape[1]):
            statistic[t, i] = filtered[data_index[t, i]]
            information[t, i] = power[data_index[t, i]]
