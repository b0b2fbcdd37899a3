"""The receiver's front end and converters: noise, IQ imbalance, DC, clipping, quantisation."""

import numpy as np

from airnet_sdr.dsp.units import linear


def awgn(x: np.ndarray, noise_var: float, rng: np.random.Generator) -> np.ndarray:
    """y = x + w, w circular white Gaussian of total variance noise_var, drawn in sample order."""
    noise = rng.standard_normal(2 * x.size, dtype=np.float32)
    noise *= np.float32(np.sqrt(noise_var / 2))
    noise += x.view(np.float32)
    return noise.view(np.complex64)


def iq_gains(amplitude_db: float, phase_deg: float) -> tuple[complex, complex]:
    """(μ, ν) of y = μ·x + ν·x*: μ = (1 + g·e^(−jφ))/2, ν = (1 − g·e^(jφ))/2, scaled to |μ|² + |ν|² = 1.

    g is the amplitude and φ the phase mismatch of Q against I at the receiver's mixer; the image lies
    |μ|²/|ν|² below. Valkama, Renfors and Koivunen, IEEE Trans. SP 49(10), 2001, eq. 5.
    """
    mismatch = 10 ** (amplitude_db / 20) * np.exp(1j * np.deg2rad(phase_deg))
    mu, nu = (1 + np.conj(mismatch)) / 2, (1 - mismatch) / 2
    scale = np.hypot(abs(mu), abs(nu))
    return complex(mu / scale), complex(nu / scale)


def iq_imbalance(x: np.ndarray, amplitude_db: float, phase_deg: float) -> np.ndarray:
    """y = μ·x + ν·x*, see `iq_gains`; frequency-independent, the power is kept."""
    mu, nu = (np.complex64(gain) for gain in iq_gains(amplitude_db, phase_deg))
    return mu * x + nu * np.conj(x)


def dc_offset(x: np.ndarray, level_dbc: float, phase_deg: float = 0.0, signal_power: float = 1.0) -> np.ndarray:
    """y = x + d, |d|² = signal_power·10^(level_dbc/10): the receiver's own leakage, constant in time."""
    return x + np.complex64(np.sqrt(signal_power * linear(level_dbc)) * np.exp(1j * np.deg2rad(phase_deg)))


def clip(x: np.ndarray, full_scale: float) -> np.ndarray:
    """Limit real and imaginary part each to ±full_scale, as a saturating converter.

    A power amplifier's soft compression and its memory are not modelled.
    """
    return np.clip(x.view(np.float32), np.float32(-full_scale), np.float32(full_scale)).view(np.complex64)


def quantise(x: np.ndarray, full_scale: float, bits: int) -> np.ndarray:
    """I and Q each to the codes −2^(bits−1) … 2^(bits−1) − 1 of step full_scale/2^(bits−1), rounded, saturating.

    Uniform and ideal: no differential or integral non-linearity, no jitter. `dsp.theory.converter_nmse` bounds it.
    """
    codes = 2 ** (bits - 1)
    step = np.float32(full_scale / codes)
    rails = np.rint(x.view(np.float32) / step)
    np.clip(rails, -codes, codes - 1, out=rails)
    rails *= step
    return rails.view(np.complex64)
