"""Payload symbols by quarter turns that both ends know, where equal ones would add up to pulses.

Symbols of a mean m, as the curves of `dsp.expansion` give to weights that are mostly near zero, add up to a pulse of
|m|·√N times the RMS in each OFDM symbol of N subcarriers: it is clipped by a converter, and taken for a radar's by
receivers. Turned by 0, 90, 180 or 270 degrees at random they have no mean. A burst says in its header that its stream
is turned; one without a mean is sent as it is.
"""

import functools

import numpy as np

from airnet_sdr.dsp.sequences import gold

SCRAMBLED = 2  # flag of the header
SEED, PERIOD = 5, 1 << 14
BLOCK = 4096  # symbols that one mean is taken of
LEAST = 0.05**2  # power of the means: a pulse of 1.4 times the RMS
CHANCE = 10  # times the power that means of independent symbols have


def needs_scrambling(stream: np.ndarray) -> bool:
    """Whether the symbols (n,) complex64 of unit average power have a mean, or parts of them one each."""
    means = np.add.reduceat(stream, np.arange(0, stream.size, BLOCK)) / min(BLOCK, stream.size)
    return bool(np.mean(np.abs(means) ** 2) > LEAST + CHANCE / min(BLOCK, stream.size))


def turn(stream: np.ndarray) -> np.ndarray:
    """The symbols (n,) complex64, each turned by its quarters."""
    return stream * _repeated(_turns(), 0, stream.size)


def turn_back(symbols: np.ndarray, start: int) -> np.ndarray:
    """Symbols (n,) complex64 from ``start`` of a stream, turned back."""
    return symbols * _repeated(_turns().conj(), start, symbols.size)


@functools.cache
def _turns() -> np.ndarray:
    """(PERIOD,) of 1, i, -1, -i, complex64: products with them are exact."""
    bits = gold(SEED, 2 * PERIOD).reshape(PERIOD, 2)
    return np.array([1, 1j, -1, -1j], np.complex64)[2 * bits[:, 0] + bits[:, 1]]


def _repeated(turns: np.ndarray, start: int, num: int) -> np.ndarray:
    first = start % PERIOD
    return np.tile(turns, -(-(first + num) // PERIOD))[first : first + num]
