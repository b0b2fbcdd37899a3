"""Layered payload: several networks in one transmission, side by side or superposed; the last that arrives counts, or
the average of two.

Each layer is one network, analog or digital, on a range of the payload's symbols, sqrt(p) times its unit-power symbols.
Where ranges overlap the layers are superposed (Cover, Broadcast channels, IEEE Trans. Inf. Theory 18(1), 1972). The
receiver decodes the digital layers from the strongest to the weakest, the undecoded ones as noise, and subtracts those
whose CRC passed:

    SINR_i = p_i S / (1 + S sum of p_j over the layers j not yet subtracted).

Below a layer that did not arrive, this is too little for most (`channel_code.capacity`), which costs no decoding.
The analog layers are estimated last, from what is left. Layers are in the order of their quality, and the network of
the last one that arrived is the result, unless the manifest has an average for those that arrived at the SNR measured
(`models.payload.average`).
"""

import dataclasses
import struct
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from airnet_sdr.dsp.errors import InputError, NothingReceivedError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat
from airnet_sdr.dsp.units import db
from airnet_sdr.models.beside import State
from airnet_sdr.models.card import ModelCard
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.digital import channel_code
from airnet_sdr.models.payload.analog import AnalogPayload
from airnet_sdr.models.payload.average import MAX_AVERAGES, Average
from airnet_sdr.models.payload.base import Candidates, ReceivedWeights
from airnet_sdr.models.payload.digital import DigitalPayload
from airnet_sdr.models.payload.layer import Layer, PlannedLayer
from airnet_sdr.models.payload.soft import MOST_MISSING, Section, SoftSymbols
from airnet_sdr.models.payload.tensors import TensorPlan
from airnet_sdr.models.plan_config import PlanConfig

MAX_LAYERS = 8
MEAN_SYMBOLS = 1 << 22  # whose SNRs are averaged per call


@dataclasses.dataclass(frozen=True)
class LayeredPlan:
    """The plans of all layers, in the order of their quality, and the averages of two that the receiver may take."""

    layers: tuple[PlannedLayer, ...]
    averages: tuple[Average, ...] = ()

    @property
    def card(self) -> ModelCard:
        """That of the best network."""
        return self.layers[-1].plan.card

    @property
    def checkpoint(self) -> Checkpoint:
        """The best network, without the state, which its layer carries."""
        best = self.layers[-1].plan.checkpoint
        return dataclasses.replace(best, state=State(checksum=best.state.checksum))


@dataclasses.dataclass(frozen=True)
class LayeredPayload:
    """The layers in the order of their quality, and the averages of two, of which the first that applies counts."""

    kind: ClassVar[str] = "layered"
    role: ClassVar[str] = "weights"
    unused: ClassVar[tuple[str, ...]] = (
        "uep",
        "payload_uses",
        "channel_uses",
        "expansion",
        "max_power_db",
        "digital_share",
    )
    layers: tuple[Layer, ...]
    averages: tuple[Average, ...] = ()

    @classmethod
    def plan(cls, candidates: Candidates, config: PlanConfig, fmt: FrameFormat = DEFAULT_FORMAT) -> LayeredPlan:
        """The layers that the transmission file lists (`models.transmission`)."""
        if not candidates.layers:
            raise InputError("a layered transmission is a JSON file that lists its layers; give one as `model`")
        return LayeredPlan(candidates.layers, candidates.averages)

    @classmethod
    def encode(cls, plan: LayeredPlan, run: Callable = map) -> tuple["LayeredPayload", np.ndarray]:
        """The payload, and the sum of the layers' symbols (num_symbols,) complex64."""
        layers, streams, states = zip(*(layer.encode(run) for layer in plan.layers), strict=True)
        payload = cls(layers, plan.averages)
        stream = np.zeros(payload.num_symbols([]), np.complex64)
        stream[payload.states_start :] = np.concatenate(states)
        for layer, symbols in zip(layers, streams, strict=True):
            stream[layer.start : layer.end] += np.float32(np.sqrt(layer.power)) * symbols
        return payload, stream

    def decode(self, received: SoftSymbols, numels: list[int], estimator: str = "linear") -> ReceivedWeights:
        """The network of the last layer that arrived, or the two of an average; NothingReceivedError if none did."""
        left, arrived = _Left(received, self.layers), {}
        for number in self._decoding_order:
            layer = self.layers[number]
            if isinstance(layer.payload, DigitalPayload):
                weights = _decode_digital(layer, layer.payload, left)
            else:
                weights = _decode_analog(layer, left, estimator)
            if weights is not None and layer.state is not None:
                weights = self._with_state(weights, number, received)
            if weights is not None:
                arrived[number] = dataclasses.replace(
                    weights, part=layer.payload, card=layer.card, checksum=layer.checksum
                )
        if not arrived:
            raise NothingReceivedError(
                f"none of {len(self.layers)} layers arrived; raise the SNR, listen for more cycles, or plan a layer "
                "for a lower SNR"
            )
        snr_db = self._snr_db(received) if self.averages else 0.0
        for each in self.averages:
            if each.counts(arrived, snr_db):
                second = None if each.weight == 1 else arrived[each.second]
                return dataclasses.replace(arrived[each.first], second=second, share=each.weight)
        return arrived[max(arrived)]

    @property
    def _decoding_order(self) -> list[int]:
        """Digital layers by falling power, then the analog ones."""
        layers = self.layers
        return sorted(
            range(len(layers)), key=lambda i: (isinstance(layers[i].payload, AnalogPayload), -layers[i].power_db)
        )

    def _snr_db(self, received: SoftSymbols) -> float:
        """Mean SNR per payload symbol of the layers, combined over the cycles, 0 for symbols not received.

        Of a burst of which little came it is that of the first symbols: the interleaver spreads them over all frames.
        """
        num = min(self.states_start, MOST_MISSING * received.symbols_received)
        parts = [(start, min(MEAN_SYMBOLS, num - start)) for start in range(0, num, MEAN_SYMBOLS)]
        total = sum(float(np.mean(received.soft(*part)[1])) * part[1] for part in parts)
        return float(db(np.float32(total / max(num, 1))))

    def _with_state(self, weights: ReceivedWeights, number: int, received: SoftSymbols) -> ReceivedWeights | None:
        """The weights with the layer's state, which belongs to them; None if it did not arrive."""
        start = self.states_start + sum(layer.num_state for layer in self.layers[:number])
        try:
            return dataclasses.replace(weights, state=self.layers[number].state.decode(Section(received, start)))
        except NothingReceivedError:
            return None

    @property
    def states_start(self) -> int:
        """The first symbol of the layers' states."""
        return max(layer.end for layer in self.layers)

    def num_symbols(self, numels: list[int]) -> int:
        """Payload symbols of all layers and their states; ``numels`` are not needed."""
        return self.states_start + sum(layer.num_state for layer in self.layers)

    def tensor_plans(self, numels: list[int]) -> list[TensorPlan | None]:
        """None for every tensor: the plans are those of the layer that arrived (`ReceivedWeights.part`)."""
        return [None] * len(numels)

    def describe(self, name: str, stream: np.ndarray) -> list[str]:
        """A line for each layer, the best last, and one about averages."""
        lines = [
            f"{layer.payload.kind} {layer.card.architecture} of {sum(layer.numels)} weights, symbols {layer.start} to "
            f"{layer.end - 1}, {layer.power_db:.2f} dB"
            for layer in self.layers
        ]
        return lines + [f"averages of two networks: {len(self.averages)}"] * bool(self.averages)

    def to_bytes(self) -> bytes:
        """Number of layers (8 bits), then each; number of averages (8 bits), then each."""
        if not 1 <= len(self.layers) <= MAX_LAYERS:
            raise InputError(f"manifest: layers must be 1 to {MAX_LAYERS}; got {len(self.layers)}")
        if len(self.averages) > MAX_AVERAGES:
            raise InputError(f"manifest: averages must be at most {MAX_AVERAGES}; got {len(self.averages)}")
        return b"".join(
            bytes([len(rows)]) + b"".join(row.to_bytes() for row in rows) for rows in (self.layers, self.averages)
        )

    @classmethod
    def from_bytes(cls, body: bytes) -> tuple["LayeredPayload", bytes]:
        """Decode; returns the payload and the remaining bytes."""
        count, body, layers = body[0], body[1:], []
        if not 1 <= count <= MAX_LAYERS:
            raise struct.error(f"{count} layers")
        for _ in range(count):
            layer, body = Layer.from_bytes(body)
            layers.append(layer)
        averages, body = Average.split(body, count)
        return cls(tuple(layers), averages), body


class _Left:
    """What is left of the received symbols when the layers decoded so far are subtracted."""

    def __init__(self, received: SoftSymbols, layers: tuple[Layer, ...]):
        self.received, self.layers = received, layers
        self.decoded: dict[Layer, np.ndarray] = {}

    def subtract(self, layer: Layer, symbols: np.ndarray) -> None:
        """Take a decoded layer's unit-power symbols (num_symbols,) away from all that follows."""
        self.decoded[layer] = symbols

    def soft(self, layer: Layer, start: int, num: int) -> tuple[np.ndarray, np.ndarray]:
        """`SoftSymbols.soft` of a layer's unit-power symbols: the others are subtracted, or noise."""
        first = layer.start + start
        statistic, information = self.received.soft(first, num)
        others = [each for each in self.layers if each is not layer and each.start < first + num and each.end > first]
        power, noise = np.float32(layer.power), np.zeros(num, np.float32)
        statistic = statistic.copy()
        for other in others:
            low, high = max(other.start, first), min(other.end, first + num)
            inside = slice(low - first, high - first)
            if other in self.decoded:
                known = np.float32(np.sqrt(other.power)) * self.decoded[other][low - other.start : high - other.start]
                statistic[inside] -= information[inside] * known
            else:
                noise[inside] += np.float32(other.power)
        scale = 1 / (1 + noise * information)  # noise_var grows by the power of what is not subtracted
        return np.sqrt(power) * statistic * scale, power * information * scale


@dataclasses.dataclass(frozen=True)
class _LayerSymbols:
    """`SoftSymbols` of one layer."""

    left: _Left
    layer: Layer

    @property
    def run(self) -> Callable:
        """That of the burst."""
        return self.left.received.run

    @property
    def capacity(self) -> int:
        """Symbols from the layer's start to the end of the burst."""
        return self.left.received.capacity - self.layer.start

    @property
    def symbols_received(self) -> int:
        """That of the burst."""
        return self.left.received.symbols_received

    def soft(self, start: int, num: int) -> tuple[np.ndarray, np.ndarray]:
        """As `SoftSymbols.soft`, counted from the layer's start."""
        return self.left.soft(self.layer, start, num)


def _decode_digital(layer: Layer, payload: DigitalPayload, left: _Left) -> ReceivedWeights | None:
    """The weights of a digital layer, which is then subtracted; None if a CRC fails, and nothing is subtracted."""
    coded = payload.coded
    if coded.num_symbols > MOST_MISSING * left.received.symbols_received:
        return None
    data = channel_code.decode_from(_LayerSymbols(left, layer).soft, coded)
    if data is None:
        return None
    left.subtract(layer, channel_code.encode(data, coded))
    return payload.unpacked(data, layer.numels)


def _decode_analog(layer: Layer, left: _Left, estimator: str) -> ReceivedWeights | None:
    """The weights of an analog layer; None if hardly any of its symbols came."""
    try:
        return layer.payload.decode(_LayerSymbols(left, layer), layer.numels, estimator)
    except NothingReceivedError:
        return None
