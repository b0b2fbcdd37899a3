"""Checkpoints: a network's weights and the names of its architecture and data set, as safetensors. Never pickle."""

import errno
import functools
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.models import shipped
from airnet_sdr.models.batch_norm import measured_statistics, statistics_of
from airnet_sdr.models.beside import State
from airnet_sdr.models.card import ModelCard, check_metrics
from airnet_sdr.models.checkpoint_tensors import (
    check_values,
    checked_numbers,
    checked_tensors,
    measured_on,
    opened,
    widths_of,
)
from airnet_sdr.models.digital.quantise import MAX_LEVEL, grid_of
from airnet_sdr.models.fixed import mark_as
from airnet_sdr.models.nets import ARCHITECTURES, AUGMENTATION, DATASETS, build, check_shapes
from airnet_sdr.models.packing import (
    DTYPES,
    exact_of,
    load_exact,
    load_vectors,
    named_floats,
    strict_state,
    tensor_specs,
    tensors_of,
    to_exact,
    to_vectors,
)

OF_NETWORK = ("arch", "dataset", "accuracy", "metrics")  # metadata that hold for the architecture that they name
OFF_GRID = 0.1  # of a step; rounding to float16 moves a weight less than this from its level


@dataclass
class Checkpoint:
    """A trained network: `tensors` are the float32 or complex64 tensors that are sent, in state-dict order.

    `accuracy` is the top-1 accuracy (0 to 1) on `dataset`, None if not measured. `widths` are passed to
    `models.nets.build`; () means the full widths. `statistics` are the batch norm statistics by name, empty if
    unknown. `exact` are buffers that are sent exactly, by name, where they may differ from those of a freshly built
    network. `dtypes` are the names of dtypes by tensor, where they are not the module's. `state` is what is sent
    beside the weights, once it is found out (`models.known_state`); `data_dir` is where
    its data are, None for the usual places.
    """

    arch: str
    dataset: str
    accuracy: float | None
    tensors: dict[str, np.ndarray]
    metadata: dict[str, str] = field(default_factory=dict)
    widths: tuple[int, ...] = ()
    statistics: dict[str, np.ndarray] = field(default_factory=dict)
    exact: dict[str, np.ndarray] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    state: State | None = None
    data_dir: str | None = None

    @property
    def card(self) -> ModelCard:
        """The model card that the manifest carries."""
        return ModelCard(self.arch, self.dataset, self.accuracy, self.widths, tuple(self.metrics.items()))

    @property
    def metrics(self) -> dict[str, float]:
        """What `evaluate` of the architecture's file found, {} if unknown. Raises InputError for what is none."""
        try:
            found = {name: float(value) for name, value in json.loads(self.metadata.get("metrics", "{}")).items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"the metrics in this checkpoint's metadata must be names and numbers; got {self.metadata['metrics']!r}"
            ) from error
        check_metrics(found)
        return found

    @property
    def numels(self) -> list[int]:
        """Real numbers of each tensor."""
        return [tensor.size * (2 if np.iscomplexobj(tensor) else 1) for tensor in self.tensors.values()]

    @property
    def names(self) -> list[str]:
        """Names of all that has a dtype of its own, in the order of dtypes in a manifest."""
        return named_floats(build(self.arch, self.widths))

    def module(self) -> nn.Module:
        """The network with these weights."""
        module = load_vectors(build(self.arch, self.widths), to_vectors(self.tensors))
        load_exact(module, self.exact)
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
    if not os.path.isfile(name):  # unlike a Path, it takes any name
        raise InputError(
            f"no model {name!r}; give PATH.safetensors or one of: {', '.join(shipped.paths()) or 'none shipped'}"
        )
    return Path(name)


def load(name_or_path, architecture: str | None = None) -> Checkpoint:
    """Read a checkpoint; check its architecture, the tensors' names and shapes, and that all numbers are finite.

    Weights may be of any floating-point dtype on disk, or levels as `save` writes them. With an `architecture` that the
    metadata do not name, the network is of that architecture, on its data set, the accuracy unmeasured; but a shipped
    variant of a shipped one is what its file says. The dtypes of a file that names none, of another program, are kept.
    Raises InputError naming the first fault.
    """
    path = locate(name_or_path)
    with opened(path) as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 # it is no dictionary
    named = metadata.get("arch")
    arch = named if architecture is None or _are_variants(named, architecture) else architecture
    if arch not in ARCHITECTURES:
        raise InputError(
            f"{path} names the architecture {arch or 'none'!r}; its metadata must have `arch`, one of: "
            f"{', '.join(ARCHITECTURES)}, or one given with --architecture"
        )
    try:
        metadata, widths = checked_numbers(path, metadata), widths_of(path, metadata)
        found = checked_tensors(path, arch, build(arch, widths), tensors, metadata)
    except InputError as error:
        if named in (None, arch):
            raise
        raise InputError(f"the file says {named}, `architecture` says {arch}, which does not fit: {error}") from error
    dataset, accuracy = DATASETS.get(arch, "none"), None
    if named == arch:
        dataset, accuracy = measured_on(path, metadata)
    else:
        metadata = {name: value for name, value in metadata.items() if name not in OF_NETWORK}
    dtypes = found["dtypes"] if named is None or "dtypes" in metadata else {}
    return Checkpoint(arch, dataset, accuracy, metadata=metadata, widths=widths, **{**found, "dtypes": dtypes})


def _are_variants(one: str | None, other: str) -> bool:
    """Whether two architectures are shipped ones of one data set, such as with and without batch norm."""
    return {one, other} <= AUGMENTATION.keys() and DATASETS[one] == DATASETS[other]


def load_any(name_or_path, architecture: str | None = None) -> Checkpoint:
    """As `load`, of one of several networks: ``architecture`` is only that of a file which names none that is known."""
    path = locate(name_or_path)
    with opened(path) as file:
        named = (file.metadata() or {}).get("arch")
    return load(path, None if named in ARCHITECTURES else architecture)


def checked(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint itself; InputError if its tensors do not fit its architecture, or their numbers are impossible."""
    if checkpoint.arch not in ARCHITECTURES:
        raise InputError(f"`architecture` must be one of {', '.join(ARCHITECTURES)}; got {checkpoint.arch!r}")
    wanted = {spec.name: spec.shape for spec in tensor_specs(build(checkpoint.arch, checkpoint.widths))}
    if wanted != {name: tensor.shape for name, tensor in checkpoint.tensors.items()}:
        raise InputError(
            f"the module's tensors are not those of {checkpoint.arch!r}; give the `architecture` that makes it"
        )
    for name, tensor in {**checkpoint.tensors, **checkpoint.statistics}.items():
        check_values(name, tensor, name in checkpoint.statistics)
    return checkpoint


def from_module(module: nn.Module, arch: str, dataset: str, accuracy: float | None = None, **fields) -> Checkpoint:
    """A module's state dict as a checkpoint, checked; ``fields`` are further ones of `Checkpoint`.

    Raises InputError for one that is not of ``arch``, or has tensors without a shape.
    """
    module = unwrapped(module)
    check_shapes(module, "the module", "before you send it")
    fresh = build(arch, fields.get("widths", ()))
    like, state, tensors = fresh.state_dict(), mark_as(module, fresh).state_dict(), tensors_of(module)
    dtypes = {
        name: str(state[name].dtype).removeprefix("torch.")
        for name in named_floats(module)
        if name in like and state[name].dtype in DTYPES.values() and state[name].dtype != like[name].dtype
    }
    exact = {
        name: to_exact(state[name], like[name]) if name in like else value for name, value in exact_of(module).items()
    }
    fields = {"statistics": measured_statistics(module), "exact": exact, "dtypes": dtypes, **fields}
    return checked(Checkpoint(arch, dataset, accuracy, tensors, **fields))


def unwrapped(module: nn.Module) -> nn.Module:
    """The network inside `nn.DataParallel`, `DistributedDataParallel` and `torch.compile`, by whose names it is
    known."""
    while True:
        inside = getattr(module, "_orig_mod", None)
        if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            inside = module.module
        if not isinstance(inside, nn.Module):
            return module
        module = inside


def load_mean(names_or_paths: str, architecture: str | None = None) -> Checkpoint:
    """Load one checkpoint, or the mean of the weights of several, separated by commas; all as by `load_any`.

    The mean of networks fine-tuned from one another is often better than each (Wortsman et al., Model soups, 2022). It
    has no batch norm statistics. Raises InputError if one cannot be loaded or has another architecture or widths than
    the first.
    """
    names = str(names_or_paths).split(",")
    first, *others = several = [load_any(name, architecture) for name in names]
    if not others:
        return first
    for name, each in zip(names, several, strict=True):
        if (each.arch, each.widths) != (first.arch, first.widths):
            raise InputError(f"{name} differs in architecture or widths from the first; give equal ones")
    mean = {name: np.mean([each.tensors[name] for each in several], axis=0) for name in first.tensors}
    return replace(first, tensors=mean, statistics={})


def save(path, checkpoint: Checkpoint, half: bool = False, module: nn.Module | None = None) -> None:
    """Write a checkpoint whole or not at all; with `half` as float16.

    Weights on a grid, the result of training for bits (`models.entropy`), are written as int8 levels. ``module`` is
    the network with these weights, where it is there already.
    """
    metadata = {
        **checkpoint.metadata,
        "arch": checkpoint.arch,
        "dataset": checkpoint.dataset,
        "accuracy": "none" if checkpoint.accuracy is None else f"{checkpoint.accuracy:.4f}",
    }
    if checkpoint.widths:
        metadata["widths"] = ",".join(map(str, checkpoint.widths))
    if checkpoint.dtypes:
        metadata["dtypes"] = "kept"
    module = checkpoint.module() if module is None else module
    unknown = set(statistics_of(module)) - set(checkpoint.statistics)
    state = {name: value for name, value in strict_state(module, checkpoint.dtypes).items() if name not in unknown}
    if half:
        state = {name: tensor.half() if tensor.dtype == torch.float32 else tensor for name, tensor in state.items()}
    for (name, tensor), step in zip(checkpoint.tensors.items(), grid_of(metadata), strict=False):
        levels = np.rint(tensor / step)
        if np.abs(levels).max(initial=0) <= MAX_LEVEL and np.abs(tensor / step - levels).max(initial=0) < OFF_GRID:
            state[name] = torch.from_numpy(levels.astype(np.int8))
    write_whole(path, functools.partial(_write, state, {key: str(value) for key, value in metadata.items()}))


def _write(state: dict[str, torch.Tensor], metadata: dict[str, str], path: Path) -> None:
    """Write a safetensors file from where its tensors are in memory; OSError if that fails."""
    try:
        save_file(state, path, metadata)
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error)) from error
