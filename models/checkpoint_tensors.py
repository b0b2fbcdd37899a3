"""A checkpoint's file: its metadata, and its tensors, checked against the architecture that they are said to be of."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.options import checked_number
from airnet_sdr.models.batch_norm import statistics_of
from airnet_sdr.models.digital.quantise import grid_of
from airnet_sdr.models.packing import COMPLEX, INTEGER, REAL, exact_of, tensor_specs, to_exact, to_numpy

MOST_NAMES = 4  # of a list in a message
# numbers in the metadata: their bounds, whether they are whole, and words allowed in their place
NUMBERS: dict[str, tuple[float, float, bool, tuple[str, ...]]] = {
    "bits": (1, 2**40, True, ()),
    "parts": (1, 2**16, True, ()),
    "validation": (0, 1, False, ()),
    "validation_loss": (-math.inf, math.inf, False, ("inf",)),
}


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The safetensors file; InputError where it cannot be read or is none."""
    try:
        with path.open("rb"):  # the operating system's own words about a file that cannot be read
            pass
        with safe_open(path, "pt") as file:
            yield file
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError, RuntimeError) as error:
        raise InputError(
            f"{path} is not a whole safetensors file ({error}); weights of other programs (.pth, .pt, .bin, .ckpt) "
            "become one by airnet-import"
        ) from error


def widths_of(path: Path, metadata: dict[str, str]) -> tuple[int, ...]:
    """The widths in the metadata, () where there are none. Raises InputError for what is no number."""
    try:
        return tuple(int(width) for width in metadata.get("widths", "").split(",") if width)
    except ValueError as error:
        raise InputError(f"{path}: widths must be numbers with commas; got {metadata['widths']!r}") from error


def checked_numbers(path: Path, metadata: dict[str, str]) -> dict[str, str]:
    """The metadata with their numbers as Python writes them. Raises InputError for those that cannot be."""
    given = {name: each for name, each in NUMBERS.items() if name in metadata}
    return metadata | {
        name: str(checked_number(name, metadata[name], *each, f"{path}, metadata: ")) for name, each in given.items()
    }


def measured_on(path: Path, metadata: dict[str, str]) -> tuple[str, float | None]:
    """The data set and the accuracy in the metadata. Raises InputError for those that cannot be."""
    try:
        accuracy = float(metadata["accuracy"]) if metadata.get("accuracy") != "none" else None
    except (KeyError, ValueError):
        accuracy = math.nan
    if "dataset" not in metadata or not (accuracy is None or 0 <= accuracy <= 1):
        raise InputError(f"{path}: the metadata must have `dataset` and `accuracy` from 0 to 1; got {metadata}")
    return metadata["dataset"], accuracy


def checked_tensors(
    path: Path, arch: str, module: nn.Module, tensors: dict[str, torch.Tensor], metadata: dict[str, str]
) -> dict[str, Any]:
    """The file's tensors by the fields of `Checkpoint`; InputError naming the first that does not fit ``arch``."""
    state, specs = module.state_dict(), tensor_specs(module)
    statistics, exact = statistics_of(module), exact_of(module)
    names = {spec.name: spec for spec in specs}
    tied = {other: spec.name for spec in specs for other in spec.tied}
    for other, name in tied.items():
        if other in tensors and not torch.equal(tensors.setdefault(name, tensors[other]), tensors[other]):
            raise InputError(f"{path}: {other} is {name} in {arch}, and differs from it in the file; tie them first")
    odd = sorted((set(names) - set(tensors)) | (set(tensors) - set(state)))
    if odd:
        raise InputError(
            f"{path} does not have the tensors of {arch}: missing or unknown {some(odd)}; if other names are all that "
            "differs, as by `module.`, airnet-import finds them"
        )
    try:
        steps = grid_of(metadata)
        grids = dict(zip(names, steps, strict=bool(steps)))
    except ValueError as error:
        raise InputError(
            f"{path}: steps must be {len(names)} numbers with commas ({error}); got {metadata['steps']!r}"
        ) from error
    found, dtypes = {}, {}
    for name in [name for name in state if name in tensors and name not in tied]:
        tensor, shape = tensors[name], tuple(state[name].shape)
        if tensor.dtype == torch.int8 and name in grids:
            tensor = tensor.float() * grids[name]
        kinds = next(kinds for kinds in (REAL, COMPLEX, INTEGER) if state[name].dtype in kinds)
        if tuple(tensor.shape) != shape or tensor.dtype not in kinds:
            raise InputError(f"{path}: {name} is {_kind(tensor)}; {arch} has {_kind(state[name])}")
        if kinds is not INTEGER and tensor.dtype != state[name].dtype:
            dtypes[name] = str(tensor.dtype).removeprefix("torch.")
        found[name] = to_exact(tensor, state[name]) if name in exact else to_numpy(tensor)
        if name not in exact:
            check_values(f"{path}: {name}", found[name], name in statistics)
    return {
        "tensors": {name: found[name] for name in names},
        "statistics": {name: found[name] for name in statistics if name in found},
        "exact": {name: found[name] for name in exact if name in found},
        "dtypes": dtypes,
    }


def check_values(name: str, tensor: np.ndarray, is_statistic: bool) -> None:
    """InputError, which starts with ``name``, for numbers that are not finite, and for running variances below 0."""
    if num_odd := int((~np.isfinite(tensor)).sum()):
        raise InputError(f"{name} has {num_odd} numbers that are not finite; train it again")
    if is_statistic and name.endswith("running_var") and (tensor < 0).any():
        raise InputError(f"{name} has {int((tensor < 0).sum())} variances below 0; train it again")


def some(names: list[str]) -> str:
    """The first of many names, and how many more there are.

    >>> some(["a", "b", "c", "d", "e", "f"])
    'a, b, c, d and 2 more'
    """
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _kind(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
