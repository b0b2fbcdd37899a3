"""Interleaver: spreads the payload stream over the frames of a burst and the slots of each frame.

Stream index ``i = j·F + r`` goes to frame ``(r·a) mod F``, slot ``(j·q + f·b) mod M`` of that frame's M payload slots, with
strides near the golden section. Neighbours in the stream (copies of one symbol, weights of one layer) so lie in
different frames and on different subcarriers: a lost frame takes every F-th symbol of each layer, a lost OFDM symbol a sparse
sample of that.
"""

import math

import numpy as np
from numba import njit

from dsp.frame import DEFAULT_FORMAT, FrameFormat, Header, payload_slots


def golden_stride(modulus: int) -> int:
    """The number coprime to ``modulus`` next above its golden section: steps of it spread indices evenly (Knuth, TAOCP 6.4)."""
    stride = max(1, round(0.6180339887 * modulus))
    while math.gcd(stride, modulus) != 1:
        stride += 1
    return stride


def _strides(header: Header, fmt: FrameFormat):
    """Residue r of the frame, the slots M, the step q and the first slot (f·b) mod M."""
    slots = payload_slots(header, fmt)
    residue = header.frame * pow(golden_stride(header.num_frames), -1, header.num_frames) % header.num_frames
    first = header.frame * golden_stride(max(slots // 3, 1)) % slots
    return residue, slots, golden_stride(slots), first


def interleave(stream: np.ndarray, header: Header, fmt: FrameFormat = DEFAULT_FORMAT) -> np.ndarray:
    """Payload stream (n,) complex64 to the payload slots (M,) of the header's frame; slots past the stream are 0."""
    residue, slots, step, first = _strides(header, fmt)
    out = np.zeros(slots, np.complex64)
    _scatter(stream[residue :: header.num_frames], step, first, out)
    return out


def deinterleave(slots: np.ndarray, header: Header, fmt: FrameFormat = DEFAULT_FORMAT) -> np.ndarray:
    """Payload slots (M,) of a frame to stream order (M,): element j belongs at stream index ``j·F + stream_residue``."""
    _, _, step, first = _strides(header, fmt)
    out = np.empty_like(slots)
    _gather(slots, step, first, out)
    return out


def stream_residue(header: Header, fmt: FrameFormat = DEFAULT_FORMAT) -> int:
    """The residue r modulo the number of frames of the stream indices that the header's frame carries."""
    return _strides(header, fmt)[0]


@njit(cache=True, nogil=True)
def _scatter(stream, step, first, out):
    position = first
    for j in range(stream.size):
        out[position] = stream[j]
        position += step
        if position >= out.size:
            position -= out.size


@njit(cache=True, nogil=True)
def _gather(slots, step, first, out):
    position = first
    for j in range(slots.size):
        out[j] = slots[position]
        position += step
        if position >= slots.size:
            position -= slots.size
