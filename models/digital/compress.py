"""Levels to bytes and back: adaptive range coding (constriction), the distribution of every tensor learnt on the way.

Each tensor starts from a two-sided geometric distribution of the levels, whose mean magnitude is sent, and goes on with
the counts of what was coded so far, renewed after chunks of growing length: nothing else of the distribution is sent.
A tensor is preceded by step (16 bits), shift (8), largest level (8) and mean magnitude (8).
"""

import struct

import numpy as np

from dsp.errors import LinkError
from models.digital.quantise import MAX_LEVEL, Quantised

_HEAD = struct.Struct(">HbBB")
_PRIOR_WEIGHT = 32.0  # symbols that the first distribution counts for
_CHUNKS = 256, 8192  # symbols of the first chunk and of the longest
_MEAN_STEPS_PER_OCTAVE = 16


def encode(tensors: list[Quantised]) -> bytes:
    """All tensors of a network, in order."""
    import constriction

    encoder, heads = constriction.stream.queue.RangeEncoder(), b""
    for tensor in tensors:
        top = int(np.abs(tensor.levels).max(initial=0))
        mean = _mean_code(float(np.abs(tensor.levels).mean()) if tensor.levels.size else 0.0)
        heads += _HEAD.pack(tensor.step_code, tensor.shift_code, top, mean)
        counts = _prior(top, mean)
        for chunk in _chunks(tensor.levels.size):
            part = tensor.levels[chunk] + top
            if top:
                encoder.encode(part.astype(np.int32), _model(counts))
            counts += np.bincount(part, minlength=counts.size)
    return heads + encoder.get_compressed().astype("<u4").tobytes()


def decode(data: bytes, numels: list[int]) -> list[Quantised]:
    """The inverse; ``numels`` are the tensors' sizes. Zeros after the end do not matter.

    Raises LinkError when the bytes cannot be a network of these sizes.
    """
    import constriction

    body = len(numels) * _HEAD.size
    if len(data) < body:
        raise LinkError(f"{len(data)} bytes are no network of {len(numels)} tensors; the sender is another version")
    words = np.frombuffer(data[body : body + (len(data) - body) // 4 * 4], "<u4").astype(np.uint32)
    decoder, tensors = constriction.stream.queue.RangeDecoder(words), []
    for i, numel in enumerate(numels):
        step, shift, top, mean = _HEAD.unpack_from(data, i * _HEAD.size)
        if top > MAX_LEVEL:
            raise LinkError(f"a level of {top} where {MAX_LEVEL} is the largest; the sender is another version")
        counts = _prior(top, mean)
        levels = np.zeros(numel, np.int32)
        for chunk in _chunks(numel):
            if top:
                try:
                    levels[chunk] = decoder.decode(_model(counts), chunk.stop - chunk.start) - top
                except AssertionError as error:  # constriction's way to say so
                    raise LinkError("the bytes are no compressed network; the sender is another version") from error
            counts += np.bincount(levels[chunk] + top, minlength=counts.size)
        tensors.append(Quantised(levels, step, shift))
    return tensors


def _model(counts):
    import constriction

    return constriction.stream.model.Categorical(counts / counts.sum(), perfect=False)


def _prior(top: int, mean_code: int) -> np.ndarray:
    """Counts (2·top + 1,) of a two-sided geometric distribution, and a little of every level."""
    mean = 2.0 ** ((mean_code - 192) / _MEAN_STEPS_PER_OCTAVE)
    ratio = mean / (1 + mean)  # of a geometric distribution of that mean: near enough to begin with
    weights = ratio ** np.abs(np.arange(-top, top + 1)) + 1e-3
    return _PRIOR_WEIGHT * weights / weights.sum()


def _mean_code(mean: float) -> int:
    return int(np.clip(round(np.log2(max(mean, 1e-9)) * _MEAN_STEPS_PER_OCTAVE) + 192, 0, 255))


def _chunks(num: int):
    """Slices that cover num symbols, each as long as all before it, within limits."""
    start = 0
    while start < num:
        length = min(max(start, _CHUNKS[0]), _CHUNKS[1], num - start)
        yield slice(start, start + length)
        start += length
