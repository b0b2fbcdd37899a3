"""The state of a network beside its weights, coded: integer buffers that changed, and what predicts batch norm.

These are few bytes that must be exact or nearly so: at -5 dB an analog symbol would need some hundred copies for what
two or three bits do. They travel as the manifest does, under a polar code in QPSK, in blocks. A bit uses 6 symbols,
decodable at -6.5 dB; planned for less than -5 dB more, decodable 1.5 dB or more below the plan; planned for a higher
SNR fewer, decodable at least 5 dB below it. What the steps of batch norm's numbers leave follows as analog symbols, so
that a good channel brings them nearly exactly.
"""

import dataclasses
import struct
from typing import ClassVar

import numpy as np

from airnet_sdr.dsp import control, symbols
from airnet_sdr.dsp.errors import InputError, NothingReceivedError
from airnet_sdr.dsp.frame import MANIFEST_CRC_BITS
from airnet_sdr.dsp.symbols import num_pairs
from airnet_sdr.models.beside import CodedState, State
from airnet_sdr.models.payload.soft import SoftSymbols

MAX_BLOCK = 1024  # bytes
MAX_BYTES = 1 << 20
USES_PER_BIT = ((10.0, 2), (5.0, 3), (0.0, 4), (-5.0, 6), (-8.0, 12))  # from these planned SNRs in dB on
MOST_USES = 24  # for each bit, below them
LARGEST_STEP = 0.25  # of log variance and normalised mean, planned for 0 dB or less
_BODY = struct.Struct(">IBI")


@dataclasses.dataclass(frozen=True)
class StatePayload:
    """The number of bytes, the symbols for each bit, and how many numbers are refined by analog symbols."""

    kind: ClassVar[str] = "state"
    role: ClassVar[str] = "state"
    num_bytes: int
    uses_per_bit: int
    num_refined: int = 0

    @classmethod
    def plan(cls, state: State, snr_db: float) -> "StatePayload":
        """The payload of a state for the planned SNR per symbol; InputError if it has too many bytes."""
        num_bytes = len(state.to_bytes(state.step or step_for(snr_db)))
        if num_bytes > MAX_BYTES:
            raise InputError(
                f"the integer buffers that differ from a new network's and batch norm have {num_bytes} bytes, "
                f"compressed, {MAX_BYTES} is the most; make integer buffers in __init__, or with persistent=False"
            )
        num_refined = 0 if state.difference is None else state.difference.size
        return cls(num_bytes, uses_for(snr_db), num_refined)

    def encode(self, state: State, snr_db: float) -> np.ndarray:
        """The symbols (num_symbols,) complex64 of a state planned for the SNR: QPSK, then analog ones."""
        data = state.to_bytes(state.step or step_for(snr_db))
        coarse, padded = State.from_bytes(data), data.ljust(self.num_blocks * self.block_bytes, b"\0")
        blocks = [padded[i : i + self.block_bytes] for i in range(0, len(padded), self.block_bytes)]
        coded = [control.encode_block(block, self.block_uses) for block in blocks]
        if self.num_refined:
            coded.append(symbols.to_symbols((state.difference - coarse.difference).reshape(-1), 0, coarse.left))
        return np.concatenate(coded)

    def decode(self, received: SoftSymbols) -> CodedState:
        """The state; NothingReceivedError if a block did not arrive, LinkError for invalid bytes."""
        blocks, end = [], self.num_blocks * self.block_uses
        for start in range(0, end, self.block_uses):
            llr = np.zeros(control.word_bits(self.block_uses), np.float32)
            control.add_llr(received.soft(start, self.block_uses)[0], 0, llr)
            block = control.decode_block(llr, self.block_bytes)
            if block is None:
                raise NothingReceivedError(
                    f"the {self.num_bytes} bytes of buffers and batch norm were not decoded; listen for more cycles, "
                    "raise the SNR, or plan for a lower --snr-db"
                )
            blocks.append(block)
        state = CodedState.from_bytes(b"".join(blocks)[: self.num_bytes])
        if not state.num_channels or 2 * state.num_channels != self.num_refined:
            return state
        analog, _ = symbols.linear_mmse(*received.soft(end, num_pairs(self.num_refined)))
        return dataclasses.replace(state, refinement=analog)

    @property
    def num_blocks(self) -> int:
        """Code words."""
        return -(-self.num_bytes // MAX_BLOCK)

    @property
    def block_bytes(self) -> int:
        """Bytes of each code word."""
        return -(-self.num_bytes // self.num_blocks)

    @property
    def block_uses(self) -> int:
        """Symbols of each code word."""
        return self.uses_per_bit * (8 * self.block_bytes + MANIFEST_CRC_BITS)

    def num_symbols(self, numels: list[int]) -> int:
        """Payload symbols of all code words, and of what refines their numbers."""
        return self.num_blocks * self.block_uses + num_pairs(self.num_refined)

    def describe(self, name: str, stream: np.ndarray) -> list[str]:
        """One line about bytes and symbols."""
        return [f"{name}, batch norm and buffers: {self.num_bytes} bytes on {stream.size} symbols"]

    def to_bytes(self) -> bytes:
        """Number of bytes (32 bits), symbols a bit (8 bits), numbers refined (32 bits)."""
        return _BODY.pack(self.num_bytes, self.uses_per_bit, self.num_refined)

    @classmethod
    def from_bytes(cls, body: bytes) -> tuple["StatePayload", bytes]:
        """Decode; the payload and the remaining bytes. struct.error for invalid bytes."""
        num_bytes, uses_per_bit, num_refined = _BODY.unpack_from(body)
        if not (1 <= num_bytes <= MAX_BYTES and 1 <= uses_per_bit <= MOST_USES):
            raise struct.error(f"a state of {num_bytes} bytes, {uses_per_bit} symbols a bit")
        return cls(num_bytes, uses_per_bit, num_refined), body[_BODY.size :]


def uses_for(snr_db: float) -> int:
    """Symbols for each bit of a state planned for an SNR per symbol."""
    return next((uses for least, uses in USES_PER_BIT if snr_db >= least), MOST_USES)


def step_for(snr_db: float) -> float:
    """The step of log variances and normalised means, planned for an SNR per symbol."""
    return LARGEST_STEP * 10 ** (-max(snr_db, 0) / 20)
