"""Valid inputs from which hostile ones are made: whatever the classes themselves write.

Nothing here knows a layout: bursts are made by `make_burst` for every scheme in `SCHEMES`, headers follow
`Header._LAYOUT`. A change of the format changes the seeds.
"""

import dataclasses
import functools
import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from airnet_sdr.dsp.frame import Header
from airnet_sdr.models import checkpoint as checkpoints
from airnet_sdr.models.nets import ARCHITECTURES
from airnet_sdr.models.payload import SCHEMES
from airnet_sdr.models.register import register
from airnet_sdr.tx.burst import Burst
from airnet_sdr.tx.sender import make_burst

TINY = "fuzz-tiny"
PLANS: tuple[dict, ...] = ({}, {"uep": "none"}, {"uep": "size"}, {"uep": "none", "copies": 3})


def tiny() -> nn.Module:
    """A network of 47 weights with batch norm: small, so that a whole reception takes milliseconds."""
    return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))


def network() -> nn.Module:
    """The tiny network, its architecture registered."""
    if TINY not in ARCHITECTURES:
        register(TINY, tiny)
    torch.manual_seed(20)
    return tiny()


@functools.cache
def transmission() -> str:
    """A transmission file: the tiny network thrice, superposed and side by side, and an average of two."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    checkpoints.save(folder / "tiny.safetensors", checkpoints.from_module(network(), TINY, "none"))
    layer = {"network": "tiny.safetensors", "scheme": "analog", "uses": 1500, "snr_db": 5}
    levels = [{"start": 0, "power_db": -1.0}, {"start": 700, "power_db": -7.0}, {"start": 2200, "power_db": 1.0}]
    averages = [{"best": 2, "layers": [0, 2], "weight": 0.3}]
    (folder / "layers.json").write_text(json.dumps({"layers": [layer | each for each in levels], "averages": averages}))
    return str(folder / "layers.json")


OPTIONS: dict[str, Callable[[], dict]] = {  # of `make_burst` for a scheme that the tiny network alone does not suit
    "digital": lambda: {"payload_uses": 2000},
    "hybrid": lambda: {"payload_uses": 4000, "digital_share": 0.4},
    "layered": lambda: {"network": transmission()},
}


def burst_of(scheme: str, **options) -> Burst:
    """A burst of the tiny network."""
    of_scheme = {"network": network(), **OPTIONS.get(scheme, dict)()}
    return make_burst(architecture=TINY, scheme=scheme, snr_db=8, **of_scheme, **options)


@functools.cache
def bursts() -> dict[str, list[Burst]]:
    """Bursts of the tiny network by scheme, planned in several ways."""
    found: dict[str, list[Burst]] = {}
    for scheme in SCHEMES:
        for plan in PLANS:
            if not plan.keys() & set(SCHEMES[scheme].unused):
                found.setdefault(scheme, []).append(burst_of(scheme, **plan))
    return found


@functools.cache
def manifests() -> tuple[bytes, ...]:
    """The bytes of many manifests: each scheme's, of a tiny network and of a shipped one."""
    found = [burst.manifest.to_bytes() for each in bursts().values() for burst in each]
    found.append(make_burst("fashion", uep="none").manifest.to_bytes())
    one = bursts()["analog"][0].manifest
    card = dataclasses.replace(one.card, metrics=(("loss", 0.5), ("top-5", 0.9)), accuracy=0.5)
    found.append(dataclasses.replace(one, card=card).to_bytes())
    found.append(dataclasses.replace(one, parts=one.parts[::-1]).to_bytes())  # which a receiver refuses
    return tuple(dict.fromkeys(found))


def random_header(rng: random.Random) -> Header:
    """A header each of whose fields is at an edge of its range, near it, or anywhere."""
    fields = {}
    for name, bits, offset in Header._LAYOUT:
        top = (1 << bits) - 1
        value = rng.choice((0, 1, 2, top, top - 1, rng.getrandbits(bits), rng.getrandbits(min(bits, 4))))
        fields[name] = min(value, top) + offset
    return Header(**fields)
