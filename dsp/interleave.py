"""Interleaver: spreads the payload stream over the frames of a burst and the slots of each frame.

Stream index ``i = j·F + r`` goes to frame ``(r·a) mod F``, slot ``(j·q + f·b) mod M`` of that frame's M payload
slots, with a and b near the golden section and q near √M. Neighbours in the stream (copies of one symbol, weights of
one layer) lie in different frames and on different subcarriers: a lost frame erases every F-th symbol of each layer, a
lost OFDM symbol a sparse sample of those.
"""

import functools
import math

import numpy as np
from numba import njit

from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat, Header, payload_slots

GOLDEN = 0.6180339887  # multiples of the golden section are spread most evenly (Knuth, TAOCP 6.4)
TILE = 64  # of a transposition: 512 bytes of a row at a time
LEAST_LIKENESS = 10  # standard deviations of chance that the likeness of the same content exceeds it by
DEAL_COLUMNS = 1024  # a call's


def coprime(modulus: int, least: float) -> int:
    """The first number from ``least`` up that is coprime to ``modulus``: steps of it visit every residue."""
    stride = max(1, round(least))
    while math.gcd(stride, modulus) != 1:
        stride += 1
    return stride


def _strides(header: Header, slots: int):
    """Residue r of the frame, the step q and the first slot (f·b) mod M, of M slots."""
    residue = header.frame * _frame_inverse(header.num_frames) % header.num_frames
    return residue, _slot_step(slots), header.frame * round(GOLDEN * slots / 3) % slots


@functools.lru_cache(maxsize=64)
def _frame_inverse(num_frames: int) -> int:
    return pow(coprime(num_frames, GOLDEN * num_frames), -1, num_frames)


@functools.lru_cache(maxsize=64)
def _slot_step(slots: int) -> int:
    """Steps of about √M are cheap to follow in memory and put neighbours some hundred subcarriers apart."""
    return coprime(slots, math.sqrt(slots))


def deal(stream: np.ndarray, num_frames: int, run=map) -> np.ndarray:
    """Stream (n,) to rows (num_frames, ceil(n/num_frames)): row r holds stream indices r modulo num_frames, then 0s.

    ``run`` maps a function over groups of columns, `map` or an executor's.
    """
    rows = np.zeros((num_frames, -(-stream.size // num_frames)), stream.dtype)

    def part(first):
        _deal(stream, rows, first, min(first + DEAL_COLUMNS, rows.shape[1]))

    for _ in run(part, range(0, rows.shape[1], DEAL_COLUMNS)):
        pass
    return rows


def collect(rows: np.ndarray, num: int, start: int = 0) -> np.ndarray:
    """The inverse of `deal`: ``num`` elements of the stream from ``start`` on; what lies past it stays out."""
    part = np.empty(num, rows.dtype)
    _collect(rows, start, part)
    return part


def interleave(rows: np.ndarray, headers: list[Header], fmt: FrameFormat = DEFAULT_FORMAT) -> np.ndarray:
    """Rows of the payload stream (see `deal`) to the payload slots (frames, M) of the headers' frames, 0 where none."""
    slots = payload_slots(headers[0], fmt)
    residues, steps, first = zip(*(_strides(header, slots) for header in headers), strict=True)
    out = np.zeros((len(headers), slots), np.complex64)
    _scatter(rows, np.array(residues), steps[0], np.array(first), out)
    return out


def accumulate(slots: np.ndarray, header: Header, rows: np.ndarray) -> None:
    """The inverse of `interleave`: add payload slots (M,) of the header's frame to its row of rows (num_frames, M)."""
    if slots.size != rows.shape[1]:  # the kernel would write beyond the row
        raise ValueError(f"a frame of {slots.size} payload slots does not fit rows of {rows.shape[1]}")
    residue, step, first = _strides(header, slots.size)
    _gather(slots, step, first, rows[residue])


def likeness(
    statistic: np.ndarray, information: np.ndarray, header: Header, rows: np.ndarray, row_information: np.ndarray
) -> float | None:
    """Correlation of a frame's payload with an earlier reception in its row, 1 for the same and 0 for other content.

    statistic, information : equalised symbols over noise_var (M,) complex64, and 1/noise_var (M,) float32
    rows, row_information : sums of those (num_frames, M), see `accumulate`

    With m = x·i + noise of variance i it is Re Σ m₁*m₂ / √(Σ(|m₁|² - i₁) Σ(|m₂|² - i₂)). None where noise would decide.
    """
    residue, step, first = _strides(header, statistic.size)
    common, one, two, variance = _products(statistic, information, step, first, rows[residue], row_information[residue])
    if min(one, two) <= 0 or one * two < LEAST_LIKENESS**2 * variance:
        return None
    return common / math.sqrt(one * two)


@njit(cache=True, nogil=True)
def _products(statistic, information, step, first, row, row_information):
    common = one = two = variance = 0.0
    position = first
    for j in range(row.size):
        m, i = statistic[position], information[position]
        n, k = row[j], row_information[j]
        m_power, n_power = m.real * m.real + m.imag * m.imag, n.real * n.real + n.imag * n.imag
        if i > 0 and k > 0:
            common += m.real * n.real + m.imag * n.imag
            one += m_power - i
            two += n_power - k
            variance += m_power * n_power / 2
        position += step
        if position >= statistic.size:
            position -= statistic.size
    return common, one, two, variance


@njit(cache=True, nogil=True)
def _scatter(rows, residues, step, first, out):
    for m in range(out.shape[0]):
        row, slots = rows[residues[m]], out[m]
        position = first[m]
        for j in range(row.size):
            slots[position] = row[j]
            position += step
            if position >= slots.size:
                position -= slots.size


@njit(cache=True, nogil=True)
def _gather(slots, step, first, row):
    slots = slots.copy()  # read once from end to end, they are in the cache when they are read in steps
    position, j = first, 0
    while j < slots.size:
        count = min((slots.size - 1 - position) // step + 1, slots.size - j)  # until the end is reached
        for i in range(count):
            row[j + i] += slots[position + i * step]
        j += count
        position += count * step - slots.size


@njit(cache=True, nogil=True)
def _deal(stream, rows, first, stop):
    num_frames = rows.shape[0]
    for tile in range(first, stop, TILE):
        for r in range(num_frames):
            for j in range(tile, min(tile + TILE, stop, (stream.size - r + num_frames - 1) // num_frames)):
                rows[r, j] = stream[j * num_frames + r]


@njit(cache=True, nogil=True)
def _collect(rows, start, part):
    num_frames = rows.shape[0]
    for r in range(num_frames):
        j = (start - r + num_frames - 1) // num_frames
        for i in range(j * num_frames + r - start, part.size, num_frames):
            part[i] = rows[r, j]
            j += 1
