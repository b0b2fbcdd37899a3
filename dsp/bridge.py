"""Frames whose preamble or header was hit, read by what a neighbour in the burst says: place, carrier, clock, channel.

Such a frame must show itself: its pilots must be where they are expected, and its header's symbols must not contradict
the number that follows from the neighbour's, nor be elsewhere. Pilots alone would not tell places 20.48 samples apart,
50 subcarriers apart as they are, and samples may have been lost in between.
"""

import dataclasses

import numpy as np
from numba import njit

from airnet_sdr.dsp import control, ofdm
from airnet_sdr.dsp.equalise import soft_slots
from airnet_sdr.dsp.estimate import ChannelEstimate
from airnet_sdr.dsp.frame import FrameFormat, control_slots, frame_samples
from airnet_sdr.dsp.interference import CELL, find_interference, pilot_weights
from airnet_sdr.dsp.reception import Places, ReceivedFrame, frames_of
from airnet_sdr.dsp.tracking import track

LEAST_SLOTS = 64  # without interference, of the header
MISPLACED = 0.25  # of the coherence that the header's slots should have
LEAST_COHERENCE = 0.14  # of a frame's pilots; noise has 1/16 with a deviation of 0.012
MAX_DRIFT_SAMPLES = 1.0  # of a frame against its neighbour
CONTRADICTS = 0.5  # correlation of the header, 1 where it is the expected one...
SURE = 4.0  # ...by so many standard deviations


def bridge(samples, origin: int, near: ReceivedFrame, steps: int, fmt: FrameFormat) -> ReceivedFrame | None:
    """The frame ``steps`` after ``near``, or before it, of the same burst; None where there is none.

    ``origin`` is the stream index of the first of the samples.
    """
    number = near.header.frame + steps
    if not 0 <= number < near.header.num_frames:
        return None
    header = dataclasses.replace(near.header, frame=number)
    away = steps * frame_samples(header, fmt) / (1 + near.sco)
    shift = round(away)
    window = near.window + shift - origin
    num_symbols = min(header.num_symbols, (samples.size - window) // fmt.symbol_samples - 1)
    if window < -fmt.symbol_samples or num_symbols < 1:
        return None
    late = np.exp(-2j * np.pi / fmt.fft_size * fmt.subcarriers * (away - shift))
    h_hat = (near.channel.h_hat * late).astype(np.complex64)[None]
    channel = ChannelEstimate(h_hat, np.array([near.channel.noise_var]), np.array([near.channel.window]))
    cfo = np.array([near.cfo])
    spectra = ofdm.demodulate(samples, [window], cfo, num_symbols, fmt, first=1)
    interference = find_interference(spectra, h_hat, channel.noise_var, fmt, control_slots(header, fmt))
    of_header = None if interference is None else interference[0, 0]
    if _is_misplaced(spectra[0, 0], h_hat[0], of_header, header, near.snr, fmt):
        return None
    tracking = track(spectra, channel, fmt, near.sco, interference=interference, anchored=False)
    if not abs(tracking.sco[0] - near.sco) * frame_samples(header, fmt) <= MAX_DRIFT_SAMPLES:  # nor if it is no number
        return None
    if interference is None:
        weights = np.ones((1, num_symbols, fmt.num_pilots))
    else:
        weights = pilot_weights(interference, channel.noise_var, fmt)
    coherence = _coherence(
        spectra[0], h_hat[0], weights[0], tracking.delay[0] / fmt.fft_size, fmt.pilot_index, fmt.pilots
    )
    soft = soft_slots(spectra, channel, tracking, fmt, interference)
    if coherence.sum() < LEAST_COHERENCE * header.num_symbols or _contradicts(soft, header, fmt):
        return None
    places = Places(np.array([near.start + shift]), np.array([window + origin]), cfo)
    return frames_of([header], places, channel, tracking, soft, fmt)[0]


def _is_misplaced(spectrum, h, interference, header, snr, fmt) -> bool:
    """Whether the first OFDM symbol (fft_size,) is there, but is not the header's where the channel h puts it.

    By the slots in cells (num_active // CELL,) without interference, as long as there are enough of them.
    """
    expected = control.encode_header(header, fmt)[: fmt.slots_per_symbol]
    index = fmt.data_index[0, : expected.size]
    if interference is not None:
        clean = interference[index // CELL] == 0
        expected, index = expected[clean], index[clean]
    if index.size < LEAST_SLOTS:
        return False
    x, y = h[index] * expected, spectrum[fmt.columns][index]
    coherence = np.abs(np.vdot(x, y)) ** 2 / max(float(np.vdot(x, x).real * np.vdot(y, y).real), 1e-30)
    return bool(coherence < MISPLACED * snr / (1 + snr))


def _contradicts(soft, header, fmt) -> bool:
    """Whether the header's symbols are surely those of another header, or of none."""
    statistic, information = (values[0, : fmt.header_symbols] for values in soft)
    total = float(information.sum(dtype=np.float64))
    if total <= 0:
        return False
    expected = control.encode_header(header, fmt)
    correlation = float(np.vdot(expected, statistic[: expected.size]).real) / total
    return correlation + SURE / np.sqrt(2 * total) < CONTRADICTS


@njit(cache=True, nogil=True, error_model="numpy")
def _coherence(spectrum, h, weights, slope, pilot_index, pilots):
    """|Σ w·(h·x)*·y|² / (Σ w·|h·x|²·Σ w·|y|²) of the pilots of each symbol; slope in turns a subcarrier."""
    num_symbols, half = spectrum.shape[0], h.size // 2
    coherence = np.empty(num_symbols)
    for t in range(num_symbols):
        together, known, energy = 0j, 1e-30, 1e-30
        for i in range(pilot_index.shape[1]):
            k = pilot_index[t, i]
            above = k >= half
            y = np.complex128(spectrum[t, k + above]) * np.exp(-2j * np.pi * slope[t] * (k + above - half))
            x = np.complex128(h[k] * pilots[t, i])
            weight = weights[t, i]
            together += weight * x.conjugate() * y
            known += weight * (x.real**2 + x.imag**2)
            energy += weight * (y.real**2 + y.imag**2)
        coherence[t] = (together.real**2 + together.imag**2) / (known * energy)
    return coherence
