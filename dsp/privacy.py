"""Payload symbols under a keystream: permuted within blocks, and each turned by its own phase.

A symbol x at place i of a block goes to place π⁻¹(i), times exp(2πj·p/256). The permutation π (Fisher and Yates, by
Durstenfeld's algorithm, CACM 7(7), 1964) and the phases p come from a keystream, 32 and 8 bits a symbol. Powers,
noise and SNR stay: without the keystream the same symbols are received, in another order and with random phases.
"""

import functools
from collections.abc import Callable

import numpy as np
from numba import njit

BLOCK_SYMBOLS = 1 << 15  # permuted together: a block fits a core's cache
KEY_BYTES = 5  # of keystream, a symbol
KEPT_BLOCKS = 32  # turned back, as tensors share blocks
TURNS = np.exp(2j * np.pi * np.arange(256) / 256).astype(np.complex64)

Keystream = Callable[[int, int], bytes]  # of a block: its number and how many bytes


def scramble(stream: np.ndarray, keystream: Keystream, run: Callable = map) -> np.ndarray:
    """The stream (n,) complex64, permuted and turned. ``run`` maps over blocks, `map` or an executor's."""
    out = np.empty_like(stream)

    def block(start):
        part = stream[start : start + BLOCK_SYMBOLS]
        _scramble(part, *_drawn(keystream, start // BLOCK_SYMBOLS, part.size), TURNS, out[start : start + part.size])

    for _ in run(block, range(0, stream.size, BLOCK_SYMBOLS)):
        pass
    return out


class Unscrambled:
    """The received symbols of a burst in their own order and phase: `models.payload.SoftSymbols` over another one.

    ``num`` symbols of ``received`` were scrambled.
    """

    def __init__(self, received, keystream: Keystream, num: int):
        self._received, self._keystream, self._num = received, keystream, num
        self._block = functools.lru_cache(maxsize=KEPT_BLOCKS)(self._find_block)

    @property
    def run(self) -> Callable:
        """That of the burst."""
        return self._received.run

    @property
    def capacity(self) -> int:
        """That of the burst."""
        return self._received.capacity

    @property
    def symbols_received(self) -> int:
        """That of the burst."""
        return self._received.symbols_received

    def soft(self, start: int, num: int) -> tuple[np.ndarray, np.ndarray]:
        """For ``num`` symbols from ``start``: equalised symbols over their noise_var (num,) complex64, and 1/noise_var
        (num,) float32; 0 past the last."""
        statistic, information = np.zeros(num, np.complex64), np.zeros(num, np.float32)
        stop = min(start + num, self._num)
        for number in range(start // BLOCK_SYMBOLS, -(-stop // BLOCK_SYMBOLS)):
            first = number * BLOCK_SYMBOLS
            place, end = max(start, first), min(stop, first + BLOCK_SYMBOLS)
            for out, block in zip((statistic, information), self._block(number), strict=True):
                out[place - start : end - start] = block[place - first : end - first]
        return statistic, information

    def _find_block(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        start = number * BLOCK_SYMBOLS
        num = min(BLOCK_SYMBOLS, self._num - start)
        statistic, information = self._received.soft(start, num)
        out = np.empty(num, np.complex64), np.empty(num, np.float32)
        _unscramble(statistic, information, *_drawn(self._keystream, number, num), TURNS, *out)
        return out


def _drawn(keystream: Keystream, number: int, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Words (num,) uint32 that the permutation follows from, and phases (num,) uint8."""
    data = keystream(number, KEY_BYTES * num)
    return np.frombuffer(data, "<u4", num), np.frombuffer(data, np.uint8, num, 4 * num)


@njit(cache=True, nogil=True)
def _permutation(words):
    order = np.arange(words.size, dtype=np.int32)
    for i in range(words.size - 1, 0, -1):
        j = (np.uint64(words[i]) * np.uint64(i + 1)) >> np.uint64(32)
        order[i], order[j] = order[j], order[i]
    return order


@njit(cache=True, nogil=True)
def _scramble(stream, words, phases, turns, out):
    order = _permutation(words)
    for i in range(stream.size):
        out[i] = stream[order[i]] * turns[phases[i]]


@njit(cache=True, nogil=True)
def _unscramble(statistic, information, words, phases, turns, statistic_out, information_out):
    order = _permutation(words)
    for i in range(order.size):
        statistic_out[order[i]] = statistic[i] * np.conj(turns[phases[i]])
        information_out[order[i]] = information[i]
