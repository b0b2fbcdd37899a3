"""The sender: checkpoint -> weights -> plan -> payload symbols -> burst."""

import os
from pathlib import Path

from torch import nn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.options import with_options
from airnet_sdr.models import checkpoint as checkpoints
from airnet_sdr.models import shipped
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.nets import DATASETS
from airnet_sdr.models.packing import tensors_of
from airnet_sdr.models.payload import SCHEMES, Candidates
from airnet_sdr.models.register import resolve_architecture
from airnet_sdr.models.sensitivity import find_sensitivity
from airnet_sdr.tx.burst import Burst, lay_out
from airnet_sdr.tx.config import SendConfig, TransmissionConfig

__all__ = ["Burst", "SendConfig", "TransmissionConfig", "describe", "load_candidates", "make_burst"]


def make_burst(network: str | os.PathLike | nn.Module, config: SendConfig | None = None, **options) -> Burst:
    """Plan, encode and lay out a network: one cycle, ready to be modulated.

    network : a shipped name, the path of a checkpoint, for the digital scheme also of a folder of checkpoints, or a
        module, which needs ``architecture`` and may have ``dataset``
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
    plan = scheme.plan(load_candidates(network, config), config)
    return lay_out(plan.card, [scheme.encode(plan)], config.seed)


def load_candidates(network: str | os.PathLike | nn.Module, config: SendConfig) -> Candidates:
    """The network, or the networks of a folder, and the sensitivity file beside a checkpoint.

    Without protection the sensitivity is not loaded.
    """
    architecture = resolve_architecture(config.architecture)
    if isinstance(network, nn.Module):
        return Candidates((_checkpoint_of(network, architecture, config.dataset),))
    if network is None:
        raise InputError(f"`model` is missing; try one of: {', '.join(shipped.paths())}, or PATH.safetensors")
    if Path(network).is_dir():
        paths = sorted(Path(network).glob("*.safetensors"))
        if not paths:
            names = ", ".join(shipped.paths())
            raise InputError(f"no *.safetensors in the folder {str(network)!r}; give a checkpoint, or one of: {names}")
        return Candidates(tuple(checkpoints.load(path, architecture) for path in paths), from_folder=True)
    checkpoint = checkpoints.load(network, architecture)
    wanted = config.uep != "none" or config.scheme == "digital"
    return Candidates((checkpoint,), find_sensitivity(network) if wanted else None)


def _checkpoint_of(module: nn.Module, architecture: str | None, dataset: str | None) -> Checkpoint:
    """A module's weights as a checkpoint of unmeasured accuracy."""
    if architecture is None:
        raise InputError(
            "a module needs `architecture`: a shipped or registered name, or FILE.py:NAME, whose NAME() returns it"
        )
    checkpoint = Checkpoint(architecture, dataset or DATASETS.get(architecture, "none"), None, tensors_of(module))
    return checkpoints.checked(checkpoint)


def describe(burst: Burst) -> str:
    """Text lines: one for each part of the payload, and one for the frames."""
    card = burst.manifest.card
    lines, start = [], 0
    for part, num_symbols in zip(burst.manifest.parts, burst.part_symbols, strict=True):
        lines += part.describe(card.architecture, burst.stream[start : start + num_symbols])
        start += num_symbols
    frames = f"{burst.header.num_frames} frames, {burst.num_samples} samples a cycle"
    return "\n".join([*lines, frames])
