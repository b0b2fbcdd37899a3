"""What every payload has in common: the protocol of a scheme, and the symbols it is decoded from.

A scheme says how weights become payload symbols and back. It is one class with `plan`, `encode` and `decode` side by
side, and one entry in `models.payload.SCHEMES`. An instance is what the manifest says of one payload: all that the
receiver must know to decode it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar, Protocol, Self

import numpy as np

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat
from airnet_sdr.models.card import ModelCard
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.payload.tensors import TensorPlan
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.models.sensitivity import Sensitivity


class SoftSymbols(Protocol):
    """Payload symbols as received, over frames or in white noise."""

    @property
    def run(self) -> Callable:
        """Maps a function over parts of the work: `map`, or an executor's."""

    @property
    def capacity(self) -> int:
        """Payload symbols that can be asked for."""

    @property
    def symbols_received(self) -> int:
        """Payload symbols that came, in whatever frames: what bounds the work that a manifest may ask for."""

    def soft(self, start: int, num: int) -> tuple[np.ndarray, np.ndarray]:
        """Of ``num`` symbols from ``start``: matched-filter outputs (num,) complex64, which are the equalised symbols
        over their noise_var, and 1/noise_var (num,) float32; both 0 where nothing was received."""


@dataclasses.dataclass(frozen=True)
class Section:
    """The symbols of one part among those of a burst, from symbol ``start`` on."""

    symbols: SoftSymbols
    start: int

    @property
    def run(self) -> Callable:
        """That of the burst."""
        return self.symbols.run

    @property
    def capacity(self) -> int:
        """Symbols from ``start`` to the end of the burst."""
        return self.symbols.capacity - self.start

    @property
    def symbols_received(self) -> int:
        """That of the burst."""
        return self.symbols.symbols_received

    def soft(self, start: int, num: int) -> tuple[np.ndarray, np.ndarray]:
        """As `SoftSymbols.soft`, counted from the section's start."""
        return self.symbols.soft(self.start + start, num)


@dataclasses.dataclass(frozen=True)
class Candidates:
    """What may be sent: one network, or several of which the scheme selects one; and its sensitivity, if measured."""

    checkpoints: tuple[Checkpoint, ...]
    sensitivity: Sensitivity | None = None
    from_folder: bool = False

    @property
    def only(self) -> Checkpoint:
        """The one network; InputError where a folder of them was given."""
        if self.from_folder:
            raise InputError("this scheme sends one network; give a checkpoint instead of a folder")
        return self.checkpoints[0]


@dataclasses.dataclass(frozen=True)
class ReceivedWeights:
    """Weights as estimated, a vector (numel,) float32 a tensor, and the NMSE that the receiver expects of each.

    The NMSE is None for digital weights: the receiver does not know what the quantiser cost. `part` is the part of the
    payload that they came in.
    """

    vectors: list[np.ndarray]
    expected_nmse: list[float | None]
    part: Payload | None = None


class Plan(Protocol):
    """What a scheme decided to send: the network, and whatever `encode` needs."""

    @property
    def card(self) -> ModelCard:
        """Of the network that was selected."""


class Payload(Protocol):
    """One scheme: the plan, both directions, and its bytes in the manifest."""

    kind: ClassVar[str]

    @classmethod
    def plan(cls, candidates: Candidates, config: PlanConfig, fmt: FrameFormat = DEFAULT_FORMAT) -> Plan:
        """Select the network and decide how it is sent; InputError where the budget does not hold it."""

    @classmethod
    def encode(cls, plan, run: Callable = map) -> tuple[Self, np.ndarray]:
        """The payload, and its symbols (num_symbols,) complex64 of unit average power."""

    def decode(self, received: SoftSymbols, numels: list[int], estimator: str = "linear") -> ReceivedWeights:
        """Weights from symbols. NothingReceivedError where they do not arrive, LinkError where nothing fits."""

    def num_symbols(self, numels: list[int]) -> int:
        """Payload symbols that it takes; LinkError where it is not of tensors of ``numels`` weights."""

    def tensor_plans(self, num_tensors: int) -> list[TensorPlan | None]:
        """How each tensor's analog symbols travel; None where it has none."""

    def describe(self, name: str, stream: np.ndarray) -> list[str]:
        """Lines for a person about the symbols of the network ``name``."""

    def to_bytes(self) -> bytes:
        """Its body in the manifest."""

    @classmethod
    def from_bytes(cls, body: bytes) -> tuple[Self, bytes]:
        """The inverse, and the bytes after it; struct.error, IndexError or InputError where it makes no sense."""
