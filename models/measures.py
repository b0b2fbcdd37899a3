"""Measures ready-made for a user's `evaluate`: top-1, top-k, perplexity, RMSE and mean IoU, by torchmetrics.

In the user's file, which has `load_data` as well:

    from airnet_sdr.models import measures

    evaluate = measures.evaluate(load_data, measures.top_k(1), measures.top_k(5))

Several are several metrics, of which the first is the headline. A batch's inputs go to the network, whose output is
compared with the labels: the last entry of a tuple, or "labels" of a dictionary.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from airnet_sdr.dsp.errors import InputError, one_line
from airnet_sdr.models.batches import as_examples, bounded
from airnet_sdr.models.foreign import declare_torchvision_operators
from airnet_sdr.models.task import IGNORED, applied


@dataclasses.dataclass(frozen=True)
class Measure:
    """A measure called `name`: `make(num_classes)` is a torchmetrics metric of outputs and labels.

    `num_classes` is the length of the output's axis 1, of which `prepare(output, labels)` makes what the metric takes.
    """

    name: str
    make: Callable[[int], Any]
    prepare: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda output, labels: (output, labels)


def evaluate(
    load_data: Callable[[str, str | None], Any], *measures: Measure
) -> Callable[[nn.Module, str | None], dict[str, float]]:
    """An `evaluate(network, data_dir)` that measures the network on `load_data("test", data_dir)`.

    Raises InputError without a measure.
    """
    if not measures:
        raise InputError("measures.evaluate needs a measure, such as measures.top_k(5)")

    def evaluate_network(network: nn.Module, data_dir: str | None = None) -> dict[str, float]:
        metrics: list = []
        for batch in bounded(as_examples(load_data("test", data_dir))):
            output, labels = applied(network, batch)
            metrics = metrics or [each.make(output.shape[1] if output.ndim > 1 else 1) for each in measures]
            for measure, metric in zip(measures, metrics, strict=True):
                metric.update(*measure.prepare(output.float(), labels))
        return {each.name: float(metric.compute()) for each, metric in zip(measures, metrics, strict=True)}

    return evaluate_network


def top_k(k: int = 1) -> Measure:
    """Share of labels, int64 (N, ...), that are among the k largest outputs (N, C, ...): 0 to 1, as `task.top1`
    counts them."""
    with _importing():
        from torchmetrics.classification import MulticlassAccuracy
    return Measure(
        f"top-{k}",
        lambda num_classes: MulticlassAccuracy(num_classes, k, "micro", ignore_index=IGNORED),
        lambda output, labels: (_wrong_where_nan(output, labels), labels.long()),
    )


def _wrong_where_nan(output: Tensor, labels: Tensor) -> Tensor:
    """Outputs (N, C, ...), those with a NaN among their C classes replaced by ones whose label is the least."""
    label = labels.long().clamp(0, output.shape[1] - 1).unsqueeze(1)
    wrong = torch.zeros_like(output).scatter(1, label, -1.0)
    return torch.where(output.isnan().any(1, keepdim=True), wrong, output)


def perplexity(ignore_index: int | None = None) -> Measure:
    """exp of the mean cross-entropy of outputs (N, T, V) with the tokens that follow, int64 (N, T)."""
    with _importing():
        from torchmetrics.text import Perplexity
    return Measure("perplexity", lambda num_classes: Perplexity(ignore_index))


def rmse() -> Measure:
    """Root of the mean squared error of outputs and labels, both (N, ...)."""
    with _importing():
        from torchmetrics.regression import MeanSquaredError
    return Measure(
        "RMSE",
        lambda num_classes: MeanSquaredError(squared=False),
        lambda output, labels: (output.reshape(-1), labels.reshape(-1).to(output)),
    )


def mean_iou(ignore_index: int | None = None) -> Measure:
    """Mean over the classes of intersection over union of outputs (N, C, H, W) and labels, int64 (N, H, W)."""
    with _importing():
        from torchmetrics.classification import MulticlassJaccardIndex
    return Measure("mIoU", lambda num_classes: MulticlassJaccardIndex(num_classes, ignore_index=ignore_index))


@contextlib.contextmanager
def _importing() -> Iterator[None]:
    """Import torchmetrics inside this context: where a measure is used, as it takes a second."""
    declare_torchvision_operators()  # torchmetrics imports torchvision where there is one
    try:
        yield
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision of another build than torch's
        text = one_line(error)
        raise InputError(
            f"torchmetrics cannot be imported ({text}); install it, and torchvision of torch's build"
        ) from error
