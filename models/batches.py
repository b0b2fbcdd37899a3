"""Examples of any structure, by batches: what `load_data` of a user's file may return.

- tensors (N, ...), alone or in tuples, lists and dictionaries of any nesting, the N examples along the first axis;
- a `torch.utils.data.Dataset`, or a list of examples, which PyTorch's `default_collate` joins;
- a `DataLoader`, whose own `collate_fn` joins them; its order, workers and batch size are not used, of its samplers
  only the indices of a `SubsetRandomSampler`;
- any other iterable of batches, which is read once and kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    default_collate,
)

from airnet_sdr.dsp.errors import InputError, one_line

BATCH_SIZE, BATCH_BYTES = 500, 8 << 20  # of an evaluation

Batch = Any  # tensors in tuples, lists and dictionaries


@dataclasses.dataclass(frozen=True)
class Examples:
    """`num` examples; `take(indices)` is the batch of those at `indices`, int64 (n,); `joined` as of `parts_of`."""

    num: int
    take: Callable[[Tensor], Batch]
    joined: bool = False

    def __len__(self) -> int:
        return self.num

    def batches(self, size: int) -> Iterator[Batch]:
        """All examples in order, `size` a batch and the rest in the last."""
        for indices in torch.arange(self.num).split(size):
            yield self.take(indices)

    def select(self, indices: Tensor) -> Examples:
        """Those at `indices`, int64 (n,), in this order."""
        return dataclasses.replace(self, num=len(indices), take=lambda chosen: self.take(indices[chosen]))

    def first(self, num: int | None) -> Examples:
        """The first `num` of them; all for None."""
        return self if num is None or num >= self.num else dataclasses.replace(self, num=num)


def as_examples(found: Any) -> Examples:
    """The examples in what `load_data` returned; see above. Raises InputError for anything else, or none at all."""
    if isinstance(found, Examples):
        return found
    if isinstance(found, TensorDataset):
        found = found.tensors
    if isinstance(found, DataLoader) and not isinstance(found.dataset, IterableDataset):
        return _from_loader(found)
    if isinstance(found, IterableDataset) or (isinstance(found, list) and _is_of_examples(found)):
        return _from_dataset(list(found), default_collate)
    if isinstance(found, (Tensor, np.ndarray, tuple, list, Mapping)):
        return _from_tensors(found)
    if hasattr(found, "__getitem__") and hasattr(found, "__len__"):
        return _from_dataset(found, default_collate)
    if hasattr(found, "__iter__"):
        return _from_tensors(_joined(list(found)))
    raise InputError(f"load_data must return tensors, a Dataset or a DataLoader; got {type(found).__name__}")


def parts_of(indices: Tensor, size: int, joined: bool) -> list[Tensor]:
    """The indices (n,), `size` a part and the rest in the last.

    joined : a rest of one goes to the part before it, since batch norm takes the variance of two or more
    """
    parts = list(indices.split(size))
    if joined and len(parts) > 1 and len(parts[-1]) == 1 < size:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def bounded(examples: Examples) -> Iterator[Batch]:
    """Batches for an evaluation, whose inputs take little memory."""
    return map(examples.take, bounded_parts(examples))


def bounded_parts(examples: Examples) -> list[Tensor]:
    """The indices of the batches of `bounded`."""
    num_bytes = sum(tensor[0].numel() * 4 for tensor in tensors_in(examples.take(torch.arange(1))) if tensor.ndim)
    size = max(1, min(BATCH_SIZE, BATCH_BYTES // max(num_bytes, 1)))
    return parts_of(torch.arange(len(examples)), size, examples.joined)


def map_tensors(function: Callable[[Tensor], Any], batch: Batch) -> Batch:
    """The batch with `function` applied to each tensor in it; anything else stays."""
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(map_tensors(function, each) for each in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(map_tensors(function, each) for each in batch)
    if isinstance(batch, Mapping):
        return {name: map_tensors(function, each) for name, each in batch.items()}
    return batch


def tensors_in(batch: Batch) -> list[Tensor]:
    """The tensors of a batch, in order."""
    found: list[Tensor] = []
    map_tensors(found.append, batch)
    return found


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device."""
    return map_tensors(lambda tensor: tensor.to(device), batch)


def size_of(batch: Batch) -> int:
    """The number of examples of a batch."""
    tensors = tensors_in(batch)
    return len(tensors[0]) if tensors and tensors[0].ndim else 1


def logits_of(output: Any) -> Any:
    """The `logits` of an output of several parts, or the first part; None of one without parts."""
    if isinstance(output, Mapping):
        return output["logits"] if "logits" in output else next(iter(output.values()), None)
    if isinstance(output, (tuple, list)) and not hasattr(output, "logits"):
        return next(iter(output), None)
    return getattr(output, "logits", output)


def _is_of_examples(found: list) -> bool:
    return bool(found) and isinstance(found[0], (tuple, Mapping))


def _from_tensors(found: Any) -> Examples:
    found = _as_tensors(found)
    lengths = {len(tensor) if tensor.ndim else 0 for tensor in tensors_in(found)}
    if len(lengths) != 1 or 0 in lengths:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors_in(found))
        raise InputError(f"load_data must return tensors of N examples each; got {shapes}")
    return Examples(lengths.pop(), lambda indices: map_tensors(lambda tensor: tensor[indices.to(tensor.device)], found))


def _from_dataset(dataset: Any, collate: Callable) -> Examples:
    if not len(dataset):
        raise InputError("load_data returned a data set without examples")
    return Examples(len(dataset), lambda indices: collate([dataset[int(index)] for index in indices]))


def _from_loader(loader: DataLoader) -> Examples:
    dataset = _sampled(loader)
    if loader.batch_size:
        return _from_dataset(dataset, loader.collate_fn)
    return _from_tensors(_joined([loader.collate_fn(dataset[index]) for index in range(len(dataset))]))


def _sampled(loader: DataLoader) -> Any:
    """The data set of a loader, or the part of it that its sampler is for. Raises InputError for another sampler."""
    dataset: Any = loader.dataset
    sampler: Any = loader.sampler
    if loader.batch_size is None and loader.batch_sampler is not None:
        sampler = loader.batch_sampler
    if type(sampler) is SubsetRandomSampler:
        return Subset(dataset, [int(index) for index in sampler.indices])
    whole = type(sampler) in (SequentialSampler, RandomSampler) and not getattr(sampler, "replacement", False)
    if not whole or len(sampler) != len(dataset):
        raise InputError(
            f"load_data returned a DataLoader whose {type(sampler).__name__} is not used; return a Subset of its data "
            "set, or a loader of one"
        )
    return dataset


def _as_tensors(found: Any) -> Any:
    if isinstance(found, np.ndarray):
        return torch.from_numpy(found)
    if isinstance(found, (tuple, list)) and not hasattr(found, "_fields"):
        return type(found)(_as_tensors(each) for each in found)
    if isinstance(found, Mapping):
        return {name: _as_tensors(each) for name, each in found.items()}
    return found


def _joined(batches: list) -> Any:
    """Batches of one structure as one, joined along the first axis."""
    if not batches:
        raise InputError("load_data returned no batches")
    columns = [tensors_in(_as_tensors(batch)) for batch in batches]
    try:
        joined = [torch.cat(parts) for parts in zip(*columns, strict=True)]
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"the batches of load_data cannot be joined ({one_line(error)}); return a Dataset instead"
        ) from error
    return map_tensors(lambda _: joined.pop(0), _as_tensors(batches[0]))
