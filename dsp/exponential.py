"""exp(x) of rows for numba kernels: a polynomial, which becomes vector instructions; calls of a library's do not."""

import math

import numpy as np
from numba import njit

TERMS = 7  # of the Taylor series of 2^x for |x| ≤ 1/2: to 1.5e-7
LEAST = -126.0  # the power of two of the smallest normal number: what is less is that
_SERIES = tuple(np.float32(math.log(2) ** n / math.factorial(n)) for n in range(TERMS))
_OCTAVES = np.float32(1 / math.log(2))
_HALF, _LEAST, _BIAS, _FRACTION_BITS = np.float32(0.5), np.float32(LEAST), np.int32(127), np.int32(23)


@njit(cache=True, nogil=True, fastmath=True)
def exponential(values, power):
    """Replace values (n,) float32, none above 0, by exp(values); power (n,) int32 is room to work in."""
    twos = power.view(np.float32)
    for i in range(values.size):
        octaves = max(values[i] * _OCTAVES, _LEAST)
        whole = np.floor(octaves + _HALF)
        part = octaves - whole
        total = _SERIES[-1]
        for n in range(TERMS - 1):
            total = total * part + _SERIES[TERMS - 2 - n]
        values[i] = total
        power[i] = (np.int32(whole) + _BIAS) << _FRACTION_BITS
    for i in range(values.size):
        values[i] *= twos[i]
