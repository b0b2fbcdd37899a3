"""Pseudo-random sequences of the frame: one generator for preamble, pilots and scrambling."""

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
    x1 = np.zeros(skip + num_bits + 31, np.uint8)
    x2 = np.zeros_like(x1)
    x1[0] = 1
    x2[:31] = (c_init >> np.arange(31)) & 1
    # The recurrences reach back at least 28 steps, so 28 new bits can be made at a time.
    for start in range(0, skip + num_bits, 28):
        n = slice(start, min(start + 28, skip + num_bits))
        x1[n.start + 31 : n.stop + 31] = x1[n.start + 3 : n.stop + 3] ^ x1[n]
        x2[n.start + 31 : n.stop + 31] = (
            x2[n.start + 3 : n.stop + 3] ^ x2[n.start + 2 : n.stop + 2] ^ x2[n.start + 1 : n.stop + 1] ^ x2[n]
        )
    return x1[skip : skip + num_bits] ^ x2[skip : skip + num_bits]


def qpsk(bits: np.ndarray) -> np.ndarray:
    """Bits (..., 2n) to unit-power QPSK (..., n) complex64: even bits on I, odd on Q, 0 to +1/√2.

    3GPP TS 38.211, clause 5.1.3.
    """
    levels = (1 - 2 * bits.astype(np.float32)) / np.float32(np.sqrt(2))
    return levels[..., 0::2] + 1j * levels[..., 1::2]
