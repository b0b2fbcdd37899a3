"""Channel estimation from the preamble, and tracking of phase, clock and gain from the pilots of one frame.

Burst estimation, not loops: every estimate uses the whole frame and nothing but preamble and pilots.

Model of pilot i of OFDM symbol t: ``Y = g_t·exp(j(ω·n_t + 2π·k_i·δ·n_t/fft_size))·H_k·X + noise``, where n_t is the time since
the preamble in samples, ω the residual carrier offset, δ the sample clock offset and g_t a slowly varying gain, 1 at the
preamble (phase noise, fading, gain control).
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
GAIN_STEPS = (0.0, 1e-3, 1e-2, 0.1, 1.0, 10.0)  # variances of the gain's random walk, in units of its observation noise


@dataclasses.dataclass(frozen=True)
class ChannelEstimate:
    """Channel at the preamble: h_hat (num_active,) complex64, transmit amplitude included; noise_var a subcarrier."""

    h_hat: np.ndarray
    noise_var: float
    window: int


@dataclasses.dataclass(frozen=True)
class Tracking:
    """What the pilots say: clock offset, residual carrier offset (rad/sample), gain g_t and noise_var of each OFDM symbol.

    ``rotation`` (symbols,) holds g_t·exp(jω·n_t), ``delay`` (symbols,) δ·n_t in samples; erased symbols have noise_var inf.
    """

    sco: float
    residual_cfo: float
    rotation: np.ndarray
    delay: np.ndarray
    noise_var: np.ndarray


@functools.lru_cache(maxsize=8)
def _window_bases(fmt: FrameFormat):
    """Orthonormal bases (num_active, rank) of the responses of channels within each delay window."""
    bases = []
    for window in WINDOWS:
        if window > fmt.num_active // 4:
            break
        taps = np.arange(window)
        u, s, _ = np.linalg.svd(np.exp(-2j * np.pi * fmt.subcarriers[:, None] * taps / fmt.fft_size), full_matrices=False)
        bases.append((window, np.ascontiguousarray(u[:, s > 1e-3 * s[0]], np.complex64)))
    return tuple(bases)


def first_path(spectrum: np.ndarray, fmt: FrameFormat = DEFAULT_FORMAT) -> int:
    """Delay in samples (may be negative) of the first path, from a preamble's active subcarriers (num_active,).

    The impulse response under a Hann taper over frequency (side lobes -31 dB); the first path is the first tap within 18 dB
    of the strongest and clear of the noise, among those up to a prefix length around the strongest.
    """
    tapered = spectrum * fmt.preamble.conj() * np.hanning(fmt.num_active).astype(np.float32)
    grid = np.zeros(fmt.fft_size, np.complex64)
    grid[fmt.bins] = tapered
    power = np.abs(fft.ifft(grid)) ** 2
    noise = np.median(power) / np.log(2)
    reach = fmt.prefix_samples
    near = np.r_[power[-reach:], power[: reach + 1]]
    strongest = int(np.argmax(near))
    level = max(near[strongest] * 10**-1.8, 12 * noise)
    above = np.nonzero(near[max(0, strongest - reach) : strongest + 1] >= level)[0]
    first = max(0, strongest - reach) + (int(above[0]) if above.size else strongest)
    # the taper widens a path to about two taps on each side at -18 dB
    return min(first + 2, strongest) - reach


def estimate_channel(spectrum: np.ndarray, fmt: FrameFormat = DEFAULT_FORMAT) -> ChannelEstimate:
    """Least squares over the shortest sufficient delay window, from the preamble's active subcarriers (num_active,).

    The window is chosen by Mallows' C_p: ‖residual‖² + 2·rank·noise_var. The error is rank/num_active of the noise, so P = num_active/rank
    in the loss factor 1 + 1/P.
    """
    observed = spectrum * fmt.preamble.conj()
    energy = float(np.vdot(observed, observed).real)
    bases = _window_bases(fmt)
    projections = [(window, basis, basis.conj().T @ observed) for window, basis in bases]
    _, widest, coefficients = projections[-1]
    freedom = fmt.num_active - widest.shape[1]
    noise_var = max(energy - float(np.vdot(coefficients, coefficients).real), 1e-9 * energy) / freedom
    costs = [
        energy - float(np.vdot(c, c).real) + 2 * basis.shape[1] * noise_var for _, basis, c in projections
    ]
    window, basis, coefficients = projections[int(np.argmin(costs))]
    residual = max(energy - float(np.vdot(coefficients, coefficients).real), 1e-9 * energy)
    return ChannelEstimate(basis @ coefficients, residual / (fmt.num_active - basis.shape[1]), window)


def track(grid: np.ndarray, channel: ChannelEstimate, fmt: FrameFormat = DEFAULT_FORMAT) -> Tracking:
    """Follow phase, clock and gain over the OFDM symbols of a frame.

    Parameters
    ----------
    grid : (symbols, num_active) complex64, active subcarriers after the coarse carrier correction; symbol t's body starts
        ``(t + 1)·symbol_samples`` after the preamble's
    channel : the estimate from the preamble of the same frame
    """
    num_symbols = len(grid)
    index = fmt.pilot_index[:num_symbols]
    known = np.take(channel.h_hat, index) * fmt.pilots[:num_symbols]
    product = np.take_along_axis(grid, index, axis=1) * known.conj()  # (symbols, pilots): |H|²·exp(jθ) + noise
    weight = np.abs(known) ** 2
    time = (np.arange(num_symbols) + 1.0) * fmt.symbol_samples
    slope = 2 * np.pi * fmt.subcarriers[index] / fmt.fft_size
    cfo, sco = _coarse_fit(product, time, slope)
    usable = np.ones(num_symbols, bool)
    start_weight = float(np.sum(np.abs(channel.h_hat) ** 2))
    for _ in range(3):
        theta = cfo * time[:, None] + sco * time[:, None] * slope
        aligned = product * np.exp(-1j * theta)
        gain = aligned.sum(axis=1) / weight.sum(axis=1)
        residual = _residual(grid, index, known, theta, gain)
        usable = residual < OUTLIER * (channel.noise_var + 0.02 * weight.mean(axis=1))
        if usable.sum() < 3:
            usable[:] = True
        step = _phase_step(aligned, weight, gain, time, slope, usable, start_weight)
        cfo, sco = cfo + step[0], sco + step[1]
    theta = cfo * time[:, None] + sco * time[:, None] * slope
    raw = (product * np.exp(-1j * theta)).sum(axis=1) / weight.sum(axis=1)
    observation_var = channel.noise_var / weight.sum(axis=1)
    gain = _smooth_gain(raw, observation_var, usable, channel.noise_var / start_weight)
    residual = _residual(grid, index, known, theta, gain)
    return Tracking(
        float(sco), float(cfo), gain * np.exp(1j * cfo * time), sco * time, _symbol_noise(residual, raw, gain)
    )


def soft_slots(grid: np.ndarray, channel: ChannelEstimate, tracking: Tracking, fmt: FrameFormat = DEFAULT_FORMAT):
    """Matched-filter output of every data slot of the frame.

    Returns
    -------
    statistic : (symbols·slots_per_symbol,) complex64, conj(h)·y/noise_var
    information : same shape float32, |h|²/noise_var: the SNR of a unit-power symbol there; both 0 where erased

    Sums of both over repeated receptions are maximum-ratio combining; statistic/(information + 1) is linear MMSE.
    """
    inverse_noise = np.where(np.isfinite(tracking.noise_var), 1 / tracking.noise_var, 0)
    statistic = np.empty((len(grid), fmt.slots_per_symbol), np.complex64)
    information = np.empty((len(grid), fmt.slots_per_symbol), np.float32)
    power = (np.abs(channel.h_hat) ** 2).astype(np.float32)
    _matched_filter(
        grid, channel.h_hat, power, fmt.data_index, tracking.rotation * inverse_noise,
        (np.abs(tracking.rotation) ** 2 * inverse_noise).astype(np.float32), 2 * np.pi * tracking.delay / fmt.fft_size,
        fmt.num_active // 2, statistic, information,
    )  # fmt: skip
    return statistic.reshape(-1), information.reshape(-1)


def mean_snr(channel: ChannelEstimate, noise_var: float) -> float:
    """Mean SNR per payload symbol, linear; the estimate's own error (rank/num_active of the noise) is negligible."""
    return float(np.mean(np.abs(channel.h_hat) ** 2)) / noise_var


def _coarse_fit(product, time, slope):
    """Grid search for (residual cfo, sco): the peak of |Σ product·exp(-jθ)| over clock offsets and an FFT over time."""
    size = 8 * len(time)
    best = (-1.0, 0.0, 0.0)
    for sco in SCO_GRID:
        per_symbol = np.sum(product * np.exp(-1j * sco * time[:, None] * slope), axis=1)
        power = np.abs(np.fft.fft(per_symbol, size)) ** 2
        peak = int(np.argmax(power))
        if power[peak] > best[0]:
            best = (power[peak], 2 * np.pi * ((peak + size // 2) % size - size // 2) / size / time[0], sco)
    return best[1], best[2]


def _residual(grid, index, known, theta, gain):
    """Mean |Y − model|² over the pilots of each symbol (symbols,)."""
    received = np.take_along_axis(grid, index, axis=1)
    return np.mean(np.abs(received - gain[:, None] * known * np.exp(1j * theta)) ** 2, axis=1)


def _phase_step(aligned, weight, gain, time, slope, usable, start_weight):
    """Weighted least squares of the small remaining phases on (phase, cfo, sco): the last two.

    The preamble, where the phase is 0 by definition, counts as an observation of weight start_weight.
    """
    strength = max(abs(np.mean(gain[usable])), 1e-6)
    phase = aligned.imag / strength  # |H|²·θ plus noise
    design = np.stack([np.ones_like(slope), np.broadcast_to(time[:, None], slope.shape), time[:, None] * slope], axis=-1)
    scale = np.array([1.0, time[-1], time[-1]])
    use = (design[usable] / scale).reshape(-1, 3)
    w = weight[usable].reshape(-1)
    normal = (use * w[:, None]).T @ use + 1e-9 * w.sum() * np.eye(3)
    normal[0, 0] += start_weight
    return (np.linalg.solve(normal, use.T @ phase[usable].reshape(-1)) / scale)[1:]


def _smooth_gain(raw, observation_var, usable, start_var):
    """Kalman smoother of a random-walk gain that starts at 1; its step variance is the likeliest of GAIN_STEPS."""
    noise = np.where(usable, observation_var, 1e6)
    unit = float(np.median(observation_var))
    best = max(GAIN_STEPS, key=lambda step: _kalman(raw, noise, step * unit, start_var)[1])
    return _kalman(raw, noise, best * unit, start_var)[0]


@njit(cache=True, nogil=True)
def _kalman(raw, noise, step_var, start_var):
    """Rauch–Tung–Striebel smoother (1965) of a complex random walk: smoothed gain and log-likelihood."""
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
        mean[t] += var[t] / prior_var[t + 1] * (mean[t + 1] - mean[t])
    return mean, log_likelihood


def _symbol_noise(residual, raw, gain):
    """Noise variance of each symbol: the frame's, but its own where it is hit, and inf where the pilots are not there at all."""
    typical = np.median(residual)
    frame = np.mean(residual[residual <= OUTLIER * typical])
    noise_var = np.where(residual > OUTLIER * typical, residual, frame)
    missing = (residual > OUTLIER * typical) & (np.abs(raw) < 0.5 * np.median(np.abs(gain)))
    return np.where(missing, np.inf, np.maximum(noise_var, 1e-12))


@njit(cache=True, nogil=True, fastmath=True)
def _matched_filter(grid, h, power, data_index, rotation, gain, slope, half, statistic, information):
    for t in range(grid.shape[0]):
        r = rotation[t].conjugate()
        step = np.exp(-1j * slope[t])
        phasor = np.empty(h.size, np.complex64)
        value = r * np.exp(1j * slope[t] * half)
        for k in range(h.size):
            if k == half:  # DC is skipped
                value *= step
            phasor[k] = value
            value *= step
        g = gain[t]
        for i in range(statistic.shape[1]):
            k = data_index[t, i]
            hk, pk, y = h[k], phasor[k], grid[t, k]
            statistic[t, i] = hk.conjugate() * pk * y
            information[t, i] = power[k] * g
