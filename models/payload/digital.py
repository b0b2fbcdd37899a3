"""Digital payload: the network compressed, coded and modulated; it arrives whole or not at all."""

import dataclasses
import struct
from collections.abc import Callable
from dataclasses import astuple
from typing import ClassVar

import numpy as np

from airnet_sdr.dsp.errors import InputError, NothingReceivedError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat
from airnet_sdr.models.beside import CodedState, State
from airnet_sdr.models.card import ModelCard
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.digital import channel_code
from airnet_sdr.models.digital.channel_code import MODULATIONS, CodedPayload
from airnet_sdr.models.digital.rate import best_payload
from airnet_sdr.models.digital.scheme import compressed, weights_of
from airnet_sdr.models.payload.base import Candidates, ReceivedWeights
from airnet_sdr.models.payload.budget import whole_budget
from airnet_sdr.models.payload.protection import select_member
from airnet_sdr.models.payload.soft import MOST_MISSING, SoftSymbols
from airnet_sdr.models.payload.state import LARGEST_STEP
from airnet_sdr.models.payload.tensors import TensorPlan
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.models.sensitivity import Sensitivity

_BODY, _STATE = struct.Struct(">IIB"), struct.Struct(">I")
_HAS_STATE = 0x80  # bit beside the coded bits a symbol: the state's bytes are told
STATE_STEPS = (0.03, 0.06, 0.1, 0.15, 0.2, LARGEST_STEP)  # of batch norm's numbers
ALL_BYTES = 1 << 40
VALIDATED = {"validation", "validation_loss"}  # accuracy and loss on examples held back, in the metadata


@dataclasses.dataclass(frozen=True)
class DigitalPlan:
    """The network, its bytes, the coded payload that carries them, and how many of the first are its state's.

    The network's own state is only its checksum: the rest is among the bytes.
    """

    checkpoint: Checkpoint
    data: bytes
    coded: CodedPayload
    state_bytes: int = 0

    @classmethod
    def of(cls, checkpoint: Checkpoint, data: bytes, coded: CodedPayload, state_bytes: int) -> "DigitalPlan":
        """The plan of a network whose state is among the bytes."""
        checksum = 0 if checkpoint.state is None else checkpoint.state.checksum
        return cls(dataclasses.replace(checkpoint, state=State(checksum=checksum)), data, coded, state_bytes)

    @property
    def card(self) -> ModelCard:
        """The card of the network."""
        return self.checkpoint.card

    @property
    def vectors(self) -> list[np.ndarray]:
        """The quantised weights, a vector (numel,) float32 per tensor."""
        return weights_of(self.data[self.state_bytes :], self.checkpoint.numels)

    @property
    def state(self) -> State | None:
        """The state as it is sent, None if there is none."""
        return State.from_bytes(self.data[: self.state_bytes]) if self.state_bytes else None


@dataclasses.dataclass(frozen=True)
class DigitalPayload:
    """Bytes, symbols and modulation, from which the channel code follows; and how many bytes are the state's, batch
    norm and integer buffers, before the weights: under the code they need fewer symbols than beside it."""

    kind: ClassVar[str] = "digital"
    unused: ClassVar[tuple[str, ...]] = ("expansion", "max_power_db", "digital_share")
    role: ClassVar[str] = "weights"
    coded: CodedPayload
    state_bytes: int = 0

    @classmethod
    def plan(cls, candidates: Candidates, config: PlanConfig, fmt: FrameFormat = DEFAULT_FORMAT) -> DigitalPlan:
        """Compress the network, or the best of several that fit, to the bytes that the budget carries."""
        sensitivity = candidates.sensitivity
        if candidates.from_folder:
            checkpoint, config = select_digital(list(candidates.checkpoints), config.protected("none"), fmt)
            sensitivity = None
        else:
            checkpoint = candidates.only
            uep = "size" if "members" in checkpoint.metadata else "none" if sensitivity is None else "auto"
            checkpoint, config = select_member(checkpoint, config.protected(uep), fmt)
        return plan_digital(checkpoint, config, sensitivity, fmt)

    @classmethod
    def encode(cls, plan: DigitalPlan, run: Callable = map) -> tuple["DigitalPayload", np.ndarray]:
        """The payload, and its symbols (num_symbols,) complex64."""
        return cls(plan.coded, plan.state_bytes), channel_code.encode(plan.data, plan.coded)

    def decode(self, received: SoftSymbols, numels: list[int], estimator: str = "linear") -> ReceivedWeights:
        """The weights exactly as sent; NothingReceivedError if a code block was not decoded."""
        data = None
        if self.coded.num_symbols <= MOST_MISSING * received.symbols_received:
            data = channel_code.decode_from(received.soft, self.coded)
        if data is None:
            raise NothingReceivedError(
                f"the digital payload of {self.coded.num_blocks} code blocks was not decoded: a digital model arrives "
                "whole or not at all; raise the SNR, listen for more cycles, or plan for a lower --snr-db"
            )
        return self.unpacked(data, numels)

    def unpacked(self, data: bytes, numels: list[int]) -> ReceivedWeights:
        """The weights and the state of the decoded bytes."""
        state = CodedState.from_bytes(data[: self.state_bytes]) if self.state_bytes else None
        return ReceivedWeights(weights_of(data[self.state_bytes :], numels), [None] * len(numels), state=state)

    def num_symbols(self, numels: list[int]) -> int:
        """Payload symbols of the code words."""
        return self.coded.num_symbols

    def tensor_plans(self, numels: list[int]) -> list[TensorPlan | None]:
        """None for every tensor: no symbol is analog."""
        return [None] * len(numels)

    def describe(self, name: str, stream: np.ndarray) -> list[str]:
        """One line about bytes, modulation and code."""
        coded = self.coded
        beside = f", {self.state_bytes} of them batch norm and buffers," if self.state_bytes else ""
        return [
            f"{name}: {coded.num_bytes} bytes{beside} on {coded.num_symbols} symbols, "
            f"{MODULATIONS[coded.bits_per_symbol]}, code rate {coded.block.rate:.2f}, {coded.num_blocks} code blocks"
        ]

    def to_bytes(self) -> bytes:
        """Bytes and symbols (32 bits each), coded bits a symbol (7 bits) behind a bit that says whether the bytes of a
        state follow (32 bits)."""
        num_bytes, num_symbols, bits_per_symbol = astuple(self.coded)
        if not self.state_bytes:
            return _BODY.pack(num_bytes, num_symbols, bits_per_symbol)
        return _BODY.pack(num_bytes, num_symbols, bits_per_symbol | _HAS_STATE) + _STATE.pack(self.state_bytes)

    @classmethod
    def from_bytes(cls, body: bytes) -> tuple["DigitalPayload", bytes]:
        """Decode; returns the payload and the remaining bytes."""
        num_bytes, num_symbols, bits_per_symbol = _BODY.unpack_from(body)
        coded, body, state = CodedPayload(num_bytes, num_symbols, bits_per_symbol & ~_HAS_STATE), body[_BODY.size :], 0
        if bits_per_symbol & _HAS_STATE:
            (state,), body = _STATE.unpack_from(body), body[_STATE.size :]
            if not 0 < state <= num_bytes:
                raise struct.error(f"a state of {state} bytes among {num_bytes}")
        return cls(coded, state), body


def plan_digital(
    checkpoint: Checkpoint,
    config: PlanConfig,
    sensitivity: Sensitivity | None = None,
    fmt: FrameFormat = DEFAULT_FORMAT,
) -> DigitalPlan:
    """Compressed weights behind their state, and the coded payload that carries the most bytes at ``snr_db``.

    The payload fills the budget; without one, the symbols of the weights sent linearly ``copies`` times.
    """
    coded = best_payload(coded_budget(checkpoint, config, fmt), config.snr_db)
    damage = None if sensitivity is None else sensitivity.damage(list(checkpoint.tensors))
    grid_db = None if sensitivity is None else sensitivity.snr_grid_db
    data, num_state = packed(checkpoint, coded.num_bytes, damage, grid_db)
    return DigitalPlan.of(checkpoint, data, coded, num_state)


def coded_budget(
    checkpoint: Checkpoint, config: PlanConfig, fmt: FrameFormat = DEFAULT_FORMAT, more_bytes: int = 0
) -> int:
    """Payload symbols of a digital plan: `whole_budget` without symbols for a state."""
    return whole_budget(dataclasses.replace(checkpoint, state=None), config, fmt, more_bytes)


def state_bytes(checkpoint: Checkpoint, step: float = STATE_STEPS[0]) -> bytes:
    """The state of a digital network in steps of that size, which precedes its weights; b"" if it has none."""
    state = checkpoint.state
    return b"" if state is None or state.is_empty else state.to_bytes(step)


def packed(checkpoint: Checkpoint, num_bytes: int, damage=None, snr_grid_db=None) -> tuple[bytes, int]:
    """The state and the weights in at most ``num_bytes``, and how many of the bytes are the state's.

    Its steps are the finest that leave a network trained for bits its levels, otherwise the coarsest. InputError if
    they do not fit.
    """
    state = state_bytes(checkpoint)
    if state:
        needed = len(compressed(checkpoint, ALL_BYTES)) if "bits" in checkpoint.metadata else 0
        for step in STATE_STEPS:
            state = state_bytes(checkpoint, step)
            if len(state) + needed <= num_bytes:
                break
        if len(state) >= num_bytes:
            raise InputError(
                f"batch norm and buffers have {len(state)} bytes, {num_bytes} are carried; raise the SNR or the budget"
            )
    return state + compressed(checkpoint, num_bytes - len(state), damage, snr_grid_db), len(state)


def select_digital(
    checkpoints: list[Checkpoint], config: PlanConfig, fmt: FrameFormat = DEFAULT_FORMAT
) -> tuple[Checkpoint, PlanConfig]:
    """Select the best fitting network trained for bits (`models.entropy`); returns it, and the config with its budget.

    The best has the least loss on examples held back in its metadata, or, where that of one is unknown, the highest
    accuracy.
    """
    trained = [each for each in checkpoints if "bits" in each.metadata and VALIDATED & each.metadata.keys()]
    if not trained:
        raise InputError("none of these networks was trained for a number of bits; make some with train.py --bits")
    budget = max(coded_budget(checkpoint, config, fmt) for checkpoint in trained)
    num_bits = 8 * best_payload(budget, config.snr_db).num_bytes
    fitting = [checkpoint for checkpoint in trained if least_bits(checkpoint) <= num_bits]
    if not fitting:
        least = min(map(least_bits, trained))
        raise InputError(
            f"the smallest of these networks has {least} bits, {budget} symbols at {config.snr_db:g} dB carry "
            f"{num_bits}; raise `payload_uses` or `channel_uses`"
        )
    by_loss = all("validation_loss" in checkpoint.metadata for checkpoint in fitting)

    def loss(checkpoint):
        metadata = checkpoint.metadata
        return float(metadata["validation_loss"]) if by_loss else -float(metadata.get("validation", 0))

    selected = min(fitting, key=loss)
    return selected, dataclasses.replace(config, payload_uses=budget, channel_uses=None)


def least_bits(checkpoint: Checkpoint, step: float = LARGEST_STEP) -> int:
    """The bits of a network trained for a number of bits, and of its state in steps of that size."""
    return int(checkpoint.metadata["bits"]) + 8 * len(state_bytes(checkpoint, step))
