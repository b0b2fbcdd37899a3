"""Messages from a receiver to the lab page: a JSON header of plain values and a few arrays, whole and bounded.

    4 bytes  MAGIC                4 bytes  length of the header, big endian
    header   JSON object, with the arrays as {name: [dtype, shape]} under "arrays"
    arrays   one after the other, little endian, C order

Whoever reads one takes it from a network: `unpack` checks every length against what came before it allocates.
"""

import dataclasses
import json
import math

import numpy as np

from airnet_sdr.dsp.errors import LinkError

MAGIC = b"aLv1"
MAX_BYTES = 1 << 18  # of a message
MAX_HEADER_BYTES = 1 << 16
DTYPES = ("<c8", "<f4", "|u1")  # all that a message may carry


@dataclasses.dataclass(frozen=True)
class Message:
    """Plain values by name, and arrays by name."""

    values: dict
    arrays: dict[str, np.ndarray]


def pack(message: Message) -> bytes:
    """The message as bytes; LinkError if it exceeds the bounds, or has an array of another type or a number
    that is not finite."""
    arrays = {name: np.ascontiguousarray(array) for name, array in message.arrays.items()}
    listed = {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()}
    if any(dtype not in DTYPES for dtype, _ in listed.values()):
        raise LinkError(f"a live message carries arrays of {', '.join(DTYPES)}; got {listed}")
    try:
        header = json.dumps({**message.values, "arrays": listed}, allow_nan=False).encode()
    except ValueError as error:
        raise LinkError(f"a live message carries finite numbers alone: {error}") from error
    content = b"".join([MAGIC, len(header).to_bytes(4, "big"), header, *(array.tobytes() for array in arrays.values())])
    if len(header) > MAX_HEADER_BYTES or len(content) > MAX_BYTES:
        raise LinkError(f"a live message has at most {MAX_BYTES} bytes; got {len(content)}, header {len(header)}")
    return content


def unpack(content: bytes) -> Message:
    """The inverse of `pack`; LinkError for anything else."""
    if len(content) > MAX_BYTES or content[:4] != MAGIC:
        raise LinkError(f"no live message: {len(content)} bytes that begin with {bytes(content[:4]).hex()}")
    start = 8 + int.from_bytes(content[4:8], "big")
    try:
        values = json.loads(content[8:start])
        json.dumps(values, allow_nan=False)  # as `pack`: finite numbers alone
        listed = values.pop("arrays")
        arrays = {}
        for name, (dtype, shape) in listed.items():
            if dtype not in DTYPES or len(shape) > 4 or not all(isinstance(n, int) and n >= 0 for n in shape):
                raise ValueError(f"array {name} is {dtype} {shape}")
            size = math.prod(shape)
            arrays[name] = np.frombuffer(content, dtype, size, start).reshape(shape)
            start += arrays[name].nbytes
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise LinkError(f"a damaged live message of {len(content)} bytes: {error}") from error
    if start != len(content):
        raise LinkError(f"a damaged live message: {len(content)} bytes, where its header counts {start}")
    return Message(values, arrays)
