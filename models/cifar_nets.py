"""Architectures for 3x32x32 images: the shipped `cifar`, a VGG-16 and a ResNet-20, all with batch norm.

Batch norm's running statistics are predicted (`models.statistics`). In `cifar` and the VGG-16 it has no gain and bias,
so only weights are sent.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from airnet_sdr.models.layers import Gain, Scale

CIFAR_WIDTHS = (32, 64, 64, 128, 128, 224, 224)
VGG16_WIDTHS = (20, 20, 40, 40, 80, 80, 80, 160, 160, 160, 160, 160, 160)


def cifar(widths: tuple[int, ...] = CIFAR_WIDTHS) -> nn.Module:
    """Plain convolutional net, 3x32x32 to 10 classes: 989,216 weights in eight tensors, 37 M multiply-adds an image.

    `widths` are the output channels of its seven convolutions. Only the first runs at full
    resolution, where a convolution costs most computation and has few weights.
    """
    return plain(widths, pooled=(1, 3, 5, 7), kernel=4)


def vgg16(widths: tuple[int, ...] = VGG16_WIDTHS) -> nn.Module:
    """VGG-16 (Simonyan and Zisserman, 2014) at about a third of the width, with one dense layer: 1.4 M weights, 31 M
    multiply-adds. `widths` are the output channels of its thirteen convolutions."""
    return plain(widths, pooled=(2, 4, 7, 10, 13), kernel=2)


def plain(widths: tuple[int, ...], pooled: tuple[int, ...], kernel: int) -> nn.Module:
    """3x3 convolutions with batch norm, pooled by 2 after layers `pooled`, finally by `kernel` to one pixel."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(scale=Scale(mean=0.473, std=0.251))
    num_in = 3
    for i, width in enumerate(widths, 1):
        layers[f"conv{i}"] = nn.Conv2d(num_in, width, kernel_size=3, padding=1, bias=False)
        if i in pooled:
            layers[f"pool{i}"] = nn.MaxPool2d(kernel if i == len(widths) else 2)
        layers[f"norm{i}"] = nn.BatchNorm2d(width, affine=False)
        layers[f"relu{i}"] = nn.ReLU()
        num_in = width
    layers |= OrderedDict(gain=Gain(1 / 8), flatten=nn.Flatten(), dense=nn.Linear(num_in, 10, bias=False))
    return nn.Sequential(layers).to(memory_format=torch.channels_last)


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut without weights: every other pixel, new channels zero."""

    def __init__(self, num_in: int, num_out: int):
        super().__init__()
        self.stride = num_out // num_in
        self.conv1 = nn.Conv2d(num_in, num_out, 3, self.stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(num_out)
        self.conv2 = nn.Conv2d(num_out, num_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(num_out)

    def forward(self, x: Tensor) -> Tensor:
        """Two convolutions with batch norm beside the shortcut, then ReLU."""
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        more = y.shape[1] - x.shape[1]
        return F.relu(y + F.pad(shortcut, (0, 0, 0, 0, more // 2, more - more // 2)))


def resnet20(width: int = 16) -> nn.Module:
    """ResNet-20 (He, Zhang, Ren and Sun, 2015, section 4.2, shortcuts A): 0.27 M weights, 41 M multiply-adds.

    `width` is the number of channels of the first stage; each later stage doubles it.
    """
    layers = [Scale(mean=0.473, std=0.251), nn.Conv2d(3, width, 3, padding=1, bias=False)]
    layers += [nn.BatchNorm2d(width), nn.ReLU()]
    num_in = width
    for num_out in (width, 2 * width, 4 * width):
        for _ in range(3):
            layers.append(Residual(num_in, num_out))
            num_in = num_out
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(num_in, 10)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)
