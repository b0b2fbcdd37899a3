"""Structured pruning: whole channels go, so that what is left is a smaller network that is sent as it is.

Which weights hang together (a channel's filter, and what the next layer makes of it) is found by torch-pruning (Fang
et al., DepGraph, 2023). A channel's saliency is the square of the first-order change of the loss when it goes, as
gradients under noise have it, per weight that it frees (Molchanov et al., 2019):

    I_c = (sum_{w in c} w dL/dw)^2 / n_c

Channels go one at a time, least saliency first, until the budget holds. Training calls this again and again with a
budget that falls geometrically and the noise on, so that the network gets used to what is missing.
"""

import copy
from collections.abc import Callable

import torch
import torch_pruning
from torch import Tensor, nn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models.nets import num_weights

LEAST_CHANNELS = 4  # a layer keeps


def convolutions(module: nn.Module) -> dict[str, nn.Conv2d]:
    """The layers whose output channels are the widths, by name, in order."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d)}


def dependencies(module: nn.Module, images: Tensor) -> Callable:
    """A function of a convolution and some of its channels: torch-pruning's group of what goes with them."""
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
            if each is not None:  # not an activation or the like
                axis = 0 if member.target.module is layer else 1  # its own filter, or what the next layer reads of it
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
    Raises InputError when the budget does not hold the least number of channels.
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
