"""The oscillators: carrier frequency offset and phase noise."""

import numpy as np
from numba import njit

_STRIDE = 64  # samples between two exact phases


@njit(cache=True, nogil=True, fastmath=True)
def _rotate(x, cfo, start, ramp, out):
    stride = ramp.size
    k = 0
    while k < x.size:
        n = start + k
        first = n % stride
        anchor = cfo * np.float64(n - first)
        base = np.complex64(complex(np.cos(anchor), np.sin(anchor)))
        for j in range(min(stride - first, x.size - k)):
            out[k + j] = x[k + j] * (base * ramp[first + j])
        k += stride - first


def cfo(x: np.ndarray, cfo: float, start: int = 0) -> np.ndarray:
    """y[n] = x[n]·exp(j·cfo·(start + n)), cfo in rad/sample, start the number of samples before x[0].

    exp(j·cfo·(64q + r)) = exp(j·cfo·64q)·exp(j·cfo·r): the first factor is exact in float64 every 64 samples, the
    second a table, so the phase neither drifts nor depends on where blocks begin.
    """
    out = np.empty(x.size, dtype=np.complex64)
    _rotate(x, float(cfo), start, np.exp(1j * cfo * np.arange(_STRIDE)).astype(np.complex64), out)
    return out


@njit(cache=True, nogil=True)
def _wander(x, steps, decay, phase, out):
    for n in range(x.size):
        out[n] = x[n] * np.complex64(complex(np.cos(phase), np.sin(phase)))
        phase = decay * phase + steps[n]
    return phase


class PhaseNoise:
    """y[n] = x[n]·exp(j·θ[n]), θ of a locked oscillator: an Ornstein–Uhlenbeck process, rms_rad radians rms.

    Its spectrum is Lorentzian, flat up to the corner (cycles/sample) of the loop and −20 dB a decade above:
    L(f) = rms²/(π·corner)/(1 + (f/corner)²) per unit of frequency, that is 20·log10(rms_rad) − 10·log10(π·corner_hz)
    dBc/Hz inside. With a small corner it is the Wiener process of a free-running oscillator. The TX and RX oscillators
    are lumped into one; spurs and 1/f noise are not modelled. Source: Demir, Mehrotra and Roychowdhury, Phase noise
    in oscillators, IEEE Trans. CAS-I 47(5), 2000; AD9361 data sheet, 0.37 degrees rms at 2.4 GHz.
    """

    def __init__(self, rms_rad: float, corner: float, rng: np.random.Generator):
        self._decay = np.exp(-2 * np.pi * corner)
        self._step = rms_rad * np.sqrt(1 - self._decay**2)
        self._rng = rng
        self._phase = rms_rad * rng.standard_normal()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        out = np.empty(x.size, dtype=np.complex64)
        self._phase = _wander(x, self._step * self._rng.standard_normal(x.size), self._decay, self._phase, out)
        return out
