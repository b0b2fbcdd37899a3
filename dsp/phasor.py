"""exp(2πj·turns) for numba kernels: polynomials, which become vector instructions; calls of a library's sine do not."""

import math

import numpy as np
from numba import njit


def _phasor_of(real, terms: int):
    """Taylor series of a quarter of the angle, |x| ≤ π/4, doubled twice."""
    sines = tuple(real((-1) ** n / math.factorial(2 * n + 1)) for n in range(terms))
    cosines = tuple(real((-1) ** n / math.factorial(2 * n)) for n in range(terms + 1))
    quarter, half, one, two = real(math.pi / 2), real(0.5), real(1), real(2)

    @njit(nogil=True, inline="always")
    def phasor(turns):
        x = (turns - np.floor(turns + half)) * quarter
        square = x * x
        s, c = sines[-1], cosines[-1]
        for n in range(terms - 1):
            s = s * square + sines[terms - 2 - n]
        for n in range(terms):
            c = c * square + cosines[terms - 1 - n]
        s *= x
        s, c = two * s * c, one - two * s * s
        return one - two * s * s, two * s * c

    return phasor


phasor_single = _phasor_of(np.float32, 5)  # (cos, sin) of float32 turns, to 5e-7
phasor_double = _phasor_of(np.float64, 6)  # of float64 turns, to 1e-10
