"""Polar code with CRC-aided successive-cancellation list decoding, in numba.

Transform ``x = u F^(⊗n)``, ``F = [[1, 0], [1, 1]]``, natural order (Arıkan 2009); the most reliable positions by
polarisation weight ``Σ b_j 2^(j/4)`` over the binary digits of the index (He et al. 2017) carry the information, the
others are frozen to 0. The decoder is the LLR-based list decoder (Balatsoukas-Stimming, Bastani Parizi, Burg 2015) with
min-sum updates; subtrees without information (rate 0) and with one bit (repetition) are decoded in one step (Sarkis et
al. 2014). An LLR is log P(0)/P(1).
"""

import functools

import numpy as np
from numba import njit

from airnet_sdr.dsp.units import limited

MAX_LLR = np.float32(1e20)  # so that no sum over a code word leaves single precision
F_NODE, G_NODE, RATE0, REPETITION, SAVE, COMBINE = range(6)


@functools.lru_cache(maxsize=64)
def info_positions(block_bits: int, num_info: int) -> np.ndarray:
    """Sorted indices (num_info,) of the information bits of a block of 2^n bits, by polarisation weight."""
    digits = np.arange(block_bits)[:, None] >> np.arange(block_bits.bit_length() - 1) & 1
    weight = digits @ 2.0 ** (np.arange(digits.shape[1]) / 4)
    return np.sort(np.argsort(weight, kind="stable")[block_bits - num_info :])


def transform(bits: np.ndarray) -> np.ndarray:
    """The polar transform of bits (..., 2^n) uint8; it is its own inverse."""
    x = np.array(bits, np.uint8)
    _butterflies(x.reshape(-1, x.shape[-1]))
    return x


@njit(cache=True, nogil=True)
def _butterflies(rows):
    for row in rows:
        half = 1
        while half < row.size:
            for start in range(0, row.size, 2 * half):
                upper, lower = row[start : start + half], row[start + half : start + 2 * half]
                for i in range(half):
                    upper[i] ^= lower[i]
            half *= 2


def encode(info: np.ndarray, block_bits: int) -> np.ndarray:
    """Information bits (..., k) to code words (..., block_bits), uint8."""
    u = np.zeros((*info.shape[:-1], block_bits), np.uint8)
    u[..., info_positions(block_bits, info.shape[-1])] = info
    return transform(u)


def bounded(llr: np.ndarray) -> np.ndarray:
    """LLRs as finite numbers, what is none as 0: the decoder sorts by their sums, and must not meet a NaN there."""
    return limited(llr, MAX_LLR)


def decode(llr: np.ndarray, num_info: int, list_size: int = 8) -> np.ndarray:
    """LLRs (2^n,) float32 to candidates (paths, num_info) uint8, the likeliest first."""
    if list_size == 1:
        return decode_rows(llr[None], num_info)
    words, metric = _decode_list(bounded(llr), _schedule(len(llr), num_info), list_size)
    order = np.argsort(metric, kind="stable")
    return transform(words[order])[:, info_positions(len(llr), num_info)]


def decode_rows(llr: np.ndarray, num_info: int) -> np.ndarray:
    """LLRs (rows, 2^n) float32 to information bits (rows, num_info) uint8, by successive cancellation alone.

    A row whose signs are a code word, as strong signals are, is decoded as that: there is none likelier.
    """
    positions = info_positions(llr.shape[1], num_info)
    u = transform(llr < 0)
    noisy = np.count_nonzero(u, axis=1) > np.count_nonzero(u[:, positions], axis=1)  # frozen bits that are not 0
    if noisy.any():
        u[noisy] = transform(_decode_rows(bounded(llr[noisy]), _schedule(llr.shape[1], num_info)))
    return u[:, positions]


@functools.lru_cache(maxsize=64)
def _schedule(block_bits: int, num_info: int) -> np.ndarray:
    """The walk over the code tree as (operation, depth) rows."""
    is_info = np.zeros(block_bits, bool)
    is_info[info_positions(block_bits, num_info)] = True
    steps = []

    def visit(start, depth):
        size = block_bits >> depth
        node = is_info[start : start + size]
        if not node.any():
            steps.append((RATE0, depth))
        elif not node[:-1].any():
            steps.append((REPETITION, depth))
        else:
            steps.append((F_NODE, depth + 1))
            visit(start, depth + 1)
            steps.append((SAVE, depth + 1))
            steps.append((G_NODE, depth + 1))
            visit(start + size // 2, depth + 1)
            steps.append((COMBINE, depth + 1))

    visit(0, 0)
    return np.array(steps, np.int32)


@njit(cache=True, nogil=True, fastmath=True)
def _decode_list(channel_llr, schedule, list_size):
    """Run the schedule for up to list_size paths; returns code words (paths, block_bits) and path metrics (paths,).

    Level d of the tree lives at offset[d] of each path's row. All paths rewrite a level at the same time, so a path
    always writes its own row and reads its parent's through a pointer; a fork copies pointers, never rows.
    """
    block = channel_llr.size
    depth_max = 0
    while block >> depth_max > 1:
        depth_max += 1
    offset = np.zeros(depth_max + 2, np.int64)
    for d in range(depth_max + 1):
        offset[d + 1] = offset[d] + (block >> d)
    llr = np.empty((list_size, 2 * block), np.float32)
    left = np.empty((list_size, 2 * block), np.uint8)
    bits = np.empty((list_size, 2 * block), np.uint8)
    llr_row = np.zeros((list_size, depth_max + 1), np.int32)
    left_row = np.zeros((list_size, depth_max + 1), np.int32)
    metric = np.zeros(list_size, np.float32)
    llr[0, :block] = channel_llr
    paths = 1
    cost = np.empty(2 * list_size, np.float32)

    for step in range(schedule.shape[0]):
        op, d = schedule[step, 0], schedule[step, 1]
        size = block >> d
        o = offset[d]
        if op == F_NODE or op == G_NODE:
            up = offset[d - 1]
            for p in range(paths):
                a = llr[llr_row[p, d - 1], up : up + size]
                b = llr[llr_row[p, d - 1], up + size : up + 2 * size]
                out = llr[p, o : o + size]
                if op == F_NODE:
                    for i in range(size):
                        low = min(abs(a[i]), abs(b[i]))
                        out[i] = low if (a[i] < 0) == (b[i] < 0) else -low
                else:
                    u = left[left_row[p, d], o : o + size]
                    for i in range(size):
                        out[i] = b[i] - a[i] if u[i] else b[i] + a[i]
            for p in range(paths):
                llr_row[p, d] = p
        elif op == RATE0:
            for p in range(paths):
                a = llr[llr_row[p, d], o : o + size]
                penalty = np.float32(0)
                for i in range(size):
                    penalty -= min(a[i], np.float32(0))
                metric[p] += penalty
                bits[p, o : o + size] = 0
        elif op == REPETITION:
            for p in range(paths):
                a = llr[llr_row[p, d], o : o + size]
                zero = one = np.float32(0)
                for i in range(size):
                    zero -= min(a[i], np.float32(0))
                    one += max(a[i], np.float32(0))
                cost[2 * p], cost[2 * p + 1] = metric[p] + zero, metric[p] + one
            keep = min(2 * paths, list_size)
            chosen = np.argsort(cost[: 2 * paths])[:keep]
            old_llr_row, old_left_row = llr_row.copy(), left_row.copy()
            for j in range(keep):
                parent = chosen[j] // 2
                llr_row[j], left_row[j] = old_llr_row[parent], old_left_row[parent]
                metric[j] = cost[chosen[j]]
                bits[j, o : o + size] = chosen[j] % 2
            paths = keep
        elif op == SAVE:
            for p in range(paths):
                left[p, o : o + size] = bits[p, o : o + size]
                left_row[p, d] = p
        else:
            up = offset[d - 1]
            for p in range(paths):
                u = left[left_row[p, d], o : o + size]
                for i in range(size):
                    bits[p, up + i] = u[i] ^ bits[p, o + i]
                    bits[p, up + size + i] = bits[p, o + i]
    return bits[:paths, :block].copy(), metric[:paths].copy()


@njit(cache=True, nogil=True)
def _decode_rows(llr, schedule):
    words = np.empty(llr.shape, np.uint8)
    for row in range(llr.shape[0]):
        words[row] = _decode_list(llr[row], schedule, 1)[0][0]
    return words
