"""Tracking of phase, clock and gain over the OFDM symbols of a frame, from its pilots. Some frames at a time.

Burst estimation, not loops: every estimate uses the whole frame and nothing but preamble and pilots.

Model of pilot i of OFDM symbol t: ``Y = g_t·exp(j(ω·n_t + 2π·k_i·δ·n_t/fft_size))·H_k·X + noise``, where n_t is the
time since the preamble in samples, ω the residual carrier offset, δ the sample clock offset and g_t a slowly varying
gain, 1 at the preamble (phase noise, fading, gain control).
"""

import dataclasses
import functools

import numpy as np
from numba import njit

from airnet_sdr.dsp.coarse_fit import coarse_fit, take_out_phase, turn_back
from airnet_sdr.dsp.estimate import NOISE_FLOOR, ChannelEstimate
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat
from airnet_sdr.dsp.interference import pilot_weights
from airnet_sdr.dsp.phasor import phasor_double
from airnet_sdr.dsp.symbol_gain import OUTLIER, VECTORS, count_clean, missing_symbols, smooth_gain, symbol_noise

SCO_GRID = np.arange(-75e-6, 76e-6, 15e-6)
MAX_SCO = 1e-2  # ten times what noise makes of the clock of the shortest frames: beyond, pilots are hostile
MAX_CFO = np.pi  # rad/sample: no carrier turns faster
SLACK = 0.02  # of the signal: what radios add to the noise of a payload symbol at most (an EVM of -17 dB)
FREE = 1e-6  # what the preamble's phase counts where it is not known
# variances of the gain's random walk, in units of its observation noise; the last follow a jump
GAIN_STEPS = np.array([0.0, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0])


@dataclasses.dataclass(frozen=True)
class Tracking:
    """What the pilots of one frame say, or of some with a leading axis.

    sco, residual_cfo : (...) clock offset, residual carrier offset in rad/sample; of pilots that do not fit a radio's
        signal they may be any number or none
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
    interference: np.ndarray | None = None,
    anchored: bool = True,
) -> Tracking:
    """Follow phase, clock and gain over the OFDM symbols of some frames.

    Parameters
    ----------
    spectra : (frames, symbols, fft_size) complex64, after the coarse carrier correction; the body of symbol t starts
        ``(t + 1)·symbol_samples`` after the preamble's
    channel : the estimates from the preambles of the same frames
    sco : the clock offset, when it is nearly known: that of the frame before
    before : the symbols end where the preamble begins instead: they are the predecessor's, and sco is known
    interference : (frames, symbols, cells), see `interference.find_interference`
    anchored : gain and phase are those of the channel where the symbols begin; otherwise the phase is looked for
    """
    num_frames, num_symbols, _ = spectra.shape
    columns, slopes, time, lever, step, cosines, sines = _pilot_tables(fmt, num_symbols, before)
    shape = (num_frames, num_symbols)
    found = Tracking(
        np.empty(num_frames), np.empty(num_frames), np.empty(shape, np.complex128), np.empty(shape), np.empty(shape)
    )
    if interference is None:
        of_pilots = np.ones((*shape, columns.shape[1]))
    else:
        of_pilots = pilot_weights(interference, channel.noise_var, fmt)
    _track(
        spectra, of_pilots, channel.h_hat, channel.noise_var, channel.power * fmt.num_active,
        columns, fmt.pilot_index, fmt.pilots,
        slopes, time, lever, step / fmt.symbol_samples, cosines, sines, SCO_GRID, GAIN_STEPS,
        np.nan if sco is None else float(sco), before, anchored,
        found.sco, found.residual_cfo, found.rotation, found.delay, found.noise_var,
    )  # fmt: skip
    return found


@functools.lru_cache(maxsize=64)
def _pilot_tables(fmt: FrameFormat, num_symbols: int, before: bool):
    """Tables of the pilots, (symbols, pilots) each, and of the carrier offsets that a frame is searched for.

    Columns; the phase of a delay of one sample in rad; time in samples; the turns that a clock offset of 1 makes; the
    step between the carrier offsets, in rad a symbol, and cosines and sines (offsets, symbols) of what they turn each
    symbol by, from 0 to 1 rad a symbol.
    """
    index, step = fmt.pilot_index[:num_symbols], np.pi / (2 * max(num_symbols, 8))
    time = (np.arange(num_symbols) + (-float(num_symbols) if before else 1.0)) * fmt.symbol_samples
    time = np.repeat(time[:, None], index.shape[1], axis=1)
    turns = fmt.subcarriers[index] / fmt.fft_size
    angle = np.arange(np.ceil(1 / step) + 1)[:, None] * step * np.arange(num_symbols)
    return fmt.columns[index], 2 * np.pi * turns, time, time * turns, step, np.cos(angle), np.sin(angle)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=VECTORS)
def _track(
    spectra, pilot_weight, h, preamble_noise, start_weight, columns, index, pilots, slopes, time, lever, carrier_step,
    cosines, sines, sco_grid, steps, known_sco, before, anchored, sco_out, cfo_out, rotation, delay, noise_out,
):  # fmt: skip
    num_symbols, num_pilots = columns.shape
    product = np.empty((2, num_symbols, num_pilots))  # real and imaginary parts
    aligned = np.empty_like(product)
    weight, energy = np.empty((num_symbols, num_pilots)), np.empty(num_symbols)
    moments = np.empty((3, num_symbols))
    for m in range(spectra.shape[0]):
        noise_var, power = preamble_noise[m], start_weight[m] / h.shape[1]
        counted = count_clean(pilot_weight[m])
        _pilot_products(spectra[m], pilot_weight[m], h[m], columns, index, pilots, product, weight, energy)
        _moments(weight, slopes, moments)
        total = moments[0]
        cfo, sco, anchor, start_phase = 0.0, known_sco, start_weight[m], 1 + 0j
        # a symbol under strong interference must not outvote the others
        share = np.minimum(1.0, (total + np.abs(counted) * noise_var) / np.maximum(energy, 1e-30))
        if not before:
            steps_off, sco = coarse_fit(product, aligned, share, time, lever, cosines, sines, sco_grid, known_sco)
            cfo = steps_off * carrier_step
        if not anchored:
            anchor *= FREE
            start_phase = take_out_phase(product, aligned, share, cfo, sco, time, lever)
        cfo, sco, raw, usable = _fine_fit(
            product, aligned, moments, energy, counted, slopes, time, lever, cfo, sco, anchor, noise_var
        )
        spread = np.sqrt(noise_var / total)
        missing = missing_symbols(np.abs(raw), spread)
        usable &= ~missing
        observation = noise_var / total
        if before:  # the gain is known at the preamble
            gain, leverage = smooth_gain(
                raw[::-1].copy(), observation[::-1].copy(), usable[::-1].copy(), noise_var / anchor, steps
            )
            gain, leverage = gain[::-1].copy(), leverage[::-1].copy()
        else:
            gain, leverage = smooth_gain(raw, observation, usable, noise_var / anchor, steps)
        residual = np.empty(num_symbols)
        for t in range(num_symbols):
            misfit = energy[t] - 2 * (gain[t].conjugate() * raw[t]).real * total[t] + abs(gain[t]) ** 2 * total[t]
            misfit /= abs(counted[t]) - leverage[t]  # the gain was fitted to the same pilots
            residual[t] = max(misfit, NOISE_FLOOR * power)
        noise = symbol_noise(residual, raw, spread, gain, missing, counted > 0, noise_var + SLACK * power)
        for t in range(num_symbols):
            if before and abs(raw[t]) < 0.5:
                noise[t] = np.inf  # nothing says that there is a signal before a preamble
            cos, sin = phasor_double(cfo * time[t, 0] / (2 * np.pi))
            rotation[m, t] = gain[t] * complex(cos, sin) * start_phase
            delay[m, t] = sco * time[t, 0]
            noise_out[m, t] = noise[t]
        sco_out[m], cfo_out[m] = sco, cfo


@njit(cache=True, nogil=True)
def _pilot_products(spectrum, pilot_weight, h, columns, index, pilots, product, weight, energy):
    """Y·(H·X)*, which is |H|²·exp(jθ) plus noise, |H|² of each pilot, and Σ|Y|² of each symbol, all weighted."""
    for t in range(weight.shape[0]):
        energy[t] = 0
        for i in range(weight.shape[1]):
            y, known = np.complex128(spectrum[t, columns[t, i]]), np.complex128(h[index[t, i]] * pilots[t, i])
            w = pilot_weight[t, i]
            product[0, t, i] = w * (y.real * known.real + y.imag * known.imag)
            product[1, t, i] = w * (y.imag * known.real - y.real * known.imag)
            weight[t, i] = w * (known.real**2 + known.imag**2)
            energy[t] += w * (y.real**2 + y.imag**2)


@njit(cache=True, nogil=True, fastmath=VECTORS)
def _moments(weight, slopes, moments):
    """Σ weight·slope^n over the pilots of each symbol, n = 0, 1, 2."""
    for t in range(weight.shape[0]):
        zeroth = first = second = 0.0
        for i in range(weight.shape[1]):
            zeroth += weight[t, i]
            first += weight[t, i] * slopes[t, i]
            second += weight[t, i] * slopes[t, i] ** 2
        moments[0, t], moments[1, t], moments[2, t] = zeroth, first, second


@njit(cache=True, nogil=True, error_model="numpy", fastmath=VECTORS)
def _fine_fit(product, aligned, moments, energy, counted, slopes, time, lever, cfo, sco, start_weight, noise_var):
    """Gauss–Newton on phase, cfo and sco, leaving out symbols that do not fit the model: (cfo, sco, raw gains, usable).

    Weighted least squares of the phases that remain after each alignment; the preamble, where the phase is 0 by
    definition, counts as an observation of weight start_weight.
    """
    num_symbols, num_pilots = slopes.shape
    gain = np.empty(num_symbols, np.complex128)
    usable = np.ones(num_symbols, np.bool_)
    normal, right = np.empty((3, 3)), np.empty(3)
    last = max(abs(time[0, 0]), abs(time[-1, 0]))
    for turn in range(4):
        turn_back(product, cfo, sco, time, lever, aligned)
        mean, count = 0j, 0
        for t in range(num_symbols):
            real = imag = 0.0
            for i in range(num_pilots):
                real += aligned[0, t, i]
                imag += aligned[1, t, i]
            total = moments[0, t]
            gain[t] = complex(real / total, imag / total)
            residual = (energy[t] - (real**2 + imag**2) / total) / abs(counted[t])
            usable[t] = residual < OUTLIER * (noise_var + SLACK * total / abs(counted[t]))
        if usable.sum() < min(3, num_symbols):
            usable[:] = True
        if turn == 3 or not np.isfinite(gain.sum()):  # without a channel there are no gains, and nothing to solve
            break
        for t in range(num_symbols):
            if usable[t]:
                mean += gain[t]
                count += 1
        strength = max(abs(mean) / count, 1e-6)
        normal[:], right[:] = 0, 0
        normal[0, 0] = start_weight
        for t in range(num_symbols):
            if not usable[t]:
                continue
            turned = 0.0  # Σ |H|²·θ·slope plus noise
            for i in range(num_pilots):
                turned += aligned[1, t, i] * slopes[t, i]
            age = time[t, 0] / last
            normal[0, 0] += moments[0, t]
            normal[0, 1] += moments[0, t] * age
            normal[0, 2] += moments[1, t] * age
            normal[1, 1] += moments[0, t] * age * age
            normal[1, 2] += moments[1, t] * age * age
            normal[2, 2] += moments[2, t] * age * age
            phase = gain[t].imag * moments[0, t] / strength
            right[0] += phase
            right[1] += phase * age
            right[2] += turned / strength * age
        for i in range(3):
            normal[i, i] += 1e-9 * start_weight + 1e-30
            for j in range(i):
                normal[i, j] = normal[j, i]
        step = np.linalg.solve(normal, right)
        cfo += step[1] / last
        sco += step[2] / last
    return cfo, sco, gain, usable
