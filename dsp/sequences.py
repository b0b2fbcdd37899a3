"""Pseudo-random sequences of the frame: one generator for preamble, pilots and scrambling."""

import functools

import numpy as np


def gold(c_init: int, num_bits: int) -> np.ndarray:
    """Length-31 Gold sequence of 5G NR, as uint8 bits (num_bits,).

    ``c(n) = x1(n + 1600) xor x2(n + 1600)`` with ``x1(n + 31) = x1(n + 3) + x1(n)`` started at 1 and
    ``x2(n + 31) = x2(n + 3) + x2(n + 2) + x2(n + 1) + x2(n)`` started at the bits of ``c_init``
    (3GPP TS 38.211 v16, clause 5.2.1).

    >>> gold(1, 8)
    array([0, 0, 0, 0, 0, 0, 1, 0], dtype=uint8)
    """
    skip = 1600
    first = np.eye(1, 31, dtype=np.uint8)[0]
    second = ((c_init >> np.arange(31)) & 1).astype(np.uint8)
    return _recurrent(first, (0, 3), skip + num_bits)[skip:] ^ _recurrent(second, (0, 1, 2, 3), skip + num_bits)[skip:]


def _recurrent(start: np.ndarray, taps: tuple[int, ...], num: int) -> np.ndarray:
    """Bits (num,) of ``x(n + 31) = sum of x(n + tap)`` modulo 2 that begin with ``start`` (31,).

    Over GF(2) the squared polynomial is that of the doubled delays, ``x(n + 62) = sum of x(n + 2·tap)``, and so on: the
    longer the known part, the more bits are made at a time.
    """
    bits = np.empty(max(num, 31), np.uint8)
    bits[:31] = start
    known = 31
    while known < num:
        step = 1 << (known // 31).bit_length() - 1
        count = min(num - known, (31 - max(taps)) * step)
        first = known - 31 * step
        parts = [bits[first + tap * step :][:count] for tap in taps]
        bits[known : known + count] = functools.reduce(np.bitwise_xor, parts)
        known += count
    return bits[:num]


def qpsk(bits: np.ndarray) -> np.ndarray:
    """Bits (..., 2n) to unit-power QPSK (..., n) complex64: even bits on I, odd on Q, 0 to +1/√2.

    3GPP TS 38.211, clause 5.1.3.
    """
    levels = (1 - 2 * bits.astype(np.float32)) / np.float32(np.sqrt(2))
    return levels[..., 0::2] + 1j * levels[..., 1::2]
