"""Alignment of preambles that were found: timing to a sample, carrier offset by the peak of the periodogram.

Kernels of `dsp.sync`.
"""

import numpy as np
from numba import njit

TIMING_REACH = 2  # samples that a preamble may be off its expected place


@njit(cache=True, nogil=True)
def align_preambles(samples, reference, reference_energy, reach, starts, cfo, coherence):
    """Move starts and carrier offsets to the best near them; coherence stays 0 where the samples do not suffice."""
    for m in range(starts.size):
        starts[m] += best_shift(samples, starts[m], reference, cfo[m], reach)
        if starts[m] < 0 or starts[m] + reference.size > samples.size:
            continue
        received = samples[starts[m] : starts[m] + reference.size]
        energy = 0.0
        for value in received:
            energy += value.real * value.real + value.imag * value.imag
        cfo[m], power = _refine_tone(received, reference, cfo[m])
        if energy > 0:
            coherence[m] = power / (energy * reference_energy)


@njit(cache=True, nogil=True, fastmath=True)
def best_shift(samples, start, reference, cfo, reach=TIMING_REACH):
    """The shift within ``reach`` samples at which the preamble, turned by cfo, correlates best."""
    largest, found = np.float32(-1), 0
    turned = np.empty_like(reference)
    step, phasor = np.exp(-1j * cfo), 1 + 0j
    for n in range(reference.size):
        turned[n] = reference[n].conjugate() * phasor
        phasor *= step
    for shift in range(-reach, reach + 1):
        first = start + shift
        if first < 0 or first + reference.size > samples.size:
            continue
        total = np.complex64(0)
        for n in range(reference.size):
            total += samples[first + n] * turned[n]
        power = total.real * total.real + total.imag * total.imag
        if power > largest:
            largest, found = power, shift
    return found


@njit(cache=True, nogil=True)
def _refine_tone(received, reference, cfo):
    """Newton's method on the periodogram |Σ y[n]·s*[n]·exp(-j·cfo·n)|²: (cfo, peak power)."""
    tone = received * np.conj(reference)
    middle = (tone.size - 1) / 2
    power = 0.0
    for _ in range(4):
        a0 = a1 = a2 = 0j
        step = np.exp(-1j * cfo)
        phasor = np.exp(1j * cfo * middle)
        for n in range(tone.size):
            value = tone[n] * phasor
            t = n - middle
            a0 += value
            a1 += t * value
            a2 += t * t * value
            phasor *= step
        power = abs(a0) ** 2
        slope = 2 * (a0.conjugate() * -1j * a1).real
        curvature = 2 * (abs(a1) ** 2 - (a0.conjugate() * a2).real)
        if curvature >= 0:
            break
        cfo -= slope / curvature
    return cfo, power
