"""Transmission files: JSON that lists the layers of a layered payload (`models.payload.layered`), the best last, and
the averages that the receiver takes.

    {"layers": [{"network": "fashion", "scheme": "analog", "start": 0, "uses": 30000, "snr_db": -5, "power_db": 3},
                {"network": "best.safetensors", "scheme": "digital", "start": 30000, "uses": 70000, "power_db": -2.2}],
     "averages": [{"layers": [0, 1], "weight": 0.3, "snr_db": [5, 20]}]}

`network` is a shipped name or a path, relative to the file. A layer has ``uses`` payload symbols from symbol ``start``
on, each of ``power_db``; layers of the same symbols are superposed. An analog layer is planned for ``snr_db`` per
symbol of unit power; of a nested network it has the member for them. A digital layer carries the network's trained
bits, or at most ``bits``, and its state, with the modulation that arrives at the lowest SNR. The mean power of the
payload must be 1. The states of analog layers have symbols of their own, behind all layers, planned for
``state_snr_db`` (default: ``snr_db``).

The network of the last layer that arrived is the result, unless an average applies, the first one in the list: where
layer ``best`` (default: the later one of the two) is the last that arrived, at an SNR from the first of ``snr_db`` to
below the second (whole dB; default: any), the receiver averages the logits of the two networks, ``weight`` that of the
first. A weight of 1 takes the first network alone.
"""

import json
from pathlib import Path

import numpy as np

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.options import checked_number
from airnet_sdr.dsp.units import linear
from airnet_sdr.models import checkpoint as checkpoints
from airnet_sdr.models import shipped
from airnet_sdr.models.digital.rate import most_robust
from airnet_sdr.models.digital.scheme import compressed
from airnet_sdr.models.evaluate import measured_if_plain
from airnet_sdr.models.known_state import with_state
from airnet_sdr.models.payload.analog import AnalogPlan
from airnet_sdr.models.payload.average import Average
from airnet_sdr.models.payload.budget import symbols_once
from airnet_sdr.models.payload.digital import DigitalPlan, state_bytes
from airnet_sdr.models.payload.layer import PlannedLayer
from airnet_sdr.models.payload.protection import protect, select_member
from airnet_sdr.models.plan_config import PlanConfig

ALL_BITS = 1 << 40
BOUNDS: dict[str, tuple[float, float]] = {
    "start": (0, 2**32 - 1),
    "uses": (1, 2**32 - 1),
    "power_db": (-60.0, 60.0),
    "snr_db": (-30.0, 60.0),
    "state_snr_db": (-30.0, 60.0),
    "bits": (1, ALL_BITS),
}
NUMBERS = {  # of a layer, by its scheme
    "analog": ("start", "uses", "power_db", "snr_db", "state_snr_db"),
    "digital": ("start", "uses", "power_db", "bits"),
}
MEAN_POWER = (0.8, 1.05)  # of the payload
ANY_DB = (-128, 127)  # SNRs of an average


def read_transmission(
    path: Path, architecture: str | None = None, data_dir: str | None = None
) -> tuple[tuple[PlannedLayer, ...], tuple[Average, ...]]:
    """The planned layers and the averages of a transmission file; InputError naming the first fault."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = [_checked(number, row, path) for number, row in enumerate(content["layers"])]
        layers = tuple(_layer(row, path, architecture, data_dir) for row in rows)
        averages = tuple(_average(row, path, layers) for row in content.get("averages", []))
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is no list of layers ({error!r}); see models/transmission.py") from error
    if not layers:
        raise InputError(f"{path} has no layers; list some")
    ends = max(row["start"] + row["uses"] for row in rows)
    mean = sum(row["uses"] * float(linear(row["power_db"])) for row in rows) / ends
    if not MEAN_POWER[0] <= mean <= MEAN_POWER[1]:
        raise InputError(f"{path}: the layers' mean power must be 1; got {mean:.3f}; change their power_db")
    return layers, averages


def _average(row: dict, path: Path, layers: tuple[PlannedLayer, ...]) -> Average:
    (first, second), (least_db, below_db) = row["layers"], row.get("snr_db", ANY_DB)
    best = row.get("best", max(first, second))
    if not all(number in range(len(layers)) for number in (best, first, second)):
        raise InputError(f"{path}: an average is of two of the layers 0 to {len(layers) - 1}; got {row!r}")
    if len({each.plan.checkpoint.dataset for each in (layers[first], layers[second])}) > 1:
        raise InputError(f"{path}: an average is of networks of one data set; layers {first} and {second} have two")
    if not 0 < row["weight"] <= 1:
        raise InputError(f"{path}: weight must be above 0 and at most 1; got {row['weight']!r}")
    if not ANY_DB[0] <= least_db < below_db <= ANY_DB[1]:
        raise InputError(f"{path}: snr_db must rise, from {ANY_DB[0]} to {ANY_DB[1]}; got {row['snr_db']!r}")
    return Average(int(best), first, second, row["weight"], round(least_db), round(below_db))


def _checked(number: int, row: dict, path: Path) -> dict:
    """A layer's row with its numbers checked; those that it may leave out have their defaults."""
    scheme = row.get("scheme", "analog")
    if scheme not in NUMBERS:
        raise InputError(f"{path}: scheme must be {' or '.join(NUMBERS)}; got {scheme!r}")
    row = {"bits": ALL_BITS, "state_snr_db": row.get("snr_db"), **row}
    for name in ("network", "scheme", *NUMBERS[scheme]):
        if name not in row:
            raise InputError(f"{path}: layer {number} has no {name}; see models/transmission.py")
    for name in NUMBERS[scheme]:
        low, high = BOUNDS[name]
        row[name] = checked_number(f"layers.{name}", row[name], low, high, isinstance(low, int), what=f"{path}: ")
    return row


def _layer(row: dict, path: Path, architecture: str | None, data_dir: str | None) -> PlannedLayer:
    network = row["network"]
    path_of = network if network in shipped.paths() else path.parent / network
    checkpoint = measured_if_plain(checkpoints.load_any(path_of, architecture), data_dir)
    place = row["start"], row["power_db"]
    if row["scheme"] == "analog":
        snr_db = min(row["snr_db"] + row["power_db"], 60)
        copies = int(np.clip(row["uses"] // symbols_once(checkpoint), 1, 255))
        config = PlanConfig("size", copies, snr_db, row["uses"], expansion="auto")
        checkpoint, config = select_member(checkpoint, config)
        protection = protect(checkpoint, config)  # the state has symbols beside these
        plan = AnalogPlan(with_state(checkpoint, data_dir), protection)
        return PlannedLayer(plan, *place, row["state_snr_db"])
    checkpoint = with_state(checkpoint, data_dir)
    data, state = compressed(checkpoint, row["bits"] // 8), state_bytes(checkpoint)
    coded = most_robust(len(state) + len(data), row["uses"])
    return PlannedLayer(DigitalPlan.of(checkpoint, state + data, coded, len(state)), *place)
