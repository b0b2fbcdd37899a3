"""The protocol of a payload scheme, and of the received symbols from which it is decoded.

A scheme maps weights to payload symbols and back. It is one class with `plan`, `encode` and `decode` side by side, and
one entry in `models.payload.SCHEMES`. An instance holds the parameters of one payload that the manifest carries and the
receiver needs to decode it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat
from airnet_sdr.models.beside import CodedState, State
from airnet_sdr.models.card import ModelCard
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.payload.soft import SoftSymbols
from airnet_sdr.models.payload.tensors import TensorPlan
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.models.sensitivity import Sensitivity


@dataclasses.dataclass(frozen=True)
class Candidates:
    """The networks from which the scheme selects one, and the sensitivity of a single network if measured."""

    checkpoints: tuple[Checkpoint, ...]
    sensitivity: Sensitivity | None = None
    from_folder: bool = False
    layers: tuple = ()  # of a transmission file, `models.payload.layered.PlannedLayer`
    averages: tuple = ()  # of its networks, `models.payload.average.Average`

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
    that carried them, `card` that of the network where it may be another than the manifest's, and `checksum` that of
    its integer buffers; `state` is what was sent beside them, None if nothing was. If `second` is not None, the logits
    of its network are averaged with this one's, of which `share` is the weight.
    """

    vectors: list[np.ndarray]
    expected_nmse: list[float | None]
    part: Payload | None = None
    state: CodedState | State | None = None
    card: ModelCard | None = None
    checksum: int = 0
    second: ReceivedWeights | None = None
    share: float = 1.0


class Plan(Protocol):
    """A scheme's decisions for one network: the input of `encode`."""

    @property
    def checkpoint(self) -> Checkpoint:
        """The selected network."""

    @property
    def card(self) -> ModelCard:
        """The card of the selected network."""


class Part(Protocol):
    """One part of a burst's payload: its kind and role, its symbols, and its bytes in the manifest.

    Parts of a role other than "weights" belong to the weights before them.
    """

    kind: ClassVar[str]
    role: ClassVar[str]

    def decode(self, *received: Any, **options: Any) -> Any:
        """What the part carries, from its symbols (`SoftSymbols`). NothingReceivedError if it did not arrive."""

    def num_symbols(self, numels: list[int]) -> int:
        """Payload symbols; LinkError if the part does not fit tensors of ``numels`` weights."""

    def describe(self, name: str, stream: np.ndarray) -> list[str]:
        """Text lines that describe the symbols of network ``name``."""

    def to_bytes(self) -> bytes:
        """The body in the manifest."""

    @classmethod
    def from_bytes(cls, body: bytes) -> tuple[Self, bytes]:
        """Decode; the part and the remaining bytes. struct.error, IndexError or InputError for invalid bytes."""


class Payload(Part, Protocol):
    """One scheme: a part that carries weights, its plan and both directions."""

    role: ClassVar[str] = "weights"
    unused: ClassVar[tuple[str, ...]]  # options of `PlanConfig` that have no effect on this scheme

    @classmethod
    def plan(cls, candidates: Candidates, config: PlanConfig, fmt: FrameFormat = DEFAULT_FORMAT) -> Plan:
        """Select the network and plan its transmission; InputError if it does not fit the budget."""

    @classmethod
    def encode(cls, plan, run: Callable = map) -> tuple[Self, np.ndarray]:
        """The payload, and its symbols (num_symbols,) complex64 of unit average power."""

    def decode(self, received: SoftSymbols, numels: list[int], estimator: str = "linear") -> ReceivedWeights:
        """Weights from symbols. NothingReceivedError if they did not arrive, LinkError if the sizes do not fit."""

    def tensor_plans(self, numels: list[int]) -> list[TensorPlan | None]:
        """The plan of each tensor's analog symbols; None for a tensor without."""
