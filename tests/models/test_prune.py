"""Pruning takes what matters least, whole channels at a time, and leaves the rest as it was."""

import pytest
import torch

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models.nets import FASHION_WIDTHS, build, num_weights
from airnet_sdr.models.prune import Tracing, convolutions, remove, saliency, select_channels

EXAMPLE = Tracing(torch.zeros(1, 1, 28, 28, dtype=torch.uint8))
IMAGES = torch.randint(0, 256, (8, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def network(seed=1):
    torch.manual_seed(seed)
    return build("fashion", (4, 8, 6, 10, 5))


def gradients(module):
    loss = torch.nn.functional.cross_entropy(module(IMAGES), torch.arange(8))
    return dict(zip(dict(module.named_parameters()), torch.autograd.grad(loss, list(module.parameters())), strict=True))


def test_weights_are_counted():
    assert num_weights("fashion", FASHION_WIDTHS) == 315_504
    assert num_weights("fashion", (4, 8, 6, 10, 5)) == sum(weight.numel() for weight in network().parameters())


def test_what_is_removed_is_that_and_no_more():
    module = network()
    smaller = remove(module, {"conv2": [1, 5], "conv5": [0]}, EXAMPLE)
    kept = [0, 2, 3, 4, 6, 7]
    was, now = module.state_dict(), smaller.state_dict()
    assert torch.equal(now["conv1.weight"], was["conv1.weight"])
    assert torch.equal(now["conv2.weight"], was["conv2.weight"][kept])
    assert torch.equal(now["conv3.weight"], was["conv3.weight"][:, kept])
    assert torch.equal(now["conv5.weight"], was["conv5.weight"][1:])
    assert torch.equal(now["dense.weight"], was["dense.weight"][:, 9:])  # nine pixels a channel
    assert [len(tensor) for tensor in was.values()] == [4, 8, 6, 10, 5, 10]  # the first is as it was
    widths = tuple(layer.out_channels for layer in convolutions(smaller).values())
    assert smaller(IMAGES).shape == build("fashion", widths)(IMAGES).shape


def test_saliency_is_the_first_order_change_of_the_loss():
    """Against the loss itself, with a channel's weights shrunk by a little."""
    module = network()
    found, step = saliency(module, gradients(module), EXAMPLE), 1e-5
    filters, readers = module.conv3.weight, module.conv4.weight
    for channel in range(6):
        losses = []
        for factor in (1 + step, 1 - step):
            shrunk = network().double()
            with torch.no_grad():
                shrunk.conv3.weight[channel] *= factor
                shrunk.conv4.weight[:, channel] *= factor
            shrunk.scale.forward = lambda images: (images.double() / 255 - 0.286) / 0.353
            losses.append(torch.nn.functional.cross_entropy(shrunk(IMAGES), torch.arange(8)).item())
        change = (losses[0] - losses[1]) / (2 * step)
        assert found["conv3"][channel].item() == pytest.approx(
            change**2 / (filters[channel].numel() + readers[:, channel].numel()), rel=2e-2, abs=1e-9
        )


def test_the_budget_holds_and_a_channel_without_effect_goes_first():
    module = network()
    with torch.no_grad():
        module.conv2.weight[3] = 0
        module.conv3.weight[:, 3] = 0
    total = num_weights("fashion", (4, 8, 6, 10, 5))
    gone = select_channels(module, gradients(module), total - 1, EXAMPLE)
    assert gone == {"conv2": [3]}
    gone = select_channels(module, gradients(module), 1000, EXAMPLE)
    left = sum(weight.numel() for weight in remove(module, gone, EXAMPLE).parameters())
    assert 900 <= left <= 1000 and select_channels(module, gradients(module), total, EXAMPLE) == {}
    with pytest.raises(InputError, match="raise it"):
        select_channels(module, gradients(module), 100, EXAMPLE)
