"""Made-up inputs of bounded memory, as many as ever for networks of small activations."""

import numpy as np
import pytest
import torch
from torch import nn

from airnet_sdr.dsp.errors import LinkError
from airnet_sdr.models import statistics
from airnet_sdr.models.beside import State
from airnet_sdr.models.examples.pitch import crepe_tiny
from airnet_sdr.models.nets import build
from airnet_sdr.models.statistics import MadeUp, channels_of, num_bearable, predicted
from airnet_sdr.rx.restore import restore_statistics

GREY, COLOUR = MadeUp((1, 28, 28), True, 70.0, 90.0), MadeUp((3, 32, 32), True, 120.0, 60.0)
HOSTILE = MadeUp((1, 1024, 2048), False, 0.0, 1.0)


class Columns(nn.Module):
    """A network that cannot run without numbers, and squeezes."""

    def __init__(self, width):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x):
        if x.mean().item() > 1e9:
            return x
        return self.norm(self.conv(x)).mean((2, 3)).squeeze()


def refuse_memory(layer, inputs):
    """A hook before a layer."""
    if inputs[0].device.type != "meta":
        raise LinkError(f"a pass of {tuple(inputs[0].shape)}")


@pytest.mark.parametrize(
    "network, made",
    [
        ("fashion-bn", GREY),
        ("fashion-teacher", GREY),
        ("cifar", COLOUR),
        ("cifar-vgg16", COLOUR),
        ("cifar-resnet20", COLOUR),
        (crepe_tiny, MadeUp((1024,), False, 0.0, 1.0)),
    ],
)
def test_shipped_networks_and_examples_get_as_many_as_ever(network, made):
    module = build(network) if isinstance(network, str) else network()
    assert num_bearable(module, made) == made.most == 250
    assert module.training and all(parameter.device.type == "cpu" for parameter in module.parameters())
    assert not any(layer._forward_hooks for layer in module.modules())


def test_inputs_of_common_size_get_as_many_as_ever_and_larger_networks_fewer():
    """A ResNet's first layer, and a VGG's, on 224x224 pixels; without a pass that takes memory."""
    photo = MadeUp((3, 224, 224), False, 0.0, 1.0)
    resnet, vgg = nn.Conv2d(3, 64, 7, stride=2, padding=3), nn.Conv2d(3, 64, 3, padding=1)
    for first in (resnet, vgg):
        first.register_forward_pre_hook(refuse_memory)
    assert num_bearable(nn.Sequential(resnet, nn.BatchNorm2d(64)), photo) == photo.most == 111
    assert num_bearable(nn.Sequential(vgg, nn.BatchNorm2d(64)), photo) == 2**27 // (64 * 224 * 224) == 41


def test_both_ends_measure_on_fewer_inputs(monkeypatch):
    module, seen, made = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), [], MadeUp((3, 32, 32), False, 0.0, 1.0)
    module.register_forward_hook(lambda layer, inputs, output: seen.append(len(output)))
    monkeypatch.setattr(statistics, "MOST_ACTIVATIONS", 8 * 30 * 30 * 10)
    sent = predicted(module, made)
    assert seen == [2, 10]
    restore_statistics(module, State(difference=np.zeros((2, 8), np.float32), made_up=made))
    np.testing.assert_allclose(statistics.Statistics.of(module).values, sent, atol=1e-6)


def test_made_up_inputs_from_the_air_take_no_gigabytes():
    """20 bytes that make 2.1 GB of every layer's output."""
    module = build("fashion-teacher")
    module[1].register_forward_pre_hook(refuse_memory)
    state = State(difference=np.zeros((2, sum(channels_of(module))), np.float32), made_up=HOSTILE)
    with pytest.raises(LinkError, match="67108864 activations for one input"):
        restore_statistics(module, state)


def test_a_network_that_needs_numbers_is_tried_with_some(monkeypatch):
    small = MadeUp((1, 12, 12), False, 0.0, 1.0)
    assert num_bearable(Columns(8), small) == 250
    monkeypatch.setattr(statistics, "SMALL_INPUT", 100)
    assert num_bearable(Columns(8), small) == 250
    monkeypatch.setattr(statistics, "MOST_UNSEEN", 1000)
    with pytest.raises(LinkError, match="1152 activations"):
        num_bearable(Columns(8), small)


def test_whatever_a_network_raises_of_inputs_it_does_not_take_is_a_link_error():
    class Strict(nn.BatchNorm1d):
        def forward(self, x):
            assert x.shape[1] == 7, "seven features"
            return super().forward(x)

    state = State(difference=np.zeros((2, 7), np.float32), made_up=MadeUp((6,), False, 0.0, 1.0))
    with pytest.raises(LinkError, match="do not fit the architecture here: seven features"):
        restore_statistics(Strict(7), state)


def test_statistics_that_inputs_do_not_move_need_none():
    module = nn.Sequential(nn.Linear(3, 3))
    module.register_buffer("running_mean", torch.ones(2))
    module.register_buffer("running_var", torch.ones(2))
    assert np.array_equal(predicted(module, MadeUp((9,), False, 0.0, 1.0)), np.zeros((2, 2)))
