"""Closed forms the link is measured against. ``snr`` is linear; it says of what in each function."""

import numpy as np
from scipy.special import ndtr

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.units import db


def lmmse_nmse(snr, copies=1):
    """1/(1 + k·S): uncoded analog, k copies combined by maximum ratio, linear MMSE; snr per payload symbol.

    Optimal for a Gaussian source at one use a pair of weights (Goblick, IEEE Trans. IT 11(4), 1965).
    """
    return 1 / (1 + copies * np.asarray(snr, dtype=np.float64))[()]


def zero_forcing_nmse(snr, copies=1):
    """1/(k·S): as `lmmse_nmse` without the shrinkage; snr per payload symbol."""
    return 1 / (copies * np.asarray(snr, dtype=np.float64))[()]


def opta_nmse(snr, ratio=1.0):
    """(1 + S)^−k: no code with k channel uses a pair does better on a Gaussian source; snr per use.

    Distortion-rate function at capacity (Shannon 1959; Berger, Rate Distortion Theory, 1971).
    """
    return (1 + np.asarray(snr, dtype=np.float64))[()] ** -ratio


def cfo_crb(snr, num):
    """6/(S·N·(N² − 1)) rad²/sample²: Cramér–Rao bound of the CFO from N known samples, phase unknown; snr per sample.

    Rife and Boorstyn, IEEE Trans. IT 20(5), 1974, eq. 17.
    """
    num = np.asarray(num, dtype=np.float64)
    return (6 / (snr * num * (num**2 - 1)))[()]


def schmidl_cox_var(snr, half):
    """1/(S·L³) rad²/sample²: variance of the CFO from two equal halves of L samples at high snr per sample.

    Schmidl and Cox, IEEE Trans. Commun. 45(12), 1997, eq. 35.
    """
    return (1 / (snr * np.asarray(half, dtype=np.float64) ** 3))[()]


def timing_crb(snr, num, rms_bandwidth):
    """1/(2·S·N·β²) samples²: Cramér–Rao bound of the delay of N known samples, gain known; snr per sample.

    β² = Σω²|X(ω)|²/Σ|X(ω)|², rad/sample (Kay, Estimation Theory, 1993, eq. 3.54, complex noise).
    """
    return (1 / (2 * snr * np.asarray(num, dtype=np.float64) * np.asarray(rms_bandwidth) ** 2))[()]


def ls_channel_nmse(snr, num_pilots):
    """1/(P·S): error of a flat channel estimated by least squares from P pilots, relative to |H|²; snr per pilot."""
    return (1 / (np.asarray(num_pilots, dtype=np.float64) * snr))[()]


def channel_estimation_loss(num_pilots):
    """1 + 1/P: by how much the error grows when the data are equalised with that estimate (high snr)."""
    return (1 + 1 / np.asarray(num_pilots, dtype=np.float64))[()]


def selective_nmse(snr, h):
    """mean of 1/(1 + S·|H|²) over the frequencies of h: the ideal linear receiver on a frequency-selective channel."""
    return float(np.mean(1 / (1 + snr * np.abs(np.asarray(h, dtype=np.complex128)) ** 2)))


def effective_snr(nmse: float, h=1.0) -> float:
    """The S at which `selective_nmse(S, h)` is nmse: 0 from nmse 1 on, infinite where no S gets so low."""
    if not nmse >= 0:
        raise InputError(f"effective SNR of an NMSE of {nmse}: give a number from 0 on")
    if nmse >= 1:
        return 0.0
    from scipy.optimize import brentq  # here: half a second to import, which sender and receiver do without

    low, high = -300.0, 300.0  # dB

    def excess(snr_db):
        return np.log(selective_nmse(10 ** (snr_db / 10), h)) - np.log(nmse)

    if nmse == 0 or excess(high) > 0:
        return float("inf")
    return float(10 ** (brentq(excess, low, high, xtol=1e-9) / 10))


def implementation_loss_db(recording_energy: float, num_pairs: float, noise_var: float, nmse: float, h=1.0) -> float:
    """Energy spent over that of an ideal link with the same NMSE: 10·log10(E/(P·N0)) − 10·log10(S_eff), in dB.

    recording_energy: Σ|x|² of all samples sent, preambles, pilots, control and prefixes included; num_pairs: pairs of
    weights; noise_var per sample; h: the channel over the band, of unit mean |H|². S_eff from `effective_snr`.
    """
    return float(db(recording_energy / (num_pairs * noise_var)) - db(effective_snr(nmse, h)))


def converter_nmse(full_scale, bits=None):
    """NMSE of a Gaussian rail of unit variance limited to ±A = full_scale and rounded to 2^bits levels.

    2·((1 + A²)·Q(A) − A·φ(A)) from clipping, and Δ²/12 with Δ = A/2^(bits−1) wherever it does not clip (Widrow and
    Kollár, Quantization Noise, 2008); no bits: clipping alone. The top code's missing half step is left out.
    """
    a = np.asarray(full_scale, dtype=np.float64)
    density = np.exp(-(a**2) / 2) / np.sqrt(2 * np.pi)
    clipped = 2 * ((1 + a**2) * ndtr(-a) - a * density)
    if bits is None:
        return clipped[()]
    step = a / 2.0 ** (bits - 1)
    return (clipped + step**2 / 12 * (1 - 2 * ndtr(-a)))[()]


def qpsk_capacity(snr: float) -> float:
    """Bits a use that QPSK can carry: 2·(1 − E[log2(1 + exp(−L))]), L normal of mean 2S and variance 4S; snr per use.

    ten Brink, Kramer and Ashikhmin, IEEE Trans. Commun. 52(4), 2004; 200-point Gauss–Hermite quadrature.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    llr = 2 * snr + 2 * np.sqrt(snr) * nodes
    return float(2 - 2 * weights @ np.logaddexp(0, -llr) / np.log(2) / weights.sum())
