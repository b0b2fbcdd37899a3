"""Analog payload: each pair of weights is one complex symbol, repeated, expanded and weighted as planned."""

import dataclasses
import struct
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from airnet_sdr.dsp import expansion, symbols
from airnet_sdr.dsp.errors import InputError, LinkError, NothingReceivedError
from airnet_sdr.dsp.expansion import LINE, posterior_mean
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat
from airnet_sdr.dsp.power_range import POWER_STEP_DB
from airnet_sdr.dsp.symbols import num_pairs
from airnet_sdr.dsp.uep import Protection
from airnet_sdr.dsp.units import db, linear, power
from airnet_sdr.models.card import ModelCard
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.packing import to_vectors
from airnet_sdr.models.payload.base import Candidates, ReceivedWeights
from airnet_sdr.models.payload.protection import protect, select_member
from airnet_sdr.models.payload.soft import MOST_MISSING, SoftSymbols
from airnet_sdr.models.payload.tensors import TENSOR_BYTES, TensorPlan, normalisation, plan_of_each
from airnet_sdr.models.plan_config import PlanConfig

MAX_TENSORS = 65533
PART_WEIGHTS = 1 << 17  # weights mapped per call
CHUNK_SYMBOLS = 1 << 16  # symbols combined, then estimated, per call, which fit a core's cache


@dataclasses.dataclass(frozen=True)
class AnalogPlan:
    """A network and the protection of its tensors."""

    checkpoint: Checkpoint
    protection: Protection

    @property
    def card(self) -> ModelCard:
        """The card of the selected network."""
        return self.checkpoint.card


@dataclasses.dataclass(frozen=True)
class AnalogPayload:
    """The plans of all tensors, in the architecture's order (`tensors.plan_of_each`)."""

    kind: ClassVar[str] = "analog"
    unused: ClassVar[tuple[str, ...]] = ("digital_share",)
    role: ClassVar[str] = "weights"
    tensors: tuple[TensorPlan, ...]

    @classmethod
    def plan(cls, candidates: Candidates, config: PlanConfig, fmt: FrameFormat = DEFAULT_FORMAT) -> AnalogPlan:
        """The network, or the nested network for this channel, and the protection of its tensors.

        The default protection is by measured sensitivity if there is one, by size for nested networks, else none.
        """
        checkpoint, sensitivity = candidates.only, candidates.sensitivity
        nested = "members" in checkpoint.metadata
        config = config.protected("size" if nested else "none" if sensitivity is None else "auto")
        checkpoint, config = select_member(checkpoint, config, fmt)
        return AnalogPlan(checkpoint, protect(checkpoint, config, sensitivity, fmt))

    @classmethod
    def encode(cls, plan: AnalogPlan, run: Callable = map) -> tuple["AnalogPayload", np.ndarray]:
        """The payload, and its symbols (num_symbols,) complex64."""
        return encode_vectors(to_vectors(plan.checkpoint.tensors), plan.protection, run)

    def decode(self, received: SoftSymbols, numels: list[int], estimator: str = "linear") -> ReceivedWeights:
        """Combine copies and estimate the weights: by linear MMSE, NMSE 1/(1 + SNR after combining) each, or, with the
        estimator "bayes", by the posterior mean given the density in the manifest.

        Symbols along a curve are always decoded by the posterior mean: with a Gaussian density, a weight in a heavy
        tail would be taken for one on the neighbouring turn of the curve.

        NothingReceivedError if few of the weights' symbols came, counted once: of copies any are enough.
        """
        num_once = sum(map(num_pairs, numels))
        if num_once > MOST_MISSING * received.symbols_received:
            raise NothingReceivedError(
                f"the weights have {num_once} symbols, {received.symbols_received} came: too few for a network; "
                "listen for more cycles"
            )
        vectors, expected, start = [], [], 0
        for numel, plan in zip(numels, self.tensor_plans(numels), strict=True):
            vector, nmse = _estimate(received, plan, start, numel, estimator)
            vectors.append(vector)
            expected.append(nmse)
            start += plan.num_symbols(numel)
        return ReceivedWeights(vectors, expected)

    def num_symbols(self, numels: list[int]) -> int:
        """Payload symbols of tensors of ``numels`` weights."""
        return sum(plan.num_symbols(numel) for numel, plan in zip(numels, self.tensor_plans(numels), strict=True))

    def tensor_plans(self, numels: list[int]) -> list[TensorPlan]:
        """The plan of every tensor; LinkError if the tensors are not those of the sender."""
        places = plan_of_each(numels)
        if len(self.tensors) != max(places, default=-1) + 1:
            raise LinkError(
                f"the manifest has plans of {len(self.tensors)} tensors, the architecture needs {max(places) + 1} "
                "here; use the sender's version of the architecture"
            )
        return [self.tensors[place] for place in places]

    def describe(self, name: str, stream: np.ndarray) -> list[str]:
        """One line about power and protection."""
        uses, powers = [plan.uses for plan in self.tensors], [plan.power_db for plan in self.tensors]
        curved = sum(plan.curve is not None for plan in self.tensors)
        return [
            f"{name}: {stream.size} payload symbols of mean power {db(power(stream)):.2f} dB, {min(uses)} to "
            f"{max(uses)} a pair of weights, {min(powers):g} to {max(powers):g} dB a tensor, {curved} of "
            f"{len(self.tensors)} along curves"
        ]

    def to_bytes(self) -> bytes:
        """Number of tensors (16 bits), then each plan; InputError if a value does not fit."""
        if len(self.tensors) > MAX_TENSORS - 1:
            raise InputError(f"manifest: tensors must be fewer than {MAX_TENSORS}; got {len(self.tensors)}")
        return struct.pack(">H", len(self.tensors)) + b"".join(plan.to_bytes() for plan in self.tensors)

    @classmethod
    def from_bytes(cls, body: bytes) -> tuple["AnalogPayload", bytes]:
        """Decode; returns the payload and the remaining bytes."""
        (count,) = struct.unpack_from(">H", body)
        end = 2 + count * TENSOR_BYTES
        if count > MAX_TENSORS - 1 or end > len(body):
            raise struct.error("tensors")
        return cls(tuple(TensorPlan.from_bytes(body, i) for i in range(2, end, TENSOR_BYTES))), body[end:]


def encode_vectors(
    vectors: list[np.ndarray], protection: Protection, run: Callable = map
) -> tuple[AnalogPayload, np.ndarray]:
    """Weight vectors (numel,) float32, one a tensor, to their payload and its symbols (num_symbols,) complex64.

    ``run`` maps a function over parts of the work, `map` or an executor's.
    """
    places = plan_of_each([vector.size for vector in vectors])
    sharing: list[list[int]] = [[] for _ in range(max(places) + 1)]
    for tensor, place in enumerate(places):
        sharing[place].append(tensor)
    plans = []
    for group in sharing:
        first = group[0]
        weights = vectors[first] if len(group) == 1 else np.concatenate([vectors[i] for i in group])
        curve, level = protection.curves[first], protection.power[first]
        mean, scale, density = normalisation(weights, curve, run)
        power_db = POWER_STEP_DB * round(float(db(level)) / POWER_STEP_DB)
        plans.append(TensorPlan(mean, scale, int(protection.copies[first]), power_db, density, curve))
    payload = AnalogPayload(tuple(plans))
    return payload, _map_weights(vectors, [plans[place] for place in places], run)


def _map_weights(vectors, plans, run) -> np.ndarray:
    """Each tensor's symbols, with the copies and power of its plan."""
    lengths = [plan.num_symbols(weights.size) for weights, plan in zip(vectors, plans, strict=True)]
    stream = np.empty(sum(lengths), np.complex64)
    parts = []
    for weights, plan, out in zip(vectors, plans, np.split(stream, np.cumsum(lengths)[:-1]), strict=True):
        step = PART_WEIGHTS // 2 * plan.uses
        places = range(0, out.size, step)
        parts += [(weights[i * PART_WEIGHTS :][:PART_WEIGHTS], plan, out[p : p + step]) for i, p in enumerate(places)]

    def fill(part):
        weights, plan, out = part
        sent = symbols.to_symbols(weights, plan.mean, plan.scale)
        if plan.curve is not None:
            sent = expansion.expand(sent, plan.curve)
        out[:] = symbols.repeat(sent, plan.copies, linear(plan.power_db))

    for _ in run(fill, parts):
        pass
    return stream


def _estimate(
    received: SoftSymbols, plan: TensorPlan, start: int, numel: int, estimator: str
) -> tuple[np.ndarray, float]:
    """The weights (numel,) float32 of one tensor, whose symbols begin at ``start``, and their expected NMSE."""
    vector, num_symbols = np.empty(numel, np.float32), num_pairs(numel)

    def estimate_part(first):
        num = min(CHUNK_SYMBOLS, num_symbols - first)
        soft = _combined(received, plan, start + first * plan.uses, num)
        if plan.curve is None and estimator == "linear":
            symbol, nmse = symbols.linear_mmse(*soft)
        else:
            symbol, nmse = posterior_mean(*soft, plan.curve or LINE, plan.density)
        out = vector[2 * first : 2 * (first + num)]
        symbols.to_weights(symbol, out.size, plan.mean, plan.scale, out)
        return nmse * num

    parts = received.run(estimate_part, range(0, num_symbols, CHUNK_SYMBOLS))
    return vector, sum(parts) / max(num_symbols, 1)


def _combined(received: SoftSymbols, plan: TensorPlan, start: int, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Soft values of ``num`` symbols of a tensor, or of the coordinates of each, from payload symbol ``start`` on, the
    copies combined: in parts, however many copies a plan has."""
    step, power_of = max(1, CHUNK_SYMBOLS // plan.uses), linear(plan.power_db)
    parts = [
        symbols.combine(*received.soft(start + i * plan.uses, min(step, num - i) * plan.uses), plan.copies, power_of)
        for i in range(0, num, step)
    ]
    if len(parts) == 1:
        return parts[0]
    statistic, information = (np.concatenate(part) for part in zip(*parts, strict=True))
    return statistic, information
