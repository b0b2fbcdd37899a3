"""The architectures, by name: what a receiver must know of a network besides its weights.

Nothing but weights is sent, so a network meant for the link keeps no running statistics: `fashion` normalises every
layer's output over the image's own channels and pixels (Ba, Kiros and Hinton, Layer normalization, 2016, without
gain and bias). That also makes it blind to the common factor S / (1 + S) by which a linear MMSE receiver shrinks
weights.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dsp.errors import InputError


class Scale(nn.Module):
    """uint8 images (N, C, H, W) to float32, about zero mean and unit variance: the only home of the normalisation."""

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


class Gain(nn.Module):
    """A fixed factor: small ahead of the last layer, it lets that learn at the other layers' rate."""

    def __init__(self, gain: float):
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x


def fashion() -> nn.Module:
    """Plain convolutional net, 1x28x28 to 10 classes: 315,504 weights in six tensors, 18 M multiply-adds an image."""

    def conv(num_in, num_out):
        return nn.Conv2d(num_in, num_out, kernel_size=3, padding=1, bias=False)

    return nn.Sequential(
        OrderedDict(
            scale=Scale(mean=0.286, std=0.353),
            conv1=conv(1, 16),
            pool1=nn.MaxPool2d(2),
            norm1=Norm(),
            conv2=conv(16, 32),
            norm2=Norm(),
            conv3=conv(32, 64),
            pool3=nn.MaxPool2d(2),
            norm3=Norm(),
            conv4=conv(64, 128),
            norm4=Norm(),
            conv5=conv(128, 176),
            pool5=nn.MaxPool2d(2),
            norm5=Norm(),
            gain=Gain(1 / 8),
            flatten=nn.Flatten(),
            dense=nn.Linear(176 * 3 * 3, 10, bias=False),
        )
    ).to(memory_format=torch.channels_last)


ARCHITECTURES = {"fashion": fashion}


def build(name: str) -> nn.Module:
    """A fresh network with random weights. Raises InputError for a name there is no architecture of."""
    if name not in ARCHITECTURES:
        raise InputError(f"no architecture called {name!r}; there is {', '.join(sorted(ARCHITECTURES))}")
    return ARCHITECTURES[name]()
