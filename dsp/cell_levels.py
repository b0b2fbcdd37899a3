"""How strong interference is in each cell of a frame: a mixture model of the energies, with levels tied to neighbours.

Energies are relative to what noise and a symbol of unit power would have together. With ``a`` the signal's part of
that, a symbol in a cell of level g is complex Gaussian of variance ``a·s_j + (1 − a) + N_g`` with probability π_j: a
mixture of scales s_j, which can be as heavy-tailed as weights are, plus white interference N_g. The π_j are learned
from the frame itself (expectation maximisation, Dempster, Laird and Rubin 1977): many small symbols show interference
that mean energies would not, and a strong symbol among them is no evidence of any. Neighbours then speak for one
another by forward–backward recursions along frequency and along time, in which a level mostly stays, may move by a step
and rarely jumps: edges stay where they are.
"""

import functools

import numpy as np
from numba import njit

from airnet_sdr.dsp.exponential import exponential

LEVELS = 24  # none, then -6 to 54 dB over noise and signal, 3 dB apart
UNIT = 10  # index of the scale 1
SCALES = 2.0 ** np.arange(-UNIT, 5)
BINS, LOWEST = 80, -12  # of energies: two an octave, the lowest ends at 2^LOWEST
CLEAN = 0.9  # probability beforehand that a cell has no interference
STAY, JUMP_FREQUENCY, JUMP_TIME = 0.8, 0.05, 0.1
FAINT = 5  # levels below it are left out while the scales are learned
TURNS = 5  # of the expectation maximisation
NOISE_STEP_DB = 3.0

INTERFERENCE = np.concatenate([[0.0], 2.0 ** np.arange(-4, LEVELS - 5)])
PRIOR = np.array([CLEAN, *[(1 - CLEAN) / (LEVELS - 1)] * (LEVELS - 1)])
START = 2.0 ** (-0.15 * np.abs(np.arange(SCALES.size) - float(UNIT)) ** 1.5)  # of the π_j: around unit power
START /= START.sum()


@functools.lru_cache(maxsize=64)
def bin_probabilities(noise_step: int) -> np.ndarray:
    """P(bin | level, scale) (BINS, LEVELS, scales) float32, for a noise of noise_step·NOISE_STEP_DB over the signal."""
    noise = 10 ** (noise_step * NOISE_STEP_DB / 10)
    signal = 1 / (1 + noise)
    var = signal * SCALES + (1 - signal) + INTERFERENCE[:, None]
    half_octaves = np.arange(1, BINS)
    edges = 2.0 ** (LOWEST + half_octaves // 2) * (1 + half_octaves % 2 / 2)
    above = np.exp(-np.concatenate([[0.0], edges])[:, None, None] / var)
    probability = above - np.concatenate([above[1:], np.zeros_like(above[:1])])
    return np.maximum(probability, 1e-30).astype(np.float32)


def noise_steps(noise_over_signal: np.ndarray) -> np.ndarray:
    """The index of `bin_probabilities` for each of some noise-to-signal ratios."""
    steps = np.round(10 * np.log10(np.maximum(noise_over_signal, 1e-9)) / NOISE_STEP_DB)
    return np.clip(steps, -12, 12).astype(np.int64)


def level_probabilities(energies: np.ndarray, noise_over_signal: np.ndarray) -> np.ndarray:
    """Probabilities (symbols, cells, LEVELS) float32 of the levels of each cell.

    Parameters
    ----------
    energies : (symbols, cells, cell) float32, relative; those of pilots and control symbols are given below 0
    noise_over_signal : (cells,)
    """
    steps, classes = np.unique(noise_steps(noise_over_signal), return_inverse=True)
    components = np.stack([bin_probabilities(int(step)) for step in steps])
    return _levels(energies, classes, components, PRIOR, START)


@njit(cache=True, nogil=True, error_model="numpy")
def _levels(energies, classes, components, prior, start):
    num_symbols, num_cells, cell = energies.shape
    num_levels = prior.size
    bins = _bins(energies)
    share = start.astype(np.float32)
    log_prior = np.log(prior).astype(np.float32)
    log_prior[1:FAINT] = -100  # faint interference everywhere would do as well as small symbols: it must not be learned
    likelihood = np.empty((num_symbols, num_cells, num_levels), np.float32)
    table, unit_table = np.empty(components.shape[:3], np.float32), np.empty(components.shape[:3], np.float32)
    mass = np.empty(components.shape[:3], np.float32)
    belief, power = np.empty(likelihood.shape[1:], np.float32), np.empty(num_cells * num_levels, np.int32)
    # pilots and control symbols have constant modulus; of unit power, they are taken for Gaussian
    unit = np.zeros_like(share)
    unit[UNIT] = 1
    _tabulate(components, unit, unit_table)
    for turn in range(TURNS):
        _tabulate(components, share, table)
        _likelihoods(bins, classes, table, unit_table, likelihood)
        if turn == TURNS - 1:
            break
        mass[:] = 0
        for t in range(num_symbols):
            _normalised(likelihood[t], log_prior, belief, power)
            for c in range(num_cells):
                for k in range(cell):
                    if bins[t, c, k] >= 0:
                        into = mass[classes[c], bins[t, c, k]]
                        for g in range(LEVELS):
                            into[g] += belief[c, g]
        share = _shares(components, share, mass)
    return _coupled(likelihood, prior.astype(np.float32))


@njit(cache=True, nogil=True)
def _bins(energies):
    num_symbols, num_cells, cell = energies.shape
    bits = energies.view(np.int32)
    bins = np.empty(energies.shape, np.int16)
    first = 2 * (127 + LOWEST)
    for t in range(num_symbols):
        for c in range(num_cells):
            for k in range(cell):
                # the sign bit is that of a pilot or control symbol, whose bin is kept as -1 - bin
                at = min(max(((bits[t, c, k] & 0x7FFFFFFF) >> 22) - first, 0), BINS - 1)
                bins[t, c, k] = at if energies[t, c, k] >= 0 else -1 - at
    return bins


@njit(cache=True, nogil=True, fastmath=True)
def _tabulate(components, share, table):
    """log P(bin | level) of each class."""
    for q in range(components.shape[0]):
        for b in range(components.shape[1]):
            for g in range(components.shape[2]):
                total = np.float32(0)
                for j in range(share.size):
                    total += share[j] * components[q, b, g, j]
                table[q, b, g] = np.log(total)


@njit(cache=True, nogil=True, fastmath=True)
def _likelihoods(bins, classes, table, unit_table, likelihood):
    for t in range(bins.shape[0]):
        for c in range(bins.shape[1]):
            row = likelihood[t, c]
            row[:] = 0
            for k in range(bins.shape[2]):
                b = bins[t, c, k]
                of_bin = table[classes[c], b] if b >= 0 else unit_table[classes[c], -1 - b]
                for g in range(LEVELS):
                    row[g] += of_bin[g]


@njit(cache=True, nogil=True, fastmath=True)
def _normalised(likelihood, log_prior, belief, power):
    """Beliefs in the levels of each cell (cells, LEVELS), each cell by itself."""
    for c in range(belief.shape[0]):
        most = np.float32(-1e30)
        for g in range(LEVELS):
            belief[c, g] = likelihood[c, g] + log_prior[g]
            most = max(most, belief[c, g])
        for g in range(LEVELS):
            belief[c, g] -= most
    exponential(belief.reshape(power.size), power)
    for c in range(belief.shape[0]):
        total = np.float32(0)
        for g in range(LEVELS):
            total += belief[c, g]
        share = np.float32(1) / total
        for g in range(LEVELS):
            belief[c, g] *= share


@njit(cache=True, nogil=True, fastmath=True)
def _shares(components, share, mass):
    found = np.zeros_like(share)
    for q in range(components.shape[0]):
        for b in range(components.shape[1]):
            for g in range(components.shape[2]):
                if mass[q, b, g] < np.float32(1e-3):
                    continue
                total = np.float32(0)
                for j in range(share.size):
                    total += share[j] * components[q, b, g, j]
                weight = mass[q, b, g] / total
                for j in range(share.size):
                    found[j] += weight * share[j] * components[q, b, g, j]
    return found / found.sum()


@njit(cache=True, nogil=True, error_model="numpy")
def _coupled(likelihood, prior):
    """Beliefs in the levels from a cell itself and from what lies before and behind it in frequency and in time."""
    num_symbols, num_cells, num_levels = likelihood.shape
    evidence, power = np.empty_like(likelihood), np.empty(num_cells * num_levels, np.int32)
    for t in range(num_symbols):
        for c in range(num_cells):
            evidence[t, c] = likelihood[t, c] - likelihood[t, c].max()
        exponential(evidence[t].reshape(power.size), power)
    belief = evidence * prior
    message, state = np.empty(num_levels, np.float32), np.empty(num_levels, np.float32)
    over_prior = np.float32(1) / prior
    for towards in (1, -1):
        for t in range(num_symbols):
            message[:] = prior
            for i in range(num_cells):
                c = i if towards > 0 else num_cells - 1 - i
                _pass(evidence[t, c], belief[t, c], message, state, prior, over_prior, JUMP_FREQUENCY)
        for c in range(num_cells):
            message[:] = prior
            for i in range(num_symbols):
                t = i if towards > 0 else num_symbols - 1 - i
                _pass(evidence[t, c], belief[t, c], message, state, prior, over_prior, JUMP_TIME)
    for t in range(num_symbols):
        for c in range(num_cells):
            belief[t, c] /= belief[t, c].sum()
    return belief


@njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
def _pass(evidence, belief, message, state, prior, over_prior, jump):
    """Tell a cell what came along, and take along what the cell says."""
    says = np.float32(1e-30)
    for g in range(LEVELS):
        belief[g] = belief[g] * message[g] * over_prior[g] + np.float32(1e-20)
        state[g] = evidence[g] * message[g] + np.float32(1e-20)
        says += state[g]
    stay = np.float32(1 - jump) / says
    move = stay * np.float32((1 - STAY) / 2)
    anew = np.float32(jump)
    message[0] = stay * state[0] + anew * prior[0]
    message[1] = stay * np.float32(STAY) * state[1] + move * (state[1] + state[2]) + anew * prior[1]
    for g in range(2, LEVELS - 1):
        message[g] = stay * np.float32(STAY) * state[g] + move * (state[g - 1] + state[g + 1]) + anew * prior[g]
    last = LEVELS - 1
    message[last] = stay * np.float32(STAY) * state[last] + move * (state[last - 1] + state[last]) + anew * prior[last]
