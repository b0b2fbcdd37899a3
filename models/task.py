"""What networks are for: their examples, their loss and their measures; the only definition of accuracy.

A user's file says it by `load_data`, `loss`, `evaluate` and `augment` (`models.register`). Without a loss it is the
cross-entropy of the outputs with the labels: the last entry of a batch that is a tuple, `"labels"` of one that is a
dictionary; the network gets the others. `evaluate` is for the test alone. Every choice and plan uses the loss on
examples held back from the training data (`Task.held_back`): the less, the better.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from airnet_sdr.dsp.errors import InputError, LinkError, one_line
from airnet_sdr.models import data
from airnet_sdr.models.batches import (
    Batch,
    Examples,
    as_examples,
    bounded,
    bounded_parts,
    logits_of,
    size_of,
    tensors_in,
)
from airnet_sdr.models.card import checked_metrics
from airnet_sdr.models.screen import can_screen, screened

HOLD_OUT = 2500  # training examples on which no network was trained
TEMPERATURES = tuple(np.geomspace(1 / 8, 8, 37).tolist())
SPLIT_SEED = 2105
IGNORED = -100  # the label that PyTorch's cross-entropy ignores
LIBRARIES = tuple(os.path.join(os.path.dirname(path), "") for path in (os.path.dirname(torch.__file__), os.__file__))


class OwnCodeError(LinkError):
    """A user's own function failed; the second line is its error."""


class NoLossError(InputError):
    """Outputs and labels are no classifier's, and the user's file has no loss."""


@dataclasses.dataclass(frozen=True)
class Task:
    """The data set `name`, and what a user's file says about it; None for what it does not say.

    load_data : `load_data(split, data_dir)`, for the splits "train" and "test"; see `models.batches`
    evaluate : `evaluate(network, data_dir) -> {name: value}`, for the test; the first is the headline
    loss : `loss(network, batch)`, a mean over the batch as a tensor ()
    augment : `augment(batch, rng)`, the batch for a training step; `rng` is a `torch.Generator`
    """

    name: str
    load_data: Callable | None = None
    evaluate: Callable | None = None
    loss: Callable | None = None
    augment: Callable | None = None
    is_own: bool = True

    def examples(self, split: str, data_dir: str | None = None) -> Examples:
        """The examples of a split. Raises InputError where there are none."""
        if self.load_data is None:
            raise InputError(f"{self.name} has no load_data, hence no {split} data; add it to the file")
        with own_code(f"load_data of {self.name}"):
            found = as_examples(self.load_data(split, data_dir))
        return dataclasses.replace(found, take=self._taking(found), joined=True) if self.is_own else found

    def _taking(self, examples: Examples) -> Callable[[Tensor], Batch]:
        """`examples.take`, which runs the user's data set."""

        def take(indices: Tensor) -> Batch:
            with own_code(f"load_data of {self.name}"):
                return examples.take(indices)

        return take

    def split(self, num_held_back: int, data_dir: str | None = None) -> tuple[Examples, Examples]:
        """Training examples to train on and those held back, at most a tenth.

        The shipped data sets are shuffled, so the last ones are held back; of others the last ones of a fixed
        permutation, as they may be sorted by class. Fewer held back are among more held back.
        """
        examples = self.examples("train", data_dir)
        kept = len(examples) - min(num_held_back, len(examples) // 10)
        order = torch.arange(len(examples))
        if self.is_own:
            order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(SPLIT_SEED))
        return examples.select(order[:kept]), examples.select(order[kept:])

    def held_back(self, num: int | None = None, data_dir: str | None = None) -> Examples:
        """The first ``num`` (None: all) of the training examples on which no network was trained."""
        return self.split(HOLD_OUT, data_dir)[1].first(num)

    def run(self, network: Callable, batch: Batch) -> Any:
        """Pass a batch through the network as this task does, for what that leaves in its layers."""
        return self.batch_loss(network, batch) if self.loss is not None else applied(network, batch)[0]

    def batch_loss(self, network: Callable, batch: Batch, label_smoothing: float = 0.0) -> Tensor:
        """The loss of a batch, a tensor (). A loss of one's own may take gradients, in evaluations too."""
        if self.loss is None:
            output, labels = output_of(network, batch)
            return F.cross_entropy(output.float(), labels, label_smoothing=label_smoothing)
        with own_code(f"loss of {self.name}"), torch.enable_grad():
            return self.loss(network, batch)

    @torch.no_grad()
    def mean_loss(self, module: nn.Module, examples: Examples) -> float:
        """The loss on these examples by which networks and plans are compared; the module in evaluation mode.

        Cross-entropy is that at the outputs' best temperature, which noise changes and the decision does not depend on.
        Infinite where it is no number.
        """
        with evaluating(module):
            if self.loss is None:
                return calibrated_loss(*_outputs(module, examples))
            sums = [(size_of(batch) * self._number(module, batch), size_of(batch)) for batch in bounded(examples)]
        total = math.fsum(each for each, _ in sums) / sum(num for _, num in sums)
        return total if math.isfinite(total) else math.inf

    def _number(self, module: nn.Module, batch: Batch) -> float:
        loss = self.batch_loss(module, batch)
        with own_code(f"loss of {self.name}"):
            return float(torch.as_tensor(loss).detach())

    @torch.inference_mode()
    def top1(self, module: nn.Module, examples: Examples) -> float | None:
        """Top-1 accuracy on these examples, 0 to 1; None where the task has its own loss: it is no classifier's."""
        if self.loss is not None:
            return None
        with evaluating(module):
            return top1(*_outputs(module, examples, only_largest=not self.is_own))

    def metrics(self, module: nn.Module, data_dir: str | None = None) -> dict[str, float] | None:
        """What `evaluate` finds; None without it."""
        if self.evaluate is None:
            return None
        with own_code(f"evaluate of {self.name}"), torch.no_grad(), evaluating(module):
            found = self.evaluate(module, data_dir)
        if not isinstance(found, Mapping) or not found:
            got = "none" if isinstance(found, Mapping) else type(found).__name__
            raise InputError(f"evaluate of {self.name} must return {{name: value}}; got {got}")
        return checked_metrics(found, f"evaluate of {self.name}")


OWN: dict[str, Task] = {}  # by data set


def task_of(dataset: str) -> Task:
    """The task of a data set. Raises InputError for one that is not known."""
    if dataset in OWN:
        return OWN[dataset]
    if dataset not in data.LOADERS:
        raise InputError(f"no data set called {dataset!r}; give one of {', '.join(sorted(known()))}")
    return Task(dataset, lambda split, data_dir: data.load(dataset, split, data_dir), is_own=False)


def known() -> set[str]:
    """The names of the data sets that are known here."""
    return {*data.LOADERS, *OWN}


def check_dataset(name: str, dataset: str | None) -> None:
    """Raise InputError for a data set that is neither None, none nor known here; ``name`` is the option's."""
    if dataset not in (None, "none", *known()):
        raise InputError(f"no data set {dataset!r}; `{name}` must be none or one of: {', '.join(sorted(known()))}")


def applied(network: Callable, batch: Batch) -> tuple[Any, Any]:
    """What the network makes of a batch's inputs, and the labels: the last entry of a tuple, "labels" of a dictionary.

    Labels are None where there are none. What counts of an output are its `logits_of`. Raises InputError where the
    network does not take these inputs; of a line of the user's file, it says which.
    """
    labels, inputs, named = None, [batch], {}
    if isinstance(batch, Mapping):
        labels, inputs, named = batch.get("labels"), [], {name: x for name, x in batch.items() if name != "labels"}
    elif isinstance(batch, (tuple, list)):
        *inputs, labels = batch if len(batch) > 1 else (*batch, None)
    try:
        output = network(*inputs, **named)
    except LinkError:
        raise
    except Exception as error:  # as torch says that shapes or types do not fit; the user's code may raise anything
        shapes = ", ".join(str(tuple(tensor.shape[1:])) for tensor in tensors_in([inputs, named]))
        text, place = one_line(error) or type(error).__name__, _own_place(error)
        raise InputError(
            f"the network does not take inputs of {shapes} ({text}); give it data that it was made for"
            + (f", or correct it:\n  {place}: {type(error).__name__}: {text}" if place else "")
        ) from error
    return logits_of(output), labels


def output_of(network: Callable, batch: Batch) -> tuple[Tensor, Tensor]:
    """A classifier's output, float (n, num_classes, ...), and the labels, int64 (n, ...), of a batch.

    Raises NoLossError where these are no classifier's, InputError for labels without an output of their own; those
    that are IGNORED always fit.
    """
    output, labels = applied(network, batch)
    if not isinstance(output, Tensor) or not isinstance(labels, Tensor) or labels.is_floating_point():
        raise NoLossError("without labels as int64 there is no cross-entropy; give the file a loss and an evaluate")
    if output.ndim < 2 or output.shape[1] < 2 or (output.shape[0], *output.shape[2:]) != tuple(labels.shape):
        raise NoLossError(
            f"outputs {tuple(output.shape)} do not fit labels {tuple(labels.shape)} of a classifier; "
            "give the file a loss and an evaluate"
        )
    labels = labels.long()
    told = labels[labels != IGNORED]
    if len(told) and not 0 <= told.min() <= told.max() < output.shape[1]:
        raise InputError(
            f"the data has labels from {told.min()} to {told.max()}, the network {output.shape[1]} outputs; "
            "give it data that it was made for"
        )
    return output, labels


def top1(output: Tensor, labels: Tensor) -> float:
    """Share of rows of `output` (N, num_classes) with the largest entry at `labels` (N,); a row with a NaN is wrong,
    one whose label is IGNORED is not counted."""
    right = (output.argmax(dim=1) == labels) & ~output.isnan().any(dim=1)
    return right[labels.long() != IGNORED].double().mean().item()


def calibrated_loss(output: Tensor, labels: Tensor) -> float:
    """Mean cross-entropy at the logits' best temperature; infinite where it is no number."""
    losses = [F.cross_entropy(gain * output, labels).item() for gain in TEMPERATURES]
    return min((loss for loss in losses if math.isfinite(loss)), default=math.inf)


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Inside this context the module is in evaluation mode."""
    was_training = {layer: layer.training for layer in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for layer, training in was_training.items():
            layer.training = training


@contextlib.contextmanager
def own_code(name: str) -> Iterator[None]:
    """Run a user's own code; what it raises becomes an OwnCodeError that says where, in a second line."""
    try:
        yield
    except LinkError:
        raise
    except Exception as error:  # it may raise anything
        last = traceback.extract_tb(error.__traceback__)[-1]
        place, text = _own_place(error) or f"{last.filename}:{last.lineno}", one_line(error)
        raise OwnCodeError(f"{name} failed; correct it:\n  {place}: {type(error).__name__}: {text}") from error


def _own_place(error: Exception) -> str | None:
    """FILE:LINE of the user's own code where the error came from; None where there is none on the way to it."""
    frames = [
        f"{frame.filename}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(LIBRARIES) and os.path.dirname(frame.filename) != os.path.dirname(__file__)
    ]
    return frames[-1] if frames else None


def _outputs(module: nn.Module, examples: Examples, only_largest: bool = False) -> tuple[Tensor, Tensor]:
    """Outputs (n, num_classes) and labels (n,) of all examples, each place of each; they may have different numbers.

    Of a row with ``only_largest`` which output is the largest is right, as in float32; the outputs may be bfloat16's.
    Raises InputError where no label counts, or batches differ in their classes.
    """

    def run(indices):
        return output_of(module, examples.take(indices))

    parts = bounded_parts(examples)
    found = screened(run, parts) if only_largest and can_screen(module) else map(run, parts)
    outputs, labels = zip(*found, strict=True)
    classes = {each.shape[1] for each in outputs}
    if len(classes) > 1:
        raise InputError(f"the network has {sorted(classes)} outputs for different batches; give it one number")
    output = torch.cat([each.float().movedim(1, -1).reshape(-1, each.shape[1]) for each in outputs])
    label = torch.cat([each.reshape(-1) for each in labels])
    if (label == IGNORED).all():
        raise InputError(f"all labels of the data are {IGNORED}, which counts for none; give it others")
    return output, label
