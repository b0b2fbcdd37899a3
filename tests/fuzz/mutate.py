"""Mutations: of bytes, of values in a tree as JSON has it, and of numbers at the edges of their types.

All draw from a `random.Random`, which is several times as quick as other generators for a few numbers at a time.
"""

import random
from collections.abc import Callable, Sequence

EDGES = (
    0,
    1,
    2,
    3,
    7,
    8,
    15,
    16,
    31,
    32,
    63,
    64,
    127,
    128,
    254,
    255,
    256,
    32767,
    32768,
    65533,
    65534,
    65535,
    2**31 - 1,
)
LONGEST = 1 << 12  # bytes of an input
HOSTILE = (
    None, True, False, 0, 1, -1, 0.5, 2**31, 2**63, 2**64, 10**30, 1e308, float("inf"), float("nan"), "", "x", "0",
    "cf32_le", "9" * 400, "nan", "-1", "a" * 300, "\0", "é", [], {}, [[]], [None], [0] * 50, {"x": {}},
)  # fmt: skip


def mutated(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """The bytes with one to four changes; ``others`` are valid inputs, of which pieces may be taken."""
    found = bytearray(data)
    for _ in range(1 + int(4 * rng.random() ** 2)):
        rng.choice(CHANGES)(rng, found, others)
    return bytes(found[:LONGEST])


def _overwrite(rng, data, others):
    width = rng.choice((1, 1, 2, 2, 4))
    place = int(rng.random() * (len(data) + 1))
    data[place : place + width] = (rng.choice(EDGES) & (1 << 8 * width) - 1).to_bytes(
        width, rng.choice(("big", "little"))
    )


def _flip(rng, data, others):
    if data:
        data[int(rng.random() * len(data))] ^= 1 << int(8 * rng.random())


def _count(rng, data, others):
    """A step up or down: of a length, a count or a code."""
    if data:
        place = int(rng.random() * len(data))
        data[place] = (data[place] + rng.choice((-2, -1, 1, 2))) & 255


def _delete(rng, data, others):
    place = int(rng.random() * (len(data) + 1))
    del data[place : place + 1 + int(8 * rng.random())]


def _insert(rng, data, others):
    place = int(rng.random() * (len(data) + 1))
    data[place:place] = rng.randbytes(1 + int(8 * rng.random()))


def _repeat(rng, data, others):
    place = int(rng.random() * (len(data) + 1))
    data[place:place] = data[place : place + 1 + int(16 * rng.random())] * rng.choice((1, 2, 8))


def _cut(rng, data, others):
    del data[int(rng.random() * (len(data) + 1)) :]


def _splice(rng, data, others):
    if others:
        other = rng.choice(others)
        place = int(rng.random() * (min(len(data), len(other)) + 1))
        data[place:] = other[place:]


CHANGES: tuple[Callable, ...] = (
    _overwrite,
    _overwrite,
    _flip,
    _count,
    _count,
    _delete,
    _insert,
    _repeat,
    _cut,
    _splice,
)


def mutated_tree(rng: random.Random, value):
    """A tree of dictionaries, lists and plain values with one to three of its places changed."""
    for _ in range(1 + int(3 * rng.random() ** 2)):
        value = _change(rng, value)
    return value


def _change(rng, value):
    if not isinstance(value, (dict, list)) or not value or rng.random() < 0.1:
        return rng.choice(HOSTILE)
    if isinstance(value, dict):
        key = rng.choice(list(value))
        if rng.random() < 0.1:
            return {name: each for name, each in value.items() if name != key}
        return {**value, key: _change(rng, value[key])}
    place = int(rng.random() * len(value))
    if rng.random() < 0.1:
        return value[:place] + value[place + 1 :]
    return [*value[:place], _change(rng, value[place]), *value[place + 1 :]]
