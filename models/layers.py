"""Layers without weights, shared by the architectures."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Scale(nn.Module):
    """uint8 images (N, C, H, W) to float32, of about zero mean and unit variance: the only normalisation of inputs."""

    def __init__(self, mean: float, std: float):
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, images: Tensor) -> Tensor:
        images = images.to(torch.float32, memory_format=torch.channels_last)
        return (images / 255 - self.mean) / self.std


class Norm(nn.Module):
    """Zero mean and unit variance over (C, H, W) of each image, then ReLU. Has no weights."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.group_norm(x, num_groups=1))


class BatchNorm(nn.BatchNorm2d):
    """Zero mean and unit variance per channel, by batch or running statistics, then ReLU. Has no weights."""

    def __init__(self, num_channels: int):
        super().__init__(num_channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))


class Gain(nn.Module):
    """A fixed factor; a small one before the last layer lets that layer learn at the other layers' rate."""

    def __init__(self, gain: float):
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x
