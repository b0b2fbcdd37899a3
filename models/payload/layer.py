"""One layer of a layered payload: a network, its place and power, its plan, and its bytes in the manifest."""

import dataclasses
import functools
import struct
from collections.abc import Callable

import numpy as np

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.units import linear
from airnet_sdr.models.card import ModelCard
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import tensor_specs
from airnet_sdr.models.payload.analog import AnalogPayload, AnalogPlan
from airnet_sdr.models.payload.digital import DigitalPayload, DigitalPlan
from airnet_sdr.models.payload.state import StatePayload

POWER_STEP_DB = 1 / 256
_HEAD = struct.Struct(">BIhH")
_TAIL = struct.Struct(">I")
_KINDS: tuple[type, ...] = (AnalogPayload, DigitalPayload)


@dataclasses.dataclass(frozen=True)
class Layer:
    """One network: its card, its payload, the first of its symbols and its power per symbol in dB, its state, and the
    checksum of its integer buffers (`models.packing.checksum`).

    A digital layer's state is among its bytes. The states of analog layers, coded at unit power, follow after the last
    layer's symbols.
    """

    card: ModelCard
    payload: AnalogPayload | DigitalPayload
    start: int
    power_db: float
    state: StatePayload | None = None
    checksum: int = 0

    @functools.cached_property
    def numels(self) -> list[int]:
        """Sizes of the network's tensors."""
        return [spec.numel for spec in tensor_specs(build(self.card.architecture, self.card.widths))]

    @property
    def power(self) -> float:
        """Linear, as both ends have it."""
        return float(linear(POWER_STEP_DB * round(self.power_db / POWER_STEP_DB)))

    @property
    def end(self) -> int:
        """The first symbol after the layer's."""
        return self.start + self.payload.num_symbols(self.numels)

    @property
    def num_state(self) -> int:
        """Symbols of the layer's state beside its own."""
        return 0 if self.state is None else self.state.num_symbols([])

    def to_bytes(self) -> bytes:
        """Kind (8 bits), start (32), power (16, in 1/256 dB), length of the payload's body (16); the body, the card;
        length of the state's body (8 bits), and it; the checksum (32 bits)."""
        body, state = self.payload.to_bytes(), b"" if self.state is None else self.state.to_bytes()
        kind, power = _KINDS.index(type(self.payload)), round(self.power_db / POWER_STEP_DB)
        try:
            head = _HEAD.pack(kind, self.start, power, len(body))
        except struct.error as error:
            raise InputError(f"manifest: a layer of {self.power_db:g} dB from symbol {self.start} ({error})") from error
        tail = _TAIL.pack(self.checksum)
        return head + body + self.card.to_bytes() + bytes([len(state)]) + state + tail

    @classmethod
    def from_bytes(cls, data: bytes) -> tuple["Layer", bytes]:
        """The layer at the head of ``data``, and the rest."""
        kind, start, power, length = _HEAD.unpack_from(data)
        body, data = data[_HEAD.size : _HEAD.size + length], data[_HEAD.size + length :]
        payload, _ = _KINDS[kind].from_bytes(body)
        card, data = ModelCard.from_bytes(data)
        length, data = data[0], data[1:]
        state = StatePayload.from_bytes(data[:length])[0] if length else None
        tail, data = _TAIL.unpack_from(data, length), data[length + _TAIL.size :]
        return cls(card, payload, start, power * POWER_STEP_DB, state, *tail), data


@dataclasses.dataclass(frozen=True)
class PlannedLayer:
    """The plan of a layer's payload, the first of its symbols, its power, and the SNR that an analog layer's state is
    planned for."""

    plan: AnalogPlan | DigitalPlan
    start: int
    power_db: float
    state_snr_db: float = -10.0

    def encode(self, run: Callable = map) -> tuple[Layer, np.ndarray, np.ndarray]:
        """The layer, its unit-power symbols (num_symbols,) complex64, and those of its state (num_state,)."""
        state = self.plan.checkpoint.state
        payload, symbols = (
            AnalogPayload.encode(self.plan, run)
            if isinstance(self.plan, AnalogPlan)
            else DigitalPayload.encode(self.plan, run)
        )
        if state is None or state.is_empty:
            return self._layer(payload, None), symbols, np.zeros(0, np.complex64)
        coded = StatePayload.plan(state, self.state_snr_db)
        return self._layer(payload, coded), symbols, coded.encode(state, self.state_snr_db)

    def _layer(self, payload: AnalogPayload | DigitalPayload, coded: StatePayload | None) -> Layer:
        state = self.plan.checkpoint.state
        checksum = 0 if state is None else state.checksum
        return Layer(self.plan.card, payload, self.start, self.power_db, coded, checksum)
