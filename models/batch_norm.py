"""Batch norm over the link: the receiver measures its running statistics; the sender does not send them.

Noise on the weights moves the mean and variance of every layer's outputs, so the sender's statistics no longer fit. The
receiver therefore passes unlabelled images through the received network. Each layer's statistics become the mean over
batches of the batch statistics that training would use: its inputs are normalised by the layers before it. Any images
like the evaluation images will do, and no label is used. The receiver uses the evaluation images, which it has.
"""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

NUM_IMAGES = 5000
BATCH_SIZE = 250  # large batches: their variance is close to that of all images


def statistics_of(module: nn.Module) -> list[str]:
    """Names in the state dict of the running statistics of batch norm."""
    return [
        f"{prefix}{'.' if prefix else ''}{name}"
        for prefix, layer in module.named_modules()
        if isinstance(layer, _BatchNorm) and layer.track_running_stats
        for name in ("running_mean", "running_var")
    ]


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
    """Inside this context batch norm uses each batch's own statistics and keeps none."""
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    before = [(layer.training, layer.momentum) for layer in layers]
    for layer in layers:
        layer.training, layer.momentum = True, 0.0
    try:
        yield
    finally:
        for layer, (training, momentum) in zip(layers, before, strict=True):
            layer.training, layer.momentum = training, momentum


@torch.no_grad()
def recompute_statistics(module: nn.Module, images: Tensor, num_images: int = NUM_IMAGES) -> int:
    """Measure the running statistics of `module`, in place, on the first `num_images` of unlabelled `images` (N, ...).

    Returns the number of images used: 0 for a network without batch norm, which stays unchanged.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    if not layers:
        return 0
    images, was_training = images[:num_images], module.training
    momenta = [layer.momentum for layer in layers]
    module.eval()  # dropout and the like stay off
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over batches
        layer.train()
    batches = images.split(BATCH_SIZE)
    for batch in batches[: max(1, len(images) // BATCH_SIZE)]:  # a small last batch has no useful variance
        module(batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    module.train(was_training)
    return min(len(images), BATCH_SIZE * max(1, len(images) // BATCH_SIZE))
