"""The test of a network: its accuracy and its own metrics, and the batch norm recalibration of a received network."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import torch
from torch import nn

from airnet_sdr.dsp.errors import InputError, LinkError
from airnet_sdr.models.batch_norm import recompute_statistics, statistics_of
from airnet_sdr.models.task import known, task_of

if TYPE_CHECKING:
    from airnet_sdr.models.checkpoint import Checkpoint


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Top-1 accuracy, 0 to 1, None for what is no classifier; and what its file's `evaluate` found."""

    accuracy: float | None = None
    metrics: dict[str, float] | None = None


@torch.inference_mode()
def logits(module: nn.Module, images: torch.Tensor, batch_size: int = 500) -> torch.Tensor:
    """Logits, float32 (N, num_classes), of `module` in evaluation mode for uint8 images (N, C, H, W)."""
    was_training = module.training
    module.eval()
    output = torch.cat([module(batch) for batch in images.split(batch_size)])
    module.train(was_training)
    return output


def evaluate(module: nn.Module, dataset: str, data_dir=None) -> Evaluation:
    """The module on the test examples of `dataset`.

    Raises InputError without test data, or where outputs and labels are no classifier's and there is no `evaluate`;
    OwnCodeError where a function of the user's file fails.
    """
    task = task_of(dataset)
    metrics, score = task.metrics(module, data_dir), None
    if task.loss is None and (task.load_data is not None or metrics is None):
        try:
            score = task.top1(module, task.examples("test", data_dir))
        except InputError:  # no classifier
            if metrics is None:
                raise
    return Evaluation(score, metrics)


def accuracy(module: nn.Module, dataset: str, data_dir=None, limit: int | None = None) -> float | None:
    """Top-1 accuracy, 0 to 1, on the test examples of `dataset`, or the first `limit`; None if it has its own loss."""
    task = task_of(dataset)
    return task.top1(module, task.examples("test", data_dir).first(limit))


def recalibrate_batch_norm(module: nn.Module, dataset: str, data_dir=None) -> int:
    """Measure the batch norm statistics of a received network, in place, on test examples without their labels, drawn
    at random with a fixed seed, as the data may be sorted.

    Returns the number of examples used: 0 for a network without batch norm, or without test data.
    """
    task = task_of(dataset)
    if task.load_data is None or not statistics_of(module):
        return 0
    examples = task.examples("test", data_dir)
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0))
    return recompute_statistics(module, examples.select(order), task.run)


def measured(checkpoint: Checkpoint, data_dir: str | None = None) -> tuple[Checkpoint, LinkError | None]:
    """The checkpoint with accuracy and metrics on its data set; or as it is, and why they cannot be measured.

    A network without a data set stays as it is, without a reason.
    """
    if checkpoint.dataset not in known():
        return checkpoint, None
    try:
        found = evaluate(checkpoint.module(), checkpoint.dataset, data_dir)
    except LinkError as error:
        return checkpoint, error
    metadata = {**checkpoint.metadata, **({"metrics": json.dumps(found.metrics)} if found.metrics else {})}
    return dataclasses.replace(checkpoint, accuracy=found.accuracy, metadata=metadata), None


def measured_if_plain(checkpoint: Checkpoint, data_dir: str | None = None) -> Checkpoint:
    """A plain state dict, which nobody has measured yet, as `measured` gives it; any other checkpoint as it is."""
    return checkpoint if "arch" in checkpoint.metadata else measured(checkpoint, data_dir)[0]
