"""Matched filter: spectra of OFDM symbols to the soft values of their data slots. Some frames at a time."""

import numpy as np
from numba import njit

from airnet_sdr.dsp.estimate import ChannelEstimate
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat
from airnet_sdr.dsp.interference import weigh_slots
from airnet_sdr.dsp.phasor import phasor_single
from airnet_sdr.dsp.tracking import Tracking

VECTORS = {"reassoc", "contract", "nsz", "arcp"}  # not "ninf": erased symbols are told by it
LARGEST = 1e15  # 150 dB: soft values beyond are no signal's, and their squares would overflow single precision


def soft_slots(
    spectra: np.ndarray,
    channel: ChannelEstimate,
    tracking: Tracking | None = None,
    fmt: FrameFormat = DEFAULT_FORMAT,
    interference: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Matched-filter output of every data slot of some frames; without tracking, by the preamble's estimates alone.

    ``spectra`` (frames, symbols, fft_size) complex64; ``interference`` (frames, symbols, cells) of `interference`.

    Returns
    -------
    statistic : (frames, symbols·slots_per_symbol) complex64, conj(h)·y/noise_var
    information : same shape float32, |h|²/noise_var: the SNR of a unit-power symbol there; both 0 where erased.
        The noise of symbols with values beyond LARGEST, or that are no numbers, becomes NaN: hostile pilots make them

    Sums of both over repeated receptions are maximum-ratio combining; statistic/(information + 1) is linear MMSE.
    """
    shape = spectra.shape[:2]
    if tracking is None:
        still = np.zeros(shape)
        tracking = Tracking(still, still, still + 1 + 0j, still, still + channel.noise_var[:, None])
    statistic = np.empty((*shape, fmt.slots_per_symbol), np.complex64)
    information = np.empty(statistic.shape, np.float32)
    _matched_filter(
        spectra, channel.h_hat, fmt.pilot_index, tracking.rotation, tracking.delay / fmt.fft_size, tracking.noise_var,
        statistic, information,
    )  # fmt: skip
    if interference is not None:
        weigh_slots(interference, tracking.noise_var, fmt.data_index, statistic, information)
    return statistic.reshape(shape[0], -1), information.reshape(shape[0], -1)


@njit(cache=True, nogil=True, error_model="numpy")
def _matched_filter(spectra, h, pilot_index, rotation, slope, noise_var, statistic, information):
    num_active = h.shape[1]
    cos, sin = np.empty(num_active, np.float32), np.empty(num_active, np.float32)
    power = np.empty(num_active, np.float32)
    filtered = np.empty(num_active, np.complex64)
    for m in range(spectra.shape[0]):
        for k in range(num_active):
            power[k] = h[m, k].real * h[m, k].real + h[m, k].imag * h[m, k].imag
        strongest = power.max()
        for t in range(spectra.shape[1]):
            if np.isinf(noise_var[m, t]):
                statistic[m, t], information[m, t] = 0, 0
                continue
            _turns(np.float32(-slope[m, t]), cos, sin)
            weight = rotation[m, t].conjugate() / noise_var[m, t]
            energy = _filter(spectra[m, t], h[m], cos, sin, np.complex64(weight), filtered)
            gain = np.float32(abs(weight) ** 2 * noise_var[m, t])
            if not (energy <= LARGEST**2 and strongest * gain <= LARGEST):
                statistic[m, t], information[m, t], noise_var[m, t] = 0, 0, np.nan
                continue
            slot = 0
            for i in range(pilot_index.shape[1] + 1):  # the data slots between two pilots
                first = pilot_index[t, i - 1] + 1 if i else 0
                stop = pilot_index[t, i] if i < pilot_index.shape[1] else num_active
                for k in range(stop - first):
                    statistic[m, t, slot + k] = filtered[first + k]
                    information[m, t, slot + k] = power[first + k] * gain
                slot += stop - first


@njit(cache=True, nogil=True, fastmath=VECTORS)
def _turns(slope, cos, sin):
    """exp(2πj·slope·k) over the active subcarriers k."""
    half = cos.size // 2
    for side in range(2):  # below and above DC, which is left out
        for i in range(side * half, (side + 1) * half):
            cos[i], sin[i] = phasor_single(slope * np.float32(i + side - half))


@njit(cache=True, nogil=True, fastmath=VECTORS)
def _filter(spectrum, h, cos, sin, weight, filtered):
    """weight·conj(h)·y·(cos + j·sin) on the active subcarriers of a spectrum that has DC among them; its energy."""
    half = h.size // 2
    energy = np.float32(0)
    for side in range(2):
        for i in range(side * half, (side + 1) * half):
            turn = complex(cos[i] * weight.real - sin[i] * weight.imag, cos[i] * weight.imag + sin[i] * weight.real)
            value = h[i].conjugate() * spectrum[i + side] * turn
            filtered[i] = value
            energy += value.real * value.real + value.imag * value.imag
    return energy
