"""The architectures keep what the link relies on."""

import numpy as np
import pytest
import torch

from dsp.errors import InputError
from models.nets import ARCHITECTURES, build


def test_fashion_fits_the_link():
    module = build("fashion")
    sizes = [weight.numel() for weight in module.state_dict().values()]
    assert len(sizes) <= 14 and 300_000 <= sum(sizes) <= 349_000
    images = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    assert module(images).shape == (3, 10)


def test_an_image_is_judged_alone_and_blind_to_the_scale_of_weights():
    torch.manual_seed(1)
    module = build("fashion").eval()
    images = torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8)
    whole = module(images).detach()
    np.testing.assert_allclose(module(images[:1]).detach(), whole[:1], atol=1e-5)
    with torch.no_grad():
        module.conv2.weight *= 0.5
    np.testing.assert_allclose(module(images).detach(), whole, rtol=1e-3, atol=1e-4)


def test_unknown_architecture_names_those_there_are():
    with pytest.raises(InputError, match="fashion"):
        build("resnet-1000")
    assert "fashion" in ARCHITECTURES
