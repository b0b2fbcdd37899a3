"""The knobs of the page: what can be turned while the link runs, its bounds, and what it means to the processes."""

import dataclasses
import typing

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.options import check_fields, check_known, option
from airnet_sdr.dsp.radio.config import FREQ_HZ
from airnet_sdr.models.shipped import SHIPPED, ZOO
from airnet_sdr.sim.channel.config import PRESETS

ECHOES = {
    "none": (),
    "two": ((2.3, -8, 60), (6.1, -14, -130)),
    "room": PRESETS["room"].echoes,
    "long": PRESETS["hostile"].echoes,
}
INTERFERENCE_DB = {"off": None, "weak": 5.0, "strong": 20.0}  # bursts over the signal
DROPS = {"none": None, "rare": 1_000_000, "often": 150_000}  # mean interval in samples
BURST_EVERY, BURST_SAMPLES, DROP_SAMPLES = 60_000, 2_000, 500
_FASHION = ZOO / "fashion-mnist"
_CODED = {"digital": _FASHION / "digital/seed-1/19k.safetensors", "hybrid": _FASHION / "hybrid/seed-1/9k.safetensors"}
NETWORKS = {  # the checkpoint of each scheme
    "nested": {"analog": _FASHION / "nested/seed-1/fashion.safetensors", **_CODED},
    "small": {"analog": _FASHION / "low8/seed-3/fashion.safetensors", **_CODED},
    "pruned": {"analog": _FASHION / "pruned4/seed-1/fashion.safetensors", **_CODED},
    "full": {"analog": SHIPPED["fashion"], **_CODED},
}
OWN = "own"  # the network given with --model, in every scheme
SCHEMES = ("analog", *_CODED)  # side by side; a layered transmission is planned in a file, not by knobs


@dataclasses.dataclass(frozen=True)
class AirKnobs:
    """The simulated air of all receivers."""

    cfo_hz: float = option(12e3, "carrier offset (Hz)", -100e3, 100e3)
    echoes: str = option("none", "echoes", choices=tuple(ECHOES))
    doppler_hz: float = option(0.0, "Doppler (Hz)", 0, 200)
    interference: str = option("off", "interference", choices=tuple(INTERFERENCE_DB))
    drops: str = option("none", "dropped samples", choices=tuple(DROPS))

    def __post_init__(self):
        check_fields(self)

    def channel_options(self) -> dict:
        """Options of the channel, without its SNR."""
        level_db, every = INTERFERENCE_DB[self.interference], DROPS[self.drops]
        intervals = [BURST_EVERY] * (level_db is not None) + [every] * (every is not None)
        return {
            "cfo_hz": self.cfo_hz,
            "echoes": [list(echo) for echo in ECHOES[self.echoes]],
            "doppler_hz": self.doppler_hz,
            "bursts": [] if level_db is None else [[0, BURST_SAMPLES, level_db]],
            "drops": [] if every is None else [[0, DROP_SAMPLES]],
            "events_every_samples": min(intervals, default=None),
        }


@dataclasses.dataclass(frozen=True)
class ReceiverKnobs:
    """What each receiver has for itself."""

    snr_db: float = option(15.0, "SNR (dB)", -10, 30)

    def __post_init__(self):
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class SenderKnobs:
    """What is sent, and for which channel it is planned."""

    network: str = option("nested", "network", choices=(*NETWORKS, OWN))
    schemes: tuple[str, ...] = option(SCHEMES, "schemes", choices=SCHEMES)
    protection: str = option("auto", "protection", choices=("auto", "size", "none"))
    payload_uses: int = option(45_000, "budget (symbols)", 15_000, 400_000)
    plan_snr_db: float = option(10.0, "planned SNR (dB)", -5, 25)
    cycles: int = option(4, "cycles combined", 1, 64)
    pace_hz: float = option(250e3, "samples a second", 50e3, 10e6)
    muted: bool = option(False, "muted")

    def __post_init__(self):
        check_fields(self)
        if not self.schemes:
            raise InputError("`schemes` must name one at least")


@dataclasses.dataclass(frozen=True)
class BoardKnobs:
    """Radios in place of the simulated air."""

    freq_hz: float = option(FREQ_HZ, "carrier (Hz)", 70e6, 6e9)
    tx_gain_db: float = option(-10.0, "transmit gain (dB)", -89.75, 0)
    rx_gain_db: float = option(40.0, "receive gain (dB)", -1, 73)

    def __post_init__(self):
        check_fields(self)


Knobs = typing.TypeVar("Knobs", AirKnobs, ReceiverKnobs, SenderKnobs, BoardKnobs)


def turned(knobs: Knobs, changes: dict) -> Knobs:
    """The knobs with changes that came over a network; InputError naming what is wrong."""
    check_known(changes, type(knobs))
    for declared in dataclasses.fields(knobs):
        wanted, kinds = _JSON[_kind(declared)]
        value = changes.get(declared.name, declared.default)
        if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
            raise InputError(f"`{declared.name}` must be {wanted}; got {value!r:.60}")
    return dataclasses.replace(knobs, **changes)


def described(config_class: type) -> list[dict]:
    """Name, label, kind, choices and, of a number, bounds of each knob, for the page."""
    found = []
    for declared in dataclasses.fields(config_class):
        meta, kind = declared.metadata, _kind(declared)
        bounds = {"low": meta["low"], "high": meta["high"]} if kind == "number" else {}
        about = {"name": declared.name, "label": meta["help"], "kind": kind, "choices": list(meta["choices"])}
        found.append(about | bounds | {"whole": isinstance(declared.default, int)})
    return found


_JSON: dict[str, tuple] = {  # what each kind of knob must be in JSON
    "switch": ("true or false", bool),
    "several": ("a list of names", list | tuple),
    "choice": ("a name", str),
    "number": ("a number", int | float),
}


def _kind(declared) -> str:
    if isinstance(declared.default, bool):
        return "switch"
    if isinstance(declared.default, tuple):
        return "several"
    return "choice" if isinstance(declared.default, str) else "number"
