"""Digital payload: the network compressed, coded and modulated; it arrives whole or not at all."""

import dataclasses
import struct
from collections.abc import Callable
from dataclasses import astuple
from typing import ClassVar

import numpy as np

from airnet_sdr.dsp.errors import InputError, NothingReceivedError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat
from airnet_sdr.models.card import ModelCard
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.digital import channel_code
from airnet_sdr.models.digital.channel_code import MODULATIONS, CodedPayload
from airnet_sdr.models.digital.rate import best_payload
from airnet_sdr.models.digital.scheme import compressed, weights_of
from airnet_sdr.models.payload.base import Candidates, ReceivedWeights, SoftSymbols
from airnet_sdr.models.payload.budget import whole_budget
from airnet_sdr.models.payload.protection import select_member
from airnet_sdr.models.payload.tensors import TensorPlan
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.models.sensitivity import Sensitivity

_BODY = struct.Struct(">IIB")
MOST_MISSING = 8  # payload symbols per received symbol: with fewer received no code word decodes; bounds memory


@dataclasses.dataclass(frozen=True)
class DigitalPlan:
    """The card of the network, its compressed bytes, and the coded payload that carries them."""

    card: ModelCard
    data: bytes
    coded: CodedPayload


@dataclasses.dataclass(frozen=True)
class DigitalPayload:
    """Bytes, symbols and modulation: the channel code follows from them."""

    kind: ClassVar[str] = "digital"
    coded: CodedPayload

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
        data, coded = plan_digital(checkpoint, config, sensitivity, fmt)
        return DigitalPlan(checkpoint.card, data, coded)

    @classmethod
    def encode(cls, plan: DigitalPlan, run: Callable = map) -> tuple["DigitalPayload", np.ndarray]:
        """The payload, and its symbols (num_symbols,) complex64."""
        return cls(plan.coded), channel_code.encode(plan.data, plan.coded)

    def decode(self, received: SoftSymbols, numels: list[int], estimator: str = "linear") -> ReceivedWeights:
        """The weights exactly as sent; NothingReceivedError if a code block was not decoded."""
        data = None
        if self.coded.num_symbols <= MOST_MISSING * received.symbols_received:
            data = channel_code.decode(*received.soft(0, self.coded.num_symbols), self.coded)
        if data is None:
            raise NothingReceivedError(
                f"the digital payload of {self.coded.num_blocks} code blocks was not decoded: a digital model arrives "
                "whole or not at all; raise the SNR, listen for more cycles, or plan for a lower --snr-db"
            )
        return ReceivedWeights(weights_of(data, numels), [None] * len(numels))

    def num_symbols(self, numels: list[int]) -> int:
        """Payload symbols of the code words."""
        return self.coded.num_symbols

    def tensor_plans(self, num_tensors: int) -> list[TensorPlan | None]:
        """None for every tensor: no symbol is analog."""
        return [None] * num_tensors

    def describe(self, name: str, stream: np.ndarray) -> list[str]:
        """One line about bytes, modulation and code."""
        coded = self.coded
        return [
            f"{name}: {coded.num_bytes} bytes on {coded.num_symbols} symbols, {MODULATIONS[coded.bits_per_symbol]}, "
            f"code rate {coded.block.rate:.2f}, {coded.num_blocks} code blocks"
        ]

    def to_bytes(self) -> bytes:
        """Bytes and symbols (32 bits each), coded bits a symbol (8 bits)."""
        return _BODY.pack(*astuple(self.coded))

    @classmethod
    def from_bytes(cls, body: bytes) -> tuple["DigitalPayload", bytes]:
        """Decode; returns the payload and the remaining bytes."""
        return cls(CodedPayload(*_BODY.unpack_from(body))), body[_BODY.size :]


def plan_digital(
    checkpoint: Checkpoint,
    config: PlanConfig,
    sensitivity: Sensitivity | None = None,
    fmt: FrameFormat = DEFAULT_FORMAT,
) -> tuple[bytes, CodedPayload]:
    """Compressed weights, and the coded payload that carries the most bytes at ``snr_db``.

    The payload fills the budget; without one, the symbols of the weights sent linearly ``copies`` times.
    """
    payload = best_payload(whole_budget(checkpoint, config, fmt), config.snr_db)
    if sensitivity is None:
        return compressed(checkpoint, payload.num_bytes), payload
    damage = sensitivity.damage(list(checkpoint.tensors))
    return compressed(checkpoint, payload.num_bytes, damage, sensitivity.snr_grid_db), payload


def select_digital(
    checkpoints: list[Checkpoint], config: PlanConfig, fmt: FrameFormat = DEFAULT_FORMAT
) -> tuple[Checkpoint, PlanConfig]:
    """Select the best fitting network trained for bits (`models.entropy`); returns it, and the config with its budget.

    The best has the highest validation accuracy in its metadata.
    """
    trained = [checkpoint for checkpoint in checkpoints if {"bits", "validation"} <= checkpoint.metadata.keys()]
    if not trained:
        raise InputError("none of these networks was trained for a number of bits; make some with train.py --bits")
    budget = max(whole_budget(checkpoint, config, fmt) for checkpoint in trained)
    num_bits = 8 * best_payload(budget, config.snr_db).num_bytes
    fitting = [checkpoint for checkpoint in trained if int(checkpoint.metadata["bits"]) <= num_bits]
    if not fitting:
        least = min(int(checkpoint.metadata["bits"]) for checkpoint in trained)
        raise InputError(
            f"the smallest of these networks has {least} bits, {budget} symbols at {config.snr_db:g} dB carry "
            f"{num_bits}; raise `payload_uses` or `channel_uses`"
        )
    selected = max(fitting, key=lambda checkpoint: float(checkpoint.metadata["validation"]))
    return selected, dataclasses.replace(config, payload_uses=budget, channel_uses=None)
