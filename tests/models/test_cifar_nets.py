"""The architectures for CIFAR-10: sizes, widths, what of them is sent."""

import pytest
import torch

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import tensor_specs

IMAGES = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
SIZES = {"cifar": (8, 989_216), "cifar-vgg16": (14, 1_438_540), "cifar-resnet20": (59, 269_722)}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_those_stated_and_statistics_are_not_sent(name):
    module = build(name).eval()
    specs = tensor_specs(module)
    assert (len(specs), sum(spec.numel for spec in specs)) == SIZES[name]
    assert module(IMAGES).shape == (2, 10)
    assert not any("running" in spec.name for spec in specs)


@pytest.mark.parametrize("name, num", [("cifar", 7), ("cifar-vgg16", 13)])
def test_they_come_narrower(name, num):
    module = build(name, (3,) * num).eval()
    assert module(IMAGES).shape == (2, 10)
    assert sum(spec.numel for spec in tensor_specs(module)) == 81 * num + 30
    with pytest.raises(InputError, match="cannot have the widths"):
        build(name, (3,) * (num - 1))


def test_resnet20_has_widths_of_all_its_tensors_or_none():
    with pytest.raises(InputError, match="cannot have 1 widths"):
        build("cifar-resnet20", (8,))
