"""Matched filter: spectra of OFDM symbols to the soft values of their data slots. Some frames at a time."""

import numpy as np
from numba import njit

from dsp.estimate import ChannelEstimate
from dsp.frame import DEFAULT_FORMAT, FrameFormat
from dsp.tracking import Tracking

TABLE = 64


def soft_slots(
    spectra: np.ndarray, channel: ChannelEstimate, tracking: Tracking | None = None, fmt: FrameFormat = DEFAULT_FORMAT
):
    """Matched-filter output of every data slot of some frames; without tracking, by the preamble's estimates alone.

    ``spectra`` (frames, symbols, fft_size) complex64.

    Returns
    -------
    statistic : (frames, symbols·slots_per_symbol) complex64, conj(h)·y/noise_var
    information : same shape float32, |h|²/noise_var: the SNR of a unit-power symbol there; both 0 where erased

    Sums of both over repeated receptions are maximum-ratio combining; statistic/(information + 1) is linear MMSE.
    """
    shape = spectra.shape[:2]
    if tracking is None:
        still = np.zeros(shape)
        tracking = Tracking(still, still, still + 1 + 0j, still, still + channel.noise_var[:, None])
    statistic = np.empty((*shape, fmt.slots_per_symbol), np.complex64)
    information = np.empty(statistic.shape, np.float32)
    slope = 2 * np.pi / fmt.fft_size * tracking.delay
    _matched_filter(
        spectra, channel.h_hat, fmt.pilot_index, tracking.rotation, slope, tracking.noise_var, statistic, information
    )
    return statistic.reshape(shape[0], -1), information.reshape(shape[0], -1)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"})
def _matched_filter(spectra, h, pilot_index, rotation, slope, noise_var, statistic, information):
    num_active = h.shape[1]
    half = num_active // 2
    filtered = np.empty(num_active, np.complex64)
    power = np.empty(num_active, np.float32)
    table = np.empty(TABLE, np.complex64)  # of phasors: leaves one turn for every TABLE subcarriers
    for m in range(spectra.shape[0]):
        for k in range(num_active):
            power[k] = h[m, k].real * h[m, k].real + h[m, k].imag * h[m, k].imag
        for t in range(spectra.shape[1]):
            if np.isinf(noise_var[m, t]):
                statistic[m, t], information[m, t] = 0, 0
                continue
            weight = rotation[m, t].conjugate() / noise_var[m, t]
            gain = np.float32((rotation[m, t].real ** 2 + rotation[m, t].imag ** 2) / noise_var[m, t])
            for i in range(TABLE):
                table[i] = np.exp(-1j * slope[m, t] * i)
            for side in range(2):  # below and above DC, whose column is skipped
                for first in range(side * half, (side + 1) * half, TABLE):
                    turn = np.complex64(weight * np.exp(-1j * slope[m, t] * (first + side - half)))
                    for k in range(first, min(first + TABLE, (side + 1) * half)):
                        filtered[k] = h[m, k].conjugate() * spectra[m, t, k + side] * (table[k - first] * turn)
            place, first = 0, 0
            for i in range(pilot_index.shape[1] + 1):  # what lies between the pilots
                last = pilot_index[t, i] if i < pilot_index.shape[1] else num_active
                for k in range(first, last):
                    statistic[m, t, place + k - first] = filtered[k]
                    information[m, t, place + k - first] = power[k] * gain
                place += last - first
                first = last + 1
