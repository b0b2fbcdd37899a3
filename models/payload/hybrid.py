"""Hybrid payload: a digital base, then the quantisation residual of each weight as analog symbols.

Below the threshold SNR of the base the network is lost; above it the error falls with the SNR, as in hybrid
digital-analog coding (Mittal and Phamdo, IEEE Trans. Inf. Theory 48(5), 2002).
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat
from airnet_sdr.dsp.uep import Protection
from airnet_sdr.models.card import ModelCard
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.digital.rate import best_payload, least_symbols
from airnet_sdr.models.packing import to_vectors
from airnet_sdr.models.payload.analog import AnalogPayload, encode_vectors
from airnet_sdr.models.payload.base import Candidates, ReceivedWeights
from airnet_sdr.models.payload.budget import CODED_BYTES, symbols_once
from airnet_sdr.models.payload.digital import STATE_STEPS, DigitalPayload, DigitalPlan, coded_budget, least_bits, packed
from airnet_sdr.models.payload.protection import protect
from airnet_sdr.models.payload.soft import Section, SoftSymbols
from airnet_sdr.models.payload.tensors import TensorPlan
from airnet_sdr.models.plan_config import PlanConfig


@dataclasses.dataclass(frozen=True)
class HybridPlan:
    """A digital base and its analog refinement, the residual of each tensor.

    `base` and `residual` are vectors (numel,) float32 per tensor, `protection` is that of the residual.
    """

    digital: DigitalPlan
    base: list[np.ndarray]
    residual: list[np.ndarray]
    protection: Protection

    @property
    def checkpoint(self) -> Checkpoint:
        """The network; its state is among the base's bytes."""
        return self.digital.checkpoint

    @property
    def card(self) -> ModelCard:
        """The card of the network."""
        return self.checkpoint.card


@dataclasses.dataclass(frozen=True)
class HybridPayload:
    """A digital payload, and the analog payload of its residual."""

    kind: ClassVar[str] = "hybrid"
    unused: ClassVar[tuple[str, ...]] = ()
    role: ClassVar[str] = "weights"
    digital: DigitalPayload
    analog: AnalogPayload

    @classmethod
    def plan(cls, candidates: Candidates, config: PlanConfig, fmt: FrameFormat = DEFAULT_FORMAT) -> HybridPlan:
        """Divide the budget between base and refinement; the default protection of the refinement is by tensor size."""
        return plan_hybrid(candidates.only, config.protected("size"), fmt)

    @classmethod
    def encode(cls, plan: HybridPlan, run: Callable = map) -> tuple["HybridPayload", np.ndarray]:
        """The payload, and its symbols (num_symbols,) complex64, the base first."""
        analog, symbols = encode_vectors(plan.residual, plan.protection, run)
        digital, coded = DigitalPayload.encode(plan.digital)
        return cls(digital, analog), np.concatenate([coded, symbols])

    def decode(self, received: SoftSymbols, numels: list[int], estimator: str = "linear") -> ReceivedWeights:
        """The base plus the estimated residual; the weights' power is that of the estimate plus its expected error."""
        refinement = Section(received, self.digital.num_symbols(numels))
        base = self.digital.decode(received, numels)
        rest = self.analog.decode(refinement, numels, estimator)
        return dataclasses.replace(_refined(base.vectors, rest, self.analog.tensor_plans(numels)), state=base.state)

    def num_symbols(self, numels: list[int]) -> int:
        """Payload symbols of base and refinement."""
        return self.digital.num_symbols(numels) + self.analog.num_symbols(numels)

    def tensor_plans(self, numels: list[int]) -> list[TensorPlan | None]:
        """The plans of the refinement."""
        return list(self.analog.tensor_plans(numels))

    def describe(self, name: str, stream: np.ndarray) -> list[str]:
        """A line about the base, one about the refinement."""
        coded = self.digital.coded.num_symbols
        lines = self.digital.describe(name, stream[:coded])
        return lines + self.analog.describe(f"{name}, analog refinement", stream[coded:])

    def to_bytes(self) -> bytes:
        """The bytes of the base, then of the refinement."""
        return self.digital.to_bytes() + self.analog.to_bytes()

    @classmethod
    def from_bytes(cls, body: bytes) -> tuple["HybridPayload", bytes]:
        """Decode; returns the payload and the remaining bytes."""
        digital, body = DigitalPayload.from_bytes(body)
        analog, body = AnalogPayload.from_bytes(body)
        return cls(digital, analog), body


def _refined(base: list[np.ndarray], rest: ReceivedWeights, plans: list[TensorPlan]) -> ReceivedWeights:
    """The base plus the received residual."""
    vectors = [rest_of + base_of for rest_of, base_of in zip(rest.vectors, base, strict=True)]
    expected = []
    for vector, nmse, plan in zip(vectors, rest.expected_nmse, plans, strict=True):
        error = nmse * plan.scale**2
        expected.append(error / (float(np.var(vector, dtype=np.float64)) + error) if error else 0.0)
    return ReceivedWeights(vectors, expected)


def plan_hybrid(checkpoint: Checkpoint, config: PlanConfig, fmt: FrameFormat = DEFAULT_FORMAT) -> HybridPlan:
    """Plan a digital base with an analog refinement.

    The base gets the fewest symbols that carry the bits for which the network was trained, or the configured share; the
    refinement gets the rest, protected by size or equally. Raises InputError if the rest does not hold it once.
    """
    if config.uep == "auto":
        raise InputError("the refinement has no measured sensitivity; send a hybrid with `uep` size or none")
    budget, tensors = coded_budget(checkpoint, config, fmt, CODED_BYTES), checkpoint.tensors
    num_coded, num_symbols = base_symbols(checkpoint, config, budget), symbols_once(checkpoint)
    coded = best_payload(num_coded, config.snr_db)
    data, state_bytes = packed(checkpoint, coded.num_bytes)
    digital = DigitalPlan.of(checkpoint, data, coded, state_bytes)
    base = digital.vectors
    residual = [weights - part for weights, part in zip(to_vectors(tensors), base, strict=True)]
    if not any(weights.any() for weights in residual):
        raise InputError("the digital base leaves no residual of this network; send it with `scheme` digital")
    left = dataclasses.replace(checkpoint, tensors=dict(zip(tensors, residual, strict=True)), state=None)
    copies = min((budget - num_coded) // num_symbols, 255)
    rest = dataclasses.replace(config, copies=copies, payload_uses=budget - num_coded, channel_uses=None)
    return HybridPlan(digital, base, residual, protect(left, rest, None, fmt))


def base_symbols(checkpoint: Checkpoint, config: PlanConfig, budget: int) -> int:
    """Symbols of the base among ``budget``: with the finest state beside which the refinement has room.

    It takes no time. Raises InputError if the refinement has none.
    """
    num_coded, num_symbols = _coded_symbols(checkpoint, config, budget), symbols_once(checkpoint)
    if budget - num_coded < num_symbols:
        raise InputError(
            f"of {budget} payload symbols the digital base leaves {budget - num_coded}, its refinement needs "
            f"{num_symbols}; raise `payload_uses` or `channel_uses`, or lower `digital_share`"
        )
    return num_coded


def _coded_symbols(checkpoint: Checkpoint, config: PlanConfig, budget: int) -> int:
    if config.digital_share is not None:
        return round(config.digital_share * budget)
    if "bits" not in checkpoint.metadata:
        raise InputError("this network was not trained for a number of bits; say how many symbols with `digital_share`")
    for step in STATE_STEPS[1:]:
        num_coded = least_symbols(-(-least_bits(checkpoint, step) // 8), config.snr_db, budget)
        if budget - num_coded >= symbols_once(checkpoint):
            break
    return num_coded
