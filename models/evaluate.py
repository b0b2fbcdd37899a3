"""The only definition of accuracy, and the batch norm recalibration of a received network."""

import torch
from torch import nn

from airnet_sdr.models.batch_norm import recompute_statistics, statistics_of
from airnet_sdr.models.data import load


@torch.inference_mode()
def logits(module: nn.Module, images: torch.Tensor, batch_size: int = 500) -> torch.Tensor:
    """Logits, float32 (N, num_classes), of `module` in evaluation mode for uint8 images (N, C, H, W)."""
    was_training = module.training
    module.eval()
    output = torch.cat([module(batch) for batch in images.split(batch_size)])
    module.train(was_training)
    return output


def top1(output: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of rows of `output` (N, num_classes) with the largest entry at `labels` (N,); a row with a NaN is wrong."""
    right = (output.argmax(dim=1) == labels) & ~output.isnan().any(dim=1)
    return right.double().mean().item()


def accuracy(module: nn.Module, dataset: str, data_dir=None, limit: int | None = None) -> float:
    """Top-1 accuracy, 0 to 1, on the test images of `dataset`, or the first `limit` of them."""
    images, labels = load(dataset, "test", data_dir)
    return top1(logits(module, images[:limit]), labels[:limit])


def recalibrate_batch_norm(module: nn.Module, dataset: str, data_dir=None) -> int:
    """Measure the batch norm statistics of a received network, in place, on test images without their labels.

    Returns the number of images used: 0 for a network without batch norm.
    """
    return recompute_statistics(module, load(dataset, "test", data_dir)[0]) if statistics_of(module) else 0
