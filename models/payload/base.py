"""The protocol of a payload scheme, and of the received symbols from which it is decoded.

A scheme maps weights to payload symbols and back. It is one class with `plan`, `encode` and `decode` side by side, and
one entry in `models.payload.SCHEMES`. An instance holds the parameters of one payload that the manifest carries and the
receiver needs to decode it.
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
    """Received payload symbols, from frames or from a simulation in white noise."""

    @property
    def run(self) -> Callable:
        """Maps a function over parts of the work: `map`, or an executor's."""

    @property
    def capacity(self) -> int:
        """Payload symbols available to `soft`."""

    @property
    def symbols_received(self) -> int:
        """Payload symbols received; bounds the work that a manifest can request."""

    def soft(self, start: int, num: int) -> tuple[np.ndarray, np.ndarray]:
        """For ``num`` symbols from ``start``: equalised symbols over their noise_var (num,) complex64, and 1/noise_var
        (num,) float32; both 0 for symbols not received."""


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
    """The networks from which the scheme selects one, and the sensitivity of a single network if measured."""

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
    """Estimated weights, a vector (numel,) float32 per tensor, and the NMSE that the receiver expects of each.

    The NMSE is None for digital weights: the receiver does not know the quantisation error. `part` is the payload part
    that carried them.
    """

    vectors: list[np.ndarray]
    expected_nmse: list[float | None]
    part: Payload | None = None


class Plan(Protocol):
    """A scheme's decisions for one network: the input of `encode`."""

    @property
    def card(self) -> ModelCard:
        """The card of the selected network."""


class Payload(Protocol):
    """One scheme: the plan, both directions, and its bytes in the manifest."""

    kind: ClassVar[str]

    @classmethod
    def plan(cls, candidates: Candidates, config: PlanConfig, fmt: FrameFormat = DEFAULT_FORMAT) -> Plan:
        """Select the network and plan its transmission; InputError if it does not fit the budget."""

    @classmethod
    def encode(cls, plan, run: Callable = map) -> tuple[Self, np.ndarray]:
        """The payload, and its symbols (num_symbols,) complex64 of unit average power."""

    def decode(self, received: SoftSymbols, numels: list[int], estimator: str = "linear") -> ReceivedWeights:
        """Weights from symbols. NothingReceivedError if they did not arrive, LinkError if the sizes do not fit."""

    def num_symbols(self, numels: list[int]) -> int:
        """Payload symbols; LinkError if the payload does not fit tensors of ``numels`` weights."""

    def tensor_plans(self, num_tensors: int) -> list[TensorPlan | None]:
        """The plan of each tensor's analog symbols; None for a tensor without."""

    def describe(self, name: str, stream: np.ndarray) -> list[str]:
        """Text lines that describe the symbols of network ``name``."""

    def to_bytes(self) -> bytes:
        """The body in the manifest."""

    @classmethod
    def from_bytes(cls, body: bytes) -> tuple[Self, bytes]:
        """Decode; the payload and the remaining bytes. struct.error, IndexError or InputError for invalid bytes."""
