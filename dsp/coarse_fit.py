"""Carrier and clock offset of a frame from its pilots, by search. Kernels of `dsp.tracking`."""

import numpy as np
from numba import njit

from airnet_sdr.dsp.phasor import phasor_double
from airnet_sdr.dsp.symbol_gain import VECTORS


@njit(cache=True, nogil=True, error_model="numpy")
def coarse_fit(product, aligned, share, time, lever, cosines, sines, sco_grid, known_sco):
    """Carrier offset, in steps of the tables, and clock offset of the largest |Σ product·exp(-jθ)|.

    Clock offsets of the grid are tried, unless it is known.
    """
    best, best_cfo, best_sco = -1.0, 0, known_sco
    known = np.array([known_sco])
    for sco in sco_grid if np.isnan(known_sco) else known:
        turn_back(product, 0.0, sco, time, lever, aligned)
        sums = aligned.sum(axis=2) * share
        cfo, power = _coarse_carrier(sums[0], sums[1], cosines, sines)
        if power > best:
            best, best_cfo, best_sco = power, cfo, sco
    return best_cfo, best_sco


@njit(cache=True, nogil=True, fastmath=VECTORS)
def _coarse_carrier(real, imag, cosines, sines):
    """Carrier offset, in steps of the tables of either sign, of the largest |Σ sums·exp(-jθ)|², and that power."""
    best, best_offset = -1.0, 0
    for k in range(cosines.shape[0]):
        a = b = c = d = 0.0
        for t in range(real.size):
            a += real[t] * cosines[k, t]
            b += imag[t] * sines[k, t]
            c += imag[t] * cosines[k, t]
            d += real[t] * sines[k, t]
        for sign in (-1, 1):
            power = (a + sign * b) ** 2 + (c - sign * d) ** 2
            if power > best:
                best, best_offset = power, sign * k
    return best_offset, best


@njit(cache=True, nogil=True)
def take_out_phase(product, aligned, share, cfo, sco, time, lever):
    """Turn the products back by their mean phase once carrier and clock are taken out; exp(j·phase)."""
    turn_back(product, cfo, sco, time, lever, aligned)
    together = complex((aligned[0].sum(axis=1) * share).sum(), (aligned[1].sum(axis=1) * share).sum())
    phase = together / max(abs(together), 1e-30)
    for t in range(product.shape[1]):
        for i in range(product.shape[2]):
            turned = complex(product[0, t, i], product[1, t, i]) * phase.conjugate()
            product[0, t, i], product[1, t, i] = turned.real, turned.imag
    return phase


@njit(cache=True, nogil=True, fastmath=VECTORS)
def turn_back(product, cfo, sco, time, lever, aligned):
    """aligned = product·exp(-j·time·(cfo + sco·slope)); both (2, symbols, pilots), real and imaginary parts."""
    cycles = cfo / (2 * np.pi)
    shape = product[0].size
    real, imag = product[0].reshape(shape), product[1].reshape(shape)
    out_real, out_imag = aligned[0].reshape(shape), aligned[1].reshape(shape)
    time, lever = time.reshape(shape), lever.reshape(shape)
    for i in range(shape):
        cos, sin = phasor_double(time[i] * cycles + lever[i] * sco)
        out_real[i] = real[i] * cos + imag[i] * sin
        out_imag[i] = imag[i] * cos - real[i] * sin
