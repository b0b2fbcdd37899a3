"""Augmentation of training images: shifts, mirroring, cutout."""

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to training images: the largest shift in pixels, mirroring, the side of the square of cutout."""

    max_shift: int = 0
    mirror: bool = False
    cutout: int = 0

    def __bool__(self) -> bool:
        return bool(self.max_shift or self.mirror or self.cutout)

    def __call__(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """The images (N, C, H, W) as a training step sees them."""
        return augment(images, self.max_shift, rng, self.cutout, self.mirror)


def augment(images: Tensor, max_shift: int, rng: torch.Generator, cutout: int = 0, mirror: bool = True) -> Tensor:
    """Shift each image (N, C, H, W) by up to `max_shift` pixels both ways, and with `mirror` mirror half of them.

    With `cutout`, a square of that many pixels a side, at a random centre, becomes grey (DeVries and Taylor, Improved
    regularization of convolutional neural networks with cutout, 2017).
    """
    num, _, height, width = images.shape
    here = {"generator": rng, "device": images.device}
    padded = F.pad(images, (max_shift,) * 4)
    top, left = torch.randint(0, 2 * max_shift + 1, (2, num, 1), **here)
    rows = top + torch.arange(height, device=images.device)  # (N, H)
    columns = left + torch.arange(width, device=images.device)  # (N, W)
    if mirror:
        columns = torch.where(torch.rand(num, 1, **here) < 0.5, columns.flip(1), columns)
    chosen = torch.arange(num, device=images.device)[:, None, None]
    moved = padded[chosen, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if cutout:
        centre = torch.randint(0, height, (num, 1), **here), torch.randint(0, width, (num, 1), **here)
        down, across = (
            (torch.arange(size, device=images.device) - at + cutout // 2) // cutout == 0
            for size, at in zip((height, width), centre, strict=True)
        )
        moved = moved.masked_fill((down[:, :, None] & across[:, None, :])[:, None], 128)
    return moved
