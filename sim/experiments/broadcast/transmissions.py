"""Transmissions made of parts.

A transmission has at most one analog part, in symbols of its own ("beside") or superposed below the digital layers
("below"), and up to three digital layers, side by side in time or superposed, in the rest of the budget. A nested
network and a hybrid are sent alone. A superposed layer is decoded with those below it as noise and then subtracted:

    SINR_i = p_i S / (1 + (p_{i+1} + ... + p_n) S).

An analog part's state has symbols of unit power behind all layers.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from airnet_sdr.dsp.units import db
from airnet_sdr.sim.experiments.broadcast.outputs import Analog, Digital, Part


@dataclasses.dataclass(frozen=True)
class Entrant:
    """A kind of transmission: number of digital layers, superposed or side by side, and where its analog part is."""

    name: str
    num_layers: int
    superposed: bool = False
    analog: str = ""  # "", "alone", "nested", "hybrid", "beside", "below"


@dataclasses.dataclass(frozen=True)
class Transmission:
    """Shares of the budget's symbols and powers per symbol of the digital layers; the analog part with its power."""

    entrant: Entrant
    layers: tuple[Digital, ...] = ()
    shares: tuple[float, ...] = ()
    powers: tuple[float, ...] = ()
    analog: Analog | None = None
    analog_power: float = 0.0
    state_db: float = 0.0  # the SNR that its state is planned for

    @property
    def is_stacked(self) -> bool:
        """Whether layers are superposed."""
        return self.entrant.superposed or self.entrant.analog == "below"

    def arrived(self, num_layers: int) -> tuple[Part, ...]:
        """The parts that there are when this number of digital layers arrived."""
        there = self.entrant.analog != "below" or num_layers == len(self.layers)
        return self.layers[:num_layers] + ((self.analog,) if self.analog and there else ())

    def rows(self, path_of: Callable[[str], Path], budget: int) -> list[dict]:
        """The layers of a transmission file (`models.transmission`), an analog one first; ``path_of`` finds files."""
        rows, start = [], 0
        if self.analog:
            power_db = float(db(self.analog_power))
            of_analog = {
                "uses": self.analog.uses,
                "power_db": power_db,
                "snr_db": self.analog.plan_db - power_db,
                "state_snr_db": self.state_db,
            }
            rows.append(
                {"network": str(path_of(self.analog.network).resolve()), "scheme": self.analog.scheme, "start": 0}
                | of_analog
            )
            start = self.analog.uses if self.entrant.analog == "beside" else 0
        digital = []
        for layer, share, power in zip(self.layers, self.shares, self.powers, strict=True):
            uses = int(share * budget)
            row = {"network": str(path_of(layer.network).resolve()), "scheme": "digital", "start": start, "uses": uses}
            digital.append(row | {"power_db": float(db(power))} | ({"bits": layer.bits} if layer.bits else {}))
            start += 0 if self.is_stacked else uses
        return rows + digital

    def describe(self) -> str:
        """The plan in one line."""
        parts = [
            f"digital {layer.network}" + (f" in {layer.bits} bits" if layer.bits else "") + f" {share:.3f} b"
            f" of power {power:.3g}"
            for layer, share, power in zip(self.layers, self.shares, self.powers, strict=True)
        ]
        if self.analog:
            where = f"{self.analog.network} on {self.analog.uses} for {self.analog.plan_db:g} dB"
            parts.insert(0, f"{self.analog.scheme} {where} {self.entrant.analog} of power {self.analog_power:.3g}")
        return ", ".join(parts)


def others(plan: Transmission, powers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each layer of divisions (D, layers): the power above it, subtracted, and that below it, which is noise."""
    if not plan.is_stacked:
        return np.zeros_like(powers), np.zeros_like(powers)
    total = np.cumsum(powers, axis=1)
    below = plan.analog_power if plan.entrant.analog == "below" else 0.0
    return total - powers, total[:, -1:] - total + below
