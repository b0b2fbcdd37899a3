"""Interleaver: spreads the payload stream over the frames of a burst and the slots of each frame.

Stream index ``i = j·F + r`` goes to frame ``(r·a) mod F``, slot ``(j·q + f·b) mod M`` of that frame's M payload
slots, with a and b near the golden section and q near √M. Neighbours in the stream (copies of one symbol, weights of
one layer) so lie in different frames and on different subcarriers: a lost frame takes every F-th symbol of each layer,
a lost OFDM symbol a sparse sample of that.
"""

import math

import numpy as np
from numba import njit

from dsp.frame import DEFAULT_FORMAT, FrameFormat, Header, payload_slots

GOLDEN = 0.6180339887  # multiples of the golden section are spread most evenly (Knuth, TAOCP 6.4)
TILE = 16  # of a transposition: 128 bytes of a row at a time


def coprime(modulus: int, least: float) -> int:
    """The first number from ``least`` up that is coprime to ``modulus``: steps of it visit every residue."""
    stride = max(1, round(least))
    while math.gcd(stride, modulus) != 1:
        stride += 1
    return stride


def _strides(header: Header, fmt: FrameFormat):
    """Residue r of the frame, the slots M, the step q and the first slot (f·b) mod M."""
    slots = payload_slots(header, fmt)
    between_frames = coprime(header.num_frames, GOLDEN * header.num_frames)
    residue = header.frame * pow(between_frames, -1, header.num_frames) % header.num_frames
    # steps of about √M are cheap to follow in memory and put neighbours some hundred subcarriers apart
    return residue, slots, coprime(slots, math.sqrt(slots)), header.frame * round(GOLDEN * slots / 3) % slots


def deal(stream: np.ndarray, num_frames: int) -> np.ndarray:
    """Stream (n,) to rows (num_frames, ceil(n/num_frames)): row r holds stream indices r modulo num_frames, then 0s."""
    rows = np.zeros((num_frames, -(-stream.size // num_frames)), stream.dtype)
    _deal(stream, rows)
    return rows


def collect(rows: np.ndarray, num: int, start: int = 0) -> np.ndarray:
    """The inverse of `deal`: ``num`` elements of the stream from ``start`` on; what lies past it stays out."""
    part = np.empty(num, rows.dtype)
    _collect(rows, start, part)
    return part


def interleave(rows: np.ndarray, header: Header, fmt: FrameFormat = DEFAULT_FORMAT) -> np.ndarray:
    """Rows of the payload stream (see `deal`) to the payload slots (M,) of the header's frame; the rest is 0."""
    residue, slots, step, first = _strides(header, fmt)
    out = np.zeros(slots, np.complex64)
    _scatter(rows[residue], step, first, out)
    return out


def accumulate(slots: np.ndarray, header: Header, rows: np.ndarray, fmt: FrameFormat = DEFAULT_FORMAT) -> None:
    """The inverse of `interleave`: add payload slots (M,) of the header's frame to its row of rows (num_frames, M)."""
    residue, _, step, first = _strides(header, fmt)
    _gather(slots, step, first, rows[residue])


@njit(cache=True, nogil=True)
def _scatter(row, step, first, out):
    position = first
    for j in range(row.size):
        out[position] = row[j]
        position += step
        if position >= out.size:
            position -= out.size


@njit(cache=True, nogil=True)
def _gather(slots, step, first, row):
    position = first
    for j in range(slots.size):
        row[j] += slots[position]
        position += step
        if position >= slots.size:
            position -= slots.size


@njit(cache=True, nogil=True)
def _deal(stream, rows):
    num_frames = rows.shape[0]
    for tile in range(0, rows.shape[1], TILE):
        for r in range(num_frames):
            for j in range(tile, min(tile + TILE, (stream.size - r + num_frames - 1) // num_frames)):
                rows[r, j] = stream[j * num_frames + r]


@njit(cache=True, nogil=True)
def _collect(rows, start, part):
    num_frames = rows.shape[0]
    for r in range(num_frames):
        j = (start - r + num_frames - 1) // num_frames
        for i in range(j * num_frames + r - start, part.size, num_frames):
            part[i] = rows[r, j]
            j += 1
