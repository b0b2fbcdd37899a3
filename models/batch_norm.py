"""Batch norm's running statistics: which they are, and their measurement on inputs.

Noise on the weights moves the mean and variance of every layer's outputs, so the statistics of the network as it was
trained no longer fit. The sender predicts them (`models.statistics`), or the receiver measures its own on unlabelled
inputs: each layer's statistics become the mean over batches of the batch statistics that training would use, its inputs
normalised by the layers before it.
"""

import contextlib
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from airnet_sdr.models.batches import Batch, Examples, as_examples
from airnet_sdr.models.task import evaluating

NUM_IMAGES = 5000
BATCH_SIZE = 250  # large batches: their variance is close to that of all images


def statistics_of(module: nn.Module) -> list[str]:
    """Names in the state dict of the running statistics: the means and variances of batch norm and its like."""
    state = module.state_dict()
    means = [name for name in state if name.rpartition(".")[2] == "running_mean"]
    pairs = [(name, name.removesuffix("mean") + "var") for name in means]
    return [name for pair in pairs if pair[1] in state and _are_alike(*map(state.get, pair)) for name in pair]


def measurable(module: nn.Module) -> set[str]:
    """Names of those that inputs move: batch norm's. Others, of frozen layers or of one's own, stay as they are."""
    named = module.named_modules(remove_duplicate=False)
    layers = {name for name, layer in named if isinstance(layer, _BatchNorm) and layer.track_running_stats}
    return {name for name in statistics_of(module) if name.rpartition(".")[0] in layers}


def _are_alike(mean: Tensor, var: Tensor) -> bool:
    return mean.shape == var.shape and mean.is_floating_point() and var.is_floating_point()


def measured_statistics(module: nn.Module) -> dict[str, np.ndarray]:
    """Copies of the running statistics, float32, by name."""
    state = module.state_dict()
    return {name: state[name].detach().cpu().float().numpy().copy() for name in statistics_of(module)}


def without_statistics(module: nn.Module) -> nn.Module:
    """The module itself, whose batch norm now uses each batch's statistics and keeps none."""
    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            layer.track_running_stats = False
            layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    return module


@contextlib.contextmanager
def normalised_by_batch(module: nn.Module) -> Iterator[None]:
    """Inside this context batch norm uses each batch's own statistics, in training and evaluation, and keeps none."""
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    before = [(layer.running_mean, layer.running_var) for layer in layers]
    for layer in layers:
        layer.running_mean = layer.running_var = None
    try:
        yield
    finally:
        for layer, (mean, var) in zip(layers, before, strict=True):
            layer.running_mean, layer.running_var = mean, var


def call(module: nn.Module, batch: Batch) -> object:
    """Pass a batch of inputs through the module."""
    return module(batch)


@torch.no_grad()
def recompute_statistics(
    module: nn.Module,
    inputs: Tensor | Examples,
    run: Callable[[nn.Module, Batch], object] = call,
    num_inputs: int = NUM_IMAGES,
) -> int:
    """Measure the running statistics of `module`, in place, on the first `num_inputs` of unlabelled `inputs`.

    `run(module, batch)` passes a batch through the module (`models.task.Task.run`). Returns the number of inputs used:
    0 for a network without batch norm, which stays unchanged. So does one whose measurement fails.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    if not layers:
        return 0
    examples = as_examples(inputs).first(num_inputs)
    num_batches = max(1, len(examples) // BATCH_SIZE)  # a small last batch has no useful variance
    with evaluating(module), _measuring(layers):  # dropout and the like stay off
        for batch in islice(examples.batches(BATCH_SIZE), num_batches):
            run(module, batch)
    return min(len(examples), BATCH_SIZE * num_batches)


@contextlib.contextmanager
def _measuring(layers: list[_BatchNorm]) -> Iterator[None]:
    """Inside this context the layers take the mean of their batches' statistics; after a failure they have their old
    ones."""
    before = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    old = [(layer.running_mean.clone(), layer.running_var.clone()) for layer in layers]
    for layer in layers:
        layer.num_batches_tracked = torch.tensor(0)
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over batches
        layer.train()
    try:
        yield
    except BaseException:
        for layer, (mean, var) in zip(layers, old, strict=True):
            layer.running_mean.copy_(mean)
            layer.running_var.copy_(var)
        raise
    finally:
        for layer, (momentum, tracked) in zip(layers, before, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, tracked
