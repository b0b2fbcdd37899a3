"""The architectures keep what the link relies on."""

import numpy as np
import pytest
import torch

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models.nets import ARCHITECTURES, FASHION_WIDTHS, build


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


def test_batch_norm_takes_out_what_noise_adds_to_a_whole_channel():
    """A channel's offset and scale, whatever they are; a channel that lost its sign is lost."""
    torch.manual_seed(1)
    module = build("fashion-bn").train()
    assert [name for name, _ in module.named_parameters()] == [name for name, _ in build("fashion").named_parameters()]
    images = torch.randint(0, 256, (16, 1, 28, 28), dtype=torch.uint8)
    whole = module(images).detach()
    with torch.no_grad():
        module.conv2.weight *= torch.linspace(0.5, 2, 32)[:, None, None, None]
    module.conv3.register_forward_hook(lambda _, inputs, output: output + torch.linspace(-3, 3, 64)[:, None, None])
    np.testing.assert_allclose(module(images).detach(), whole, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        module.conv2.weight *= -1
    assert (module(images) - whole).abs().max() > 0.1


def test_fashion_comes_narrower():
    module = build("fashion", (3, 8, 1, 12, 5))
    sizes = [weight.numel() for weight in module.state_dict().values()]
    assert sizes == [9 * 3, 9 * 24, 9 * 8, 9 * 12, 9 * 60, 10 * 5 * 9]
    assert module(torch.zeros(2, 1, 28, 28, dtype=torch.uint8)).shape == (2, 10)
    full = build("fashion", FASHION_WIDTHS).state_dict()
    assert {n: v.shape for n, v in full.items()} == {n: v.shape for n, v in build("fashion").state_dict().items()}


@pytest.mark.parametrize("widths", [(16,), (16, 32, 64, 128, 177), (0, 32, 64, 128, 176), (16, -1, 64, 128, 176)])
def test_widths_that_cannot_be_are_refused(widths):
    with pytest.raises(InputError, match="cannot have the widths"):
        build("fashion", widths)
    with pytest.raises(InputError, match="cannot have"):
        build("fashion-teacher", widths)


def test_unknown_architecture_names_those_there_are():
    with pytest.raises(InputError, match="fashion"):
        build("resnet-1000")
    assert "fashion" in ARCHITECTURES
