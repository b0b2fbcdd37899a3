"""The architectures by name: the part of a network that the receiver must have already.

Only weights are sent, so `fashion` needs no running statistics: it normalises every layer's output over the image's
channels and pixels (Ba, Kiros and Hinton, Layer normalization, 2016, without gain and bias). It is therefore also
invariant to the common factor S / (1 + S) by which a linear MMSE receiver shrinks weights. `fashion-bn` has the same
weights and batch norm, whose statistics the sender predicts (`models.statistics`): that removes the offset that noise
on a filter adds to its whole channel, so it tolerates more noise.
"""

import contextlib
import functools
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models.augment import Augmentation
from airnet_sdr.models.cifar_nets import CIFAR_WIDTHS, VGG16_WIDTHS, cifar, resnet20, vgg16
from airnet_sdr.models.fixed import mark
from airnet_sdr.models.layers import BatchNorm, Gain, Norm, Scale
from airnet_sdr.models.resize import resize

FASHION_WIDTHS = (16, 32, 64, 128, 176)


def fashion(widths: tuple[int, ...] = FASHION_WIDTHS, norm=lambda num_channels: Norm()) -> nn.Module:
    """Plain convolutional net, 1x28x28 to 10 classes: 315,504 weights in six tensors, 18 M multiply-adds an image.

    `widths` are the output channels of its five convolutions; `norm(num_channels)` returns a normalisation layer.
    """

    def conv(num_in, num_out):
        return nn.Conv2d(num_in, num_out, kernel_size=3, padding=1, bias=False)

    return nn.Sequential(
        OrderedDict(
            scale=Scale(mean=0.286, std=0.353),
            conv1=conv(1, widths[0]),
            pool1=nn.MaxPool2d(2),
            norm1=norm(widths[0]),
            conv2=conv(*widths[0:2]),
            norm2=norm(widths[1]),
            conv3=conv(*widths[1:3]),
            pool3=nn.MaxPool2d(2),
            norm3=norm(widths[2]),
            conv4=conv(*widths[2:4]),
            norm4=norm(widths[3]),
            conv5=conv(*widths[3:5]),
            pool5=nn.MaxPool2d(2),
            norm5=norm(widths[4]),
            gain=Gain(1 / 8),
            flatten=nn.Flatten(),
            dense=nn.Linear(widths[4] * 3 * 3, 10, bias=False),
        )
    ).to(memory_format=torch.channels_last)


def fashion_teacher() -> nn.Module:
    """VGG-style net with batch norm, 1x28x28 to 10 classes: 1.2 M weights, 38 M multiply-adds an image."""
    layers: list[nn.Module] = [Scale(mean=0.286, std=0.353)]
    num_in = 1
    for width in (32, 64, 128, 256):
        for _ in range(2):
            layers += [nn.Conv2d(num_in, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            num_in = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(256, 10)).to(
        memory_format=torch.channels_last
    )


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "fashion": fashion,
    "fashion-bn": functools.partial(fashion, norm=BatchNorm),
    "fashion-teacher": fashion_teacher,
    "cifar": cifar,
    "cifar-vgg16": vgg16,
    "cifar-resnet20": resnet20,
}
FULL_WIDTHS = {  # of the architectures with variable widths
    "fashion": FASHION_WIDTHS,
    "fashion-bn": FASHION_WIDTHS,
    "cifar": CIFAR_WIDTHS,
    "cifar-vgg16": VGG16_WIDTHS,
}
AUGMENTATION = {name: Augmentation(max_shift=1, mirror=True) for name in ARCHITECTURES}  # of the shipped, in training
DATASETS = {  # on which they are trained
    "fashion": "fashion-mnist",
    "fashion-bn": "fashion-mnist",
    "fashion-teacher": "fashion-mnist",
    "cifar": "cifar10-jpeg",
    "cifar-vgg16": "cifar10-jpeg",
    "cifar-resnet20": "cifar10-jpeg",
}


def build(name: str, widths: tuple[int, ...] = ()) -> nn.Module:
    """A network with random weights, of full widths or of the narrower ones given.

    Raises InputError for an unknown architecture or impossible widths.
    """
    if name not in ARCHITECTURES:
        raise InputError(
            f"unknown architecture {name!r}; give one of {', '.join(sorted(ARCHITECTURES))}, or your own with "
            "--architecture"
        )
    if not widths:
        return mark(ARCHITECTURES[name](), name, ARCHITECTURES[name])
    if name not in FULL_WIDTHS:
        return resize(build(name), tuple(widths))
    full = FULL_WIDTHS[name]
    if len(widths) != len(full) or not all(1 <= width <= most for width, most in zip(widths, full, strict=True)):
        raise InputError(f"{name} cannot have the widths {list(widths)}; give {len(full)}, from 1 to {list(full)}")
    return ARCHITECTURES[name](tuple(widths))


def num_weights(name: str, widths: tuple[int, ...] = ()) -> int:
    """Number of weights of this network. Raises InputError as `build` does."""
    with shapes_alone(name):
        return sum(weight.numel() for weight in build(name, widths).parameters())


def shapes_alone(name: str) -> contextlib.AbstractContextManager:
    """Inside this context `build` makes a shipped network without memory; one of the user's own, whose constructor may
    read numbers, as always, but torch's random numbers go on as if not."""
    return torch.device("meta") if name in AUGMENTATION else torch.random.fork_rng(devices=())


def check_shapes(module: nn.Module, what: str, when: str) -> None:
    """InputError for parameters and buffers without a shape, as `nn.LazyLinear` has them before a forward pass, or
    without numbers, as on the meta device.

    The message begins with ``what``, and says ``when`` to make that pass or load them.
    """
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        if nn.parameter.is_lazy(value):
            raise InputError(f"{what} has {name} without a shape; run a forward pass {when}")
        if value.is_meta:
            raise InputError(f"{what} has {name} without numbers, on the meta device; load them {when}")
