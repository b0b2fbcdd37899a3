"""Checkpoints: a network's weights and the names of its architecture and data set, as safetensors. Never pickle."""

import json
import math
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load as parse
from safetensors.numpy import save as serialise
from torch import nn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.models import shipped
from airnet_sdr.models.batch_norm import statistics_of
from airnet_sdr.models.card import ModelCard
from airnet_sdr.models.digital.quantise import MAX_LEVEL, grid_of
from airnet_sdr.models.nets import ARCHITECTURES, DATASETS, build
from airnet_sdr.models.packing import load_vectors, tensor_specs, to_vectors

OFF_GRID = 0.1  # of a step; rounding to float16 moves a weight less than this from its level


@dataclass
class Checkpoint:
    """A trained network: `tensors` are the float32 tensors that are sent, in state-dict order.

    `accuracy` is the top-1 accuracy (0 to 1) on `dataset`, None if not measured. `widths` are passed to
    `models.nets.build`; () means the full widths. `statistics` are the batch norm statistics by name, empty if
    unknown; they are not sent.
    """

    arch: str
    dataset: str
    accuracy: float | None
    tensors: dict[str, np.ndarray]
    metadata: dict[str, str] = field(default_factory=dict)
    widths: tuple[int, ...] = ()
    statistics: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def card(self) -> ModelCard:
        """The model card that the manifest carries."""
        return ModelCard(self.arch, self.dataset, self.accuracy, self.widths)

    def module(self) -> nn.Module:
        """The network with these weights."""
        module = load_vectors(build(self.arch, self.widths), to_vectors(self.tensors))
        module.load_state_dict({name: torch.from_numpy(each) for name, each in self.statistics.items()}, strict=False)
        return module

    def as_architecture(self, arch: str) -> "Checkpoint":
        """These weights in another architecture, without batch norm statistics and accuracy.

        Raises InputError if its tensors differ.
        """
        if arch == self.arch:
            return self
        shapes = {spec.name: spec.shape for spec in tensor_specs(build(arch, self.widths))}
        if shapes != {name: tensor.shape for name, tensor in self.tensors.items()}:
            raise InputError(
                f"a {self.arch} does not make a {arch}: their tensors differ; give one of that architecture"
            )
        return replace(self, arch=arch, accuracy=None, statistics={})


def locate(name_or_path) -> Path:
    """The file of a shipped name, or the path itself."""
    name = os.fspath(name_or_path)
    if name in shipped.paths():
        return shipped.paths()[name]
    if not Path(name).is_file():
        raise InputError(
            f"no model {name!r}; give PATH.safetensors or one of: {', '.join(shipped.paths()) or 'none shipped'}"
        )
    return Path(name)


def load(name_or_path, architecture: str | None = None) -> Checkpoint:
    """Read a checkpoint; check its architecture, the tensors' names and shapes, and that all numbers are finite.

    Tensors may be float32 or float16 on disk, or levels as `save` writes them. If the metadata names no architecture
    (a file of another program), the network is of `architecture`, on that architecture's data set, its accuracy
    unmeasured. Raises InputError naming the first fault.
    """
    path = locate(name_or_path)
    try:
        content = path.read_bytes()
        tensors = parse(content)
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__", {})
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a whole safetensors file ({error}); only safetensors is read") from error
    foreign = architecture is not None and "arch" not in metadata
    arch = architecture if foreign else metadata.get("arch", "none")
    if arch not in ARCHITECTURES:
        raise InputError(
            f"{path} names the architecture {arch!r}; its metadata must have `arch`, one of: "
            f"{', '.join(ARCHITECTURES)}, or one given with --architecture"
        )
    try:
        widths = tuple(int(width) for width in metadata.get("widths", "").split(",") if width)
        module = build(arch, widths)
    except ValueError as error:
        raise InputError(f"{path}: widths must be numbers with commas; got {metadata['widths']!r}") from error
    sent, statistics = _check(path, arch, module, tensors, metadata)
    if foreign:
        return Checkpoint(arch, DATASETS.get(arch, "none"), None, sent, metadata, widths, statistics)
    try:
        accuracy = float(metadata["accuracy"]) if metadata.get("accuracy") != "none" else None
    except (KeyError, ValueError):
        accuracy = math.nan
    if "dataset" not in metadata or not (accuracy is None or 0 <= accuracy <= 1):
        raise InputError(f"{path}: the metadata must have `dataset` and `accuracy` from 0 to 1; got {metadata}")
    return Checkpoint(arch, metadata["dataset"], accuracy, sent, metadata, widths, statistics)


def checked(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint itself; InputError if its tensors do not fit its architecture or are not finite."""
    if checkpoint.arch not in ARCHITECTURES:
        raise InputError(f"`architecture` must be one of {', '.join(ARCHITECTURES)}; got {checkpoint.arch!r}")
    wanted = {spec.name: spec.shape for spec in tensor_specs(build(checkpoint.arch, checkpoint.widths))}
    if wanted != {name: tensor.shape for name, tensor in checkpoint.tensors.items()}:
        raise InputError(
            f"the module's tensors are not those of {checkpoint.arch!r}; give the `architecture` that makes it"
        )
    for name, tensor in checkpoint.tensors.items():
        if not np.isfinite(tensor).all():
            raise InputError(f"{name} has weights that are not finite numbers; check the training")
    return checkpoint


def load_mean(names_or_paths: str) -> Checkpoint:
    """Load one checkpoint, or the mean of the weights of several, separated by commas.

    The mean of networks fine-tuned from one another is often better than each (Wortsman et al., Model soups, 2022). It
    has no batch norm statistics. Raises InputError if one cannot be loaded or has another architecture or widths than
    the first.
    """
    names = str(names_or_paths).split(",")
    first, *others = several = [load(name) for name in names]
    if not others:
        return first
    for name, each in zip(names, several, strict=True):
        if (each.arch, each.widths) != (first.arch, first.widths):
            raise InputError(f"{name} differs in architecture or widths from the first; give equal ones")
    mean = {name: np.mean([each.tensors[name] for each in several], axis=0) for name in first.tensors}
    return replace(first, tensors=mean, statistics={})


def _check(path: Path, arch: str, module: nn.Module, tensors: dict[str, np.ndarray], metadata: dict[str, str]):
    """The file's tensors that are sent, in order, and its batch norm statistics, both float32."""
    state = {name: value for name, value in module.state_dict().items() if value.is_floating_point()}
    counters = set(module.state_dict()) - set(state)
    home = set(statistics_of(module))
    odd = sorted(((set(state) - home) - set(tensors)) | (set(tensors) - set(state) - counters))
    if odd:
        raise InputError(f"{path} does not have the tensors of {arch}: missing or unknown {', '.join(odd)}")
    try:
        grids = dict(zip([name for name in state if name not in home], grid_of(metadata), strict=False))
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(
            f"{path}: steps must be numbers with commas, and parts one; got {metadata.get('steps')!r} and "
            f"{metadata.get('parts')!r}"
        ) from error
    for name in [name for name in state if name in tensors]:
        tensor, shape = tensors[name], tuple(state[name].shape)
        if tensor.dtype == np.int8 and name in grids:
            tensors[name] = tensor = tensor * np.float32(grids[name])
        if tensor.shape != shape or tensor.dtype not in (np.float32, np.float16):
            raise InputError(f"{path}: {name} is {tensor.dtype} {tensor.shape}; {arch} has float32 or float16 {shape}")
        if not np.isfinite(tensor).all():
            raise InputError(
                f"{path}: {name} has {np.count_nonzero(~np.isfinite(tensor))} weights that are not "
                "finite numbers; train it again"
            )
    found = {name: tensors[name].astype(np.float32) for name in state if name in tensors}
    return (
        {name: tensor for name, tensor in found.items() if name not in home},
        {name: tensor for name, tensor in found.items() if name in home},
    )


def save(path, checkpoint: Checkpoint, half: bool = False) -> None:
    """Write a checkpoint whole or not at all; with `half` as float16.

    Weights on a grid, the result of training for bits (`models.entropy`), are written as int8 levels.
    """
    path = Path(path)
    metadata = {
        **checkpoint.metadata,
        "arch": checkpoint.arch,
        "dataset": checkpoint.dataset,
        "accuracy": "none" if checkpoint.accuracy is None else f"{checkpoint.accuracy:.4f}",
    }
    if checkpoint.widths:
        metadata["widths"] = ",".join(map(str, checkpoint.widths))
    dtype = np.float16 if half else np.float32
    tensors = {**checkpoint.tensors, **checkpoint.statistics}
    tensors = {name: np.ascontiguousarray(tensor, dtype) for name, tensor in tensors.items()}
    for (name, tensor), step in zip(checkpoint.tensors.items(), grid_of(metadata), strict=False):
        levels = np.rint(tensor / step)
        if np.abs(levels).max(initial=0) <= MAX_LEVEL and np.abs(tensor / step - levels).max(initial=0) < OFF_GRID:
            tensors[name] = levels.astype(np.int8)
    write_whole(path, serialise(tensors, {key: str(value) for key, value in metadata.items()}))
