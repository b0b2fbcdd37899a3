"""Structured pruning: it removes whole channels, which leaves a smaller dense network to send.

torch-pruning (Fang et al., DepGraph, 2023) finds the weights of a channel: its filter and the next layer's weights on
it. A channel's saliency is the square of the first-order change of the loss on its removal, by gradients under noise,
per weight removed (Molchanov et al., 2019):

    I_c = (sum_{w in c} w dL/dw)^2 / n_c

Channels are removed one at a time, least saliency first, until the budget holds. Training under noise prunes
repeatedly, with a geometrically falling budget, so that the network adapts to each removal.
"""

import copy
from collections.abc import Callable

import torch
import torch_pruning
from torch import Tensor, nn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models.nets import num_weights

LEAST_CHANNELS = 4  # per layer that remain


def convolutions(module: nn.Module) -> dict[str, nn.Conv2d]:
    """The layers whose output channels are the widths, by name, in order."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d)}


def dependencies(module: nn.Module, images: Tensor) -> Callable:
    """torch-pruning's dependency graph, and a function from convolution and channels to their group."""
    graph = torch_pruning.DependencyGraph().build_dependency(module, example_inputs=images)
    return lambda layer, channels: graph.get_pruning_group(
        layer, torch_pruning.prune_conv_out_channels, idxs=list(channels)
    )


def saliency(module: nn.Module, gradients: dict[str, Tensor], images: Tensor) -> dict[str, Tensor]:
    """I_c (channels,) of the output channels of each convolution; see above."""
    change = {name: weight.detach() * gradients[name] for name, weight in module.named_parameters()}
    names = {layer: name for name, layer in module.named_modules()}
    group, found = dependencies(module, images), {}
    for name, layer in convolutions(module).items():
        total, freed = torch.zeros(layer.out_channels), 0
        for member, _ in group(layer, range(layer.out_channels)):
            each = change.get(f"{names.get(member.target.module)}.weight")
            if each is not None:  # the member has weights
                axis = 0 if member.target.module is layer else 1  # its own filter, or the next layer's weights on it
                total += each.transpose(0, axis).reshape(layer.out_channels, -1).sum(1)
                freed += each.numel() // layer.out_channels
        found[name] = total.square() / freed
    return found


def remove(module: nn.Module, channels: dict[str, list[int]], images: Tensor) -> nn.Module:
    """A copy of `module` without these output channels of the convolutions named."""
    smaller = copy.deepcopy(module)
    group = dependencies(smaller, images)
    for name, gone in channels.items():
        group(smaller.get_submodule(name), gone).prune()
    return smaller


def select_channels(
    arch: str, module: nn.Module, gradients: dict[str, Tensor], budget: int, images: Tensor
) -> dict[str, list]:
    """The output channels to `remove`, by convolution, until at most `budget` weights are left.

    gradients : of the loss, by parameter, under the noise that the network is trained for
    images : an example, uint8 (1, C, H, W)
    Raises InputError if the budget is below that of the least number of channels.
    """
    widths = {name: layer.out_channels for name, layer in convolutions(module).items()}
    gone: dict[str, list[int]] = {name: [] for name in widths}
    scores = saliency(module, gradients, images)
    ranked = sorted((float(s), name, channel) for name in widths for channel, s in enumerate(scores[name]))
    for _, name, channel in ranked:
        if num_weights(arch, tuple(widths.values())) <= budget:
            break
        if widths[name] > LEAST_CHANNELS:
            gone[name].append(channel)
            widths[name] -= 1
    else:
        raise InputError(f"a budget of {budget} weights does not hold {LEAST_CHANNELS} channels a layer; raise it")
    return {name: sorted(channels) for name, channels in gone.items() if channels}
