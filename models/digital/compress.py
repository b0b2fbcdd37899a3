"""Levels to bytes and back: adaptive binary arithmetic coding, every bit predicted from the levels around it.

A level is a series of binary decisions: is it 0; its sign; is its magnitude above 1, above 2, ... Several adaptive
models predict each one. Their contexts are the position in the kernel, the two preceding levels, and the mean magnitude
so far in the same output channel, the same input channel, and both. Most bits are saved in the nearly empty channels of
pruned and quantised networks. Adaptive weights mix the predictions in the logistic domain (Mahoney, Adaptive weighing
of context models for lossless data compression, 2005); the bit is coded with 16-bit probabilities. Arithmetic is
integer: every machine decodes what another encoded.

Each tensor begins with step (16 bits), shift (8), largest level (8), output channels (16) and kernel size (8); no other
parameter of the distribution is sent.
"""

import struct

import numpy as np
from numba import njit

from airnet_sdr.dsp.errors import LinkError
from airnet_sdr.models.digital.quantise import MAX_LEVEL, Quantised

_HEAD = struct.Struct(">HbBHB")
_MODELS, _BUCKETS = 5, 64  # the predictions mixed, and the contexts of each
_DECISIONS = 24  # decisions with tables of their own: 0, sign, above 1, above 2, ...; larger ones share the last
_HALF, _LIMIT = 2048, 150  # of the logistic domain, in 1/256; of a model's memory, in decisions
_FASTEST = 2  # how strongly the first decision moves a model: 1/2
_AHEAD = 4  # bytes that the decoder reads ahead; of `encode` it reads one fewer past the end

_x = np.arange(-_HALF, _HALF)
_SQUASH = np.clip(np.round(65536 / (1 + np.exp(-_x / 256))), 64, 65536 - 64).astype(np.int64)
_STRETCH = np.searchsorted(_SQUASH, np.arange(4096) * 16 + 8).clip(0, 2 * _HALF - 1).astype(np.int64) - _HALF


def encode(tensors: list[Quantised]) -> bytes:
    """All tensors of a network, in order."""
    tops = [int(np.abs(tensor.levels).max(initial=0)) for tensor in tensors]
    fields = zip(tensors, tops, strict=True)
    heads = b"".join(_HEAD.pack(tensor.step_code, tensor.shift_code, top, *tensor.layout) for tensor, top in fields)
    room = 16 + sum(tensor.levels.size for tensor in tensors)
    while True:
        coder, body = _new_coder(), np.zeros(room, np.uint8)
        for tensor, top in zip(tensors, tops, strict=True):
            if top:
                _run(tensor.levels.copy(), *tensor.layout, top, coder, body, False)
        _finish(coder, body)
        if coder[2] <= room:
            return heads + body[: coder[2]].tobytes()
        room = int(coder[2])  # more than a byte per level: the coder has counted the bytes it needs


def decode(data: bytes, numels: list[int]) -> list[Quantised]:
    """The inverse of `encode`; ``numels`` are the tensors' sizes. Zeros after the end are ignored.

    Raises LinkError if the bytes cannot be a network of these sizes. The work is bounded by the number of bytes.
    """
    start = len(numels) * _HEAD.size
    if len(data) < start:
        raise LinkError(f"{len(data)} bytes are no network of {len(numels)} tensors; the sender is another version")
    body = np.frombuffer(data, np.uint8)[start:].copy()  # one type for the compiled coder
    coder, tensors = _new_coder(), []
    _begin(coder, body)
    for i, numel in enumerate(numels):
        step, shift, top, rows, kernel = _HEAD.unpack_from(data, i * _HEAD.size)
        if top > MAX_LEVEL or not rows * kernel or numel % (rows * kernel):
            raise LinkError(
                f"levels up to {top} in {rows} channels of kernels of {kernel} are no tensor of {numel} weights; "
                "the sender is another version"
            )
        levels = np.zeros(numel, np.int32)
        if top:
            _run(levels, rows, kernel, top, coder, body, True)
        if coder[2] > body.size + _AHEAD:
            raise LinkError(f"{len(data)} bytes end within {sum(numels)} weights; the sender is another version")
        tensors.append(Quantised(levels, step, shift, (rows, kernel)))
    return tensors


def _new_coder() -> np.ndarray:
    """Low and high end of the interval, bytes written or read, and the code read: (4,) int64."""
    return np.array([0, 0xFFFFFFFF, 0, 0], np.int64)


@njit(cache=True)
def _begin(coder, body):
    for _ in range(4):
        coder[3] = (coder[3] << 8) | (body[coder[2]] if coder[2] < body.size else 0)
        coder[2] += 1


@njit(cache=True)
def _write(byte, coder, body):
    """Write the next byte; beyond the end of the buffer only count it."""
    if coder[2] < body.size:
        body[coder[2]] = byte
    coder[2] += 1


@njit(cache=True)
def _finish(coder, body):
    """Write the fewest bytes that identify the interval, assuming zeros follow."""
    for num in range(1, 5):
        unit = 1 << (32 - 8 * num)
        value = -(-coder[0] // unit) * unit
        if value <= coder[1]:
            for i in range(num):
                _write((value >> (24 - 8 * i)) & 255, coder, body)
            return


@njit(cache=True)
def _code(bit, probability, coder, body, decoding):
    """Code a bit that is 1 with ``probability`` (in 1/65536); returns the bit."""
    width = coder[1] - coder[0]
    middle = coder[0] + (width >> 16) * probability + (((width & 0xFFFF) * probability) >> 16)
    if decoding:
        bit = 1 if coder[3] <= middle else 0
    if bit:
        coder[1] = middle
    else:
        coder[0] = middle + 1
    while (coder[0] ^ coder[1]) >> 24 == 0:
        if decoding:
            coder[3] = ((coder[3] << 8) & 0xFFFFFFFF) | (body[coder[2]] if coder[2] < body.size else 0)
            coder[2] += 1
        else:
            _write(coder[1] >> 24, coder, body)
        coder[0] = (coder[0] << 8) & 0xFFFFFFFF
        coder[1] = ((coder[1] << 8) & 0xFFFFFFFF) | 255
    return bit


@njit(cache=True)
def _decide(bit, kind, context, tables, memory, mix, coder, body, decoding):
    """Predict and code one decision of a ``kind``, then adapt; ``context`` (models,) is the index into each table."""
    total = 0
    stretched = np.empty(_MODELS, np.int64)
    for m in range(_MODELS):
        stretched[m] = _STRETCH[tables[m, kind, context[m]] >> 4]
        total += mix[kind, m] * stretched[m]
    probability = _SQUASH[min(max((total >> 16) + _HALF, 0), 2 * _HALF - 1)]
    bit = _code(bit, probability, coder, body, decoding)
    error = (bit << 16) - probability
    for m in range(_MODELS):
        mix[kind, m] += (stretched[m] * error) >> 14
        seen = memory[m, kind, context[m]]
        tables[m, kind, context[m]] += ((bit * 65535) - tables[m, kind, context[m]]) // (seen + _FASTEST)
        if seen < _LIMIT:
            memory[m, kind, context[m]] = seen + 1
    return bit


@njit(cache=True)
def _bucket(magnitude, count):
    """Logarithmic class of a mean magnitude: 0 to 15."""
    mean = (64 * magnitude + 16) // (count + 2)
    bucket = 0
    while mean > 0 and bucket < 15:
        mean = 5 * mean >> 3
        bucket += 1
    return bucket


@njit(cache=True)
def _run(levels, rows, kernel, top, coder, body, decoding):
    """Code a tensor's levels (n,), or decode them into it, until the body has ended."""
    tables = np.full((_MODELS, _DECISIONS, _BUCKETS), 32768, np.int64)
    memory = np.zeros((_MODELS, _DECISIONS, _BUCKETS), np.int64)
    mix = np.full((_DECISIONS, _MODELS), 16000, np.int64)
    columns = levels.size // rows // kernel
    of_column = np.zeros(columns, np.int64)
    context = np.zeros(_MODELS, np.int64)
    before = further = place = 0
    for row in range(rows):
        of_row = 0
        for column in range(columns):
            across, down = _bucket(of_row, column * kernel), _bucket(of_column[column], row * kernel)
            in_kernel = 0
            for k in range(kernel):
                context[0] = min(k, _BUCKETS - 1)
                context[1] = min(abs(before), 3) * 4 + min(abs(further), 3)
                context[2] = across
                context[3] = down
                context[4] = min(across >> 1, 7) * 8 + min(down >> 1, 7)
                level = levels[place]
                size = abs(level)
                if _decide(1 if size else 0, 0, context, tables, memory, mix, coder, body, decoding):
                    negative = _decide(1 if level < 0 else 0, 1, context, tables, memory, mix, coder, body, decoding)
                    found = 1
                    while found < top:
                        kind = min(found + 1, _DECISIONS - 1)
                        more = 1 if size > found else 0
                        if not _decide(more, kind, context, tables, memory, mix, coder, body, decoding):
                            break
                        found += 1
                    level = -found if negative else found
                    if decoding:
                        levels[place] = level
                    in_kernel += found
                if decoding and coder[2] > body.size + _AHEAD:
                    return
                before, further, place = level, before, place + 1
            of_row += in_kernel
            of_column[column] += in_kernel
