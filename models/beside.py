"""What a network has beside its weights, and its bytes: exact buffers, and what predicts batch norm's statistics."""

from __future__ import annotations

import dataclasses
import functools
import math
import struct

import numpy as np

from airnet_sdr.dsp.errors import LinkError
from airnet_sdr.dsp.symbols import to_weights
from airnet_sdr.models.digital import compress
from airnet_sdr.models.digital.quantise import MAX_LEVEL, Quantised, dequantise, quantise, step_code, step_value
from airnet_sdr.models.statistics import MadeUp

MAX_CHANNELS = 1 << 20
_IS_BYTES, _HAS_FINE, _MEASURE, _LEAVES, _AXES = 0x80, 0x40, 0x30, 0x08, 0x07  # of the byte before shapes
MEASURE_DB = (-math.inf, 0.0, 5.0, 12.0)  # what `State.measure_db` may be


@dataclasses.dataclass(frozen=True)
class State:
    """Exact buffers, compressed (`models.packing.exact_bytes`), and what batch norm's statistics on real inputs
    differ by from those on the made-up inputs (2, num_channels) float32 (`models.statistics`).

    `made_up` are those inputs, None if `difference` is the statistics themselves; `difference` is None for a network
    without statistics, or whose sender does not know them. `step` is that in which the differences came or are sent,
    0 for that of the planned SNR (`models.payload.state.step_for`); `checksum` is that over all exact buffers of the
    sender, which travels in the manifest; `measure_db` the SNR per symbol below which the sender found statistics
    better that the receiver measures on inputs of its own.
    """

    exact: bytes = b""
    difference: np.ndarray | None = None
    made_up: MadeUp | None = None
    step: float = 0.0
    checksum: int = 0
    measure_db: float = MEASURE_DB[0]

    @property
    def num_channels(self) -> int:
        """Channels of the differences, 0 without."""
        return 0 if self.difference is None else self.difference.shape[1]

    @property
    def left(self) -> float:
        """The RMS of what steps leave of the differences, uniform within a step."""
        return self.step / math.sqrt(12)

    @property
    def is_empty(self) -> bool:
        """Whether nothing needs to be sent."""
        return not self.exact and self.difference is None

    def to_bytes(self, step: float) -> bytes:
        """Length of the exact buffers, these; number of channels, 0 for None; a byte of flags and number of axes of
        the made-up inputs (0 for None), their axes, mean and deviation (upper 16 bits of a float32 each); and the
        differences in steps of about ``step``. Lengths, channels and axes are numbers of 7 bits a byte, lowest first.
        """
        data = _number(len(self.exact)) + self.exact + _number(self.num_channels)
        if self.difference is None or not self.num_channels:
            return data
        levels, made = _in_steps(self.difference.reshape(-1).astype(np.float32), step), self.made_up
        flags = (_HAS_FINE if len(levels) > 1 else 0) | MEASURE_DB.index(self.measure_db) << 4
        if made is None:
            return data + bytes([flags]) + compress.encode(levels)
        flags |= (_IS_BYTES if made.is_bytes else 0) | (_LEAVES if made.leaves else 0) | len(made.shape)
        shape = b"".join(map(_number, made.shape))
        numbers = np.array([made.mean, made.std], ">f4").view(">u2")[::2].tobytes()
        return data + bytes([flags]) + shape + numbers + compress.encode(levels)

    @classmethod
    def from_bytes(cls, data: bytes) -> State:
        """Decode bytes of one's own, whose number of channels is right; LinkError if the bytes are invalid."""
        return CodedState.from_bytes(data).decoded


@dataclasses.dataclass(frozen=True)
class CodedState:
    """A received state whose differences are not decoded yet.

    A few bytes may claim any number of channels. Compare `num_channels` with the architecture's before the first use of
    `difference`: the work is bounded by it.

    body : the differences in steps (`models.digital.compress`), in `num_levels` tensors
    measure_db : the SNR below which the sender found statistics better that are measured on the receiver's inputs
    refinement : estimated symbols of what the steps leave, None if none were sent
    """

    exact: bytes
    num_channels: int = 0
    made_up: MadeUp | None = None
    body: bytes = b""
    num_levels: int = 1
    measure_db: float = MEASURE_DB[0]
    refinement: np.ndarray | None = None

    @classmethod
    def from_bytes(cls, data: bytes) -> CodedState:
        """Split what `State.to_bytes` wrote; LinkError if the bytes are invalid."""
        try:
            num_exact, data = _split_number(data)
            exact, data = data[:num_exact], data[num_exact:]
            num_channels, data = _split_number(data)
            if num_channels == 0:
                return cls(exact)
            if num_channels > MAX_CHANNELS:
                raise struct.error(f"{num_channels} channels")
            flags, data = data[0], data[1:]
            made, data = _split_made_up(flags, data)
        except (struct.error, IndexError) as error:
            raise LinkError(f"state: CRC right but content wrong ({error}); the sender is another version") from error
        return cls(exact, num_channels, made, data, 2 if flags & _HAS_FINE else 1, MEASURE_DB[(flags & _MEASURE) >> 4])

    @functools.cached_property
    def decoded(self) -> State:
        """The state; LinkError if the bytes are no differences of so many channels."""
        if not self.num_channels:
            return State(self.exact)
        levels = compress.decode(self.body, [2 * self.num_channels] * self.num_levels)
        numbers = np.sum([dequantise(each) for each in levels], axis=0).reshape(2, self.num_channels)
        state = State(self.exact, numbers, self.made_up, step_value(levels[-1].step_code), measure_db=self.measure_db)
        if self.refinement is None:
            return state
        rest = to_weights(self.refinement, numbers.size, 0, state.left).reshape(numbers.shape)
        return dataclasses.replace(state, difference=numbers + rest)

    @property
    def difference(self) -> np.ndarray | None:
        """The differences (2, num_channels) float32, None without channels."""
        return self.decoded.difference


def as_sent(made: MadeUp) -> MadeUp:
    """The made-up inputs with mean and deviation rounded as they travel."""
    mean, std = np.array([made.mean, made.std], np.float32).view(np.uint32) & 0xFFFF0000
    return dataclasses.replace(made, mean=_float(mean), std=_float(std))


def _in_steps(numbers: np.ndarray, step: float) -> list[Quantised]:
    """The numbers in steps that reach the largest, and if these are coarser than ``step``, the rest likewise."""
    found: list[Quantised] = []
    for _ in range(2):
        reach = float(np.abs(numbers).max(initial=0)) / (MAX_LEVEL - 1)
        found.append(quantise(numbers, step_code(max(step, reach)), 0.5))
        if reach <= step:
            break
        numbers = numbers - dequantise(found[-1])
    return found


def _split_made_up(flags: int, data: bytes) -> tuple[MadeUp | None, bytes]:
    shape = []
    for _ in range(flags & _AXES):
        size, data = _split_number(data)
        shape.append(size)
    if not shape:
        return None, data
    mean, std = struct.unpack_from(">HH", data)
    made = MadeUp(tuple(shape), bool(flags & _IS_BYTES), _float(mean << 16), _float(std << 16), bool(flags & _LEAVES))
    if not made.possible:
        raise struct.error("inputs")
    return made, data[4:]


def _float(code: int) -> float:
    return float(np.uint32(code).view(np.float32))


def _number(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low]) if not rest else bytes([0x80 | low]) + _number(rest)


def _split_number(data: bytes) -> tuple[int, bytes]:
    value = 0
    for i in range(5):
        value |= (data[i] & 0x7F) << 7 * i
        if not data[i] & 0x80:
            return value, data[i + 1 :]
    raise struct.error("a number of more than 35 bits")
