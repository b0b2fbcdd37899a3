"""The sender: checkpoint -> weights -> plan -> payload symbols -> burst."""

import dataclasses
import os
from pathlib import Path

import numpy as np
from torch import nn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.memory import give_back
from airnet_sdr.dsp.host.options import with_options
from airnet_sdr.dsp.units import linear
from airnet_sdr.models import checkpoint as checkpoints
from airnet_sdr.models import shipped
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.evaluate import measured_if_plain
from airnet_sdr.models.known_state import with_state, with_states
from airnet_sdr.models.manifest import dtype_runs
from airnet_sdr.models.nets import DATASETS
from airnet_sdr.models.payload import SCHEMES, Candidates, Part, Payload
from airnet_sdr.models.payload.analog import AnalogPlan
from airnet_sdr.models.payload.base import Plan
from airnet_sdr.models.payload.budget import state_payload
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.models.register import resolve_architecture
from airnet_sdr.models.seal import Key
from airnet_sdr.models.sender_state import judged, under_noise
from airnet_sdr.models.sensitivity_file import find_sensitivity
from airnet_sdr.models.task import check_dataset
from airnet_sdr.models.transmission import read_transmission
from airnet_sdr.tx.burst import Burst, lay_out, sealed
from airnet_sdr.tx.config import SendConfig, TransmissionConfig

__all__ = ["Burst", "SendConfig", "TransmissionConfig", "describe", "load_candidates", "make_burst"]


def make_burst(network: str | os.PathLike | nn.Module, config: SendConfig | None = None, **options) -> Burst:
    """Plan, encode and lay out a network: one cycle, ready to be modulated.

    network : a shipped name, the path of a checkpoint, for the digital scheme also of a folder of checkpoints, for the
        layered one of a transmission file (`models.transmission`), or a module, which needs ``architecture`` and may
        have ``dataset``
    options : fields of `SendConfig`, put over ``config``

    Raises InputError for an invalid network or option, or a budget that does not hold the network.

    >>> burst = make_burst("fashion", snr_db=5, seed=1)
    >>> burst.header.num_frames, burst.stream.dtype.name
    (50, 'complex64')
    """
    config = with_options(SendConfig, config, options)
    if config.scheme not in SCHEMES:
        raise InputError(f"`scheme` must be one of {', '.join(SCHEMES)}; got {config.scheme!r}")
    scheme = SCHEMES[config.scheme]
    for name in getattr(scheme, "unused", ()):
        if getattr(config, name) != SendConfig.__dataclass_fields__[name].default:
            raise InputError(f"`{name}` has no effect with `scheme` {config.scheme}; leave it out")
    key = None if config.key is None else Key(config.key)
    candidates = load_candidates(network, config)
    candidates = dataclasses.replace(candidates, checkpoints=with_states(candidates.checkpoints, config.data_dir))
    plan = _plan_under_noise(scheme, candidates, config) if config.scheme == "analog" else None
    give_back(4 * sum(sum(each.numels) for each in candidates.checkpoints))  # of the networks that were measured
    plan = plan or scheme.plan(candidates, config)
    if isinstance(plan, AnalogPlan):
        snr = plan.protection.snr(float(linear(config.snr_db)))
        plan = dataclasses.replace(plan, checkpoint=judged(plan.checkpoint, snr, config.snr_db))
    burst = encode_burst(scheme, plan, config, config.seed)
    return burst if key is None else sealed(burst, key)


def _plan_under_noise(scheme: type[Payload], candidates: Candidates, config: SendConfig) -> Plan | None:
    """The plan with states under its noise, which are larger; None where the budget does not hold these."""
    planned = config.protected("none" if candidates.sensitivity is None else "auto")
    try:
        known = tuple(under_noise(each, planned) for each in candidates.checkpoints)
        return scheme.plan(dataclasses.replace(candidates, checkpoints=known), config)
    except InputError:
        return None


def encode_burst(scheme: type[Payload], plan: Plan, config: PlanConfig, seed: int = 0) -> Burst:
    """The burst of a plan: its weights, and the state beside them."""
    checkpoint = with_state(plan.checkpoint)
    state = state_payload(checkpoint, config)
    parts: list[tuple[Part, np.ndarray]] = [scheme.encode(plan)]
    if state is not None:
        parts.append((state, state.encode(checkpoint.state, config.snr_db)))
    dtypes = dtype_runs(checkpoint.names, checkpoint.dtypes) if checkpoint.dtypes else ()
    return lay_out(plan.card, parts, seed, dtypes=dtypes, checksum=checkpoint.state.checksum)


def load_candidates(network: str | os.PathLike | nn.Module, config: SendConfig) -> Candidates:
    """The network, or the networks of a folder, and the sensitivity file beside a checkpoint.

    Without protection the sensitivity is not loaded. A plain state dict is evaluated where its data are here, so that
    its accuracy travels with it; a module is not.
    """
    architecture = resolve_architecture(config.architecture)
    if isinstance(network, nn.Module):
        return Candidates((_checkpoint_of(network, architecture, config.dataset),))
    if network is None:
        raise InputError(f"`model` is missing; try one of: {', '.join(shipped.paths())}, or PATH.safetensors")
    if not isinstance(network, (str, os.PathLike)):
        raise InputError(f"`model` must be a name, a path or a torch.nn.Module; got {type(network).__name__}")
    if str(network).endswith(".json"):
        if config.scheme != "layered":
            raise InputError(f"{network}: a .json is a transmission of several networks; send it with `scheme` layered")
        layers, averages = read_transmission(Path(network), architecture, config.data_dir)
        return Candidates((), layers=layers, averages=averages)
    if network and os.path.isdir(network):
        paths = sorted(Path(network).glob("*.safetensors"))
        if not paths:
            names = ", ".join(shipped.paths())
            raise InputError(f"no *.safetensors in the folder {str(network)!r}; give a checkpoint, or one of: {names}")
        loaded = (checkpoints.load(path, architecture) for path in paths)
        return Candidates(tuple(measured_if_plain(each, config.data_dir) for each in loaded), from_folder=True)
    checkpoint = measured_if_plain(checkpoints.load(network, architecture), config.data_dir)
    wanted = config.uep != "none" or config.scheme == "digital"
    return Candidates((checkpoint,), find_sensitivity(network, checkpoint) if wanted else None)


def _checkpoint_of(module: nn.Module, architecture: str | None, dataset: str | None) -> Checkpoint:
    """A module's weights as a checkpoint of unmeasured accuracy."""
    if architecture is None:
        raise InputError(
            "a module needs `architecture`: a shipped or registered name, or FILE.py:NAME, whose NAME() returns it"
        )
    check_dataset("dataset", dataset)
    return checkpoints.from_module(module, architecture, dataset or DATASETS.get(architecture, "none"))


def describe(burst: Burst) -> str:
    """Text lines: one for each part of the payload, and one for the frames."""
    card = burst.manifest.card
    lines, start = [], 0
    for part, num_symbols in zip(burst.manifest.parts, burst.part_symbols, strict=True):
        lines += part.describe(card.architecture, burst.stream[start : start + num_symbols])
        start += num_symbols
    frames = f"{burst.header.num_frames} frames, {burst.num_samples} samples a cycle"
    return "\n".join([*lines, frames])
