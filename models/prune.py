"""Structured pruning: it removes whole channels, which leaves a smaller dense network to send.

torch-pruning (Fang et al., DepGraph, 2023) finds what hangs together with a layer's channels in any network: their
filters, the weights of later layers on them, biases and normalisation. A channel's saliency is the square of the
first-order change of the loss on its removal, by gradients under noise, per weight removed (Molchanov et al., 2019):

    I_c = (sum_{w in c} w dL/dw)^2 / n_c

Channels are removed one at a time, least saliency first, until the budget holds. Training under noise prunes
repeatedly, with a geometrically falling budget, so that the network adapts to each removal.

Of a network of the user's own, channels stay that reach the output, a layer that is none of `models.resize`, or code
that needs their number; `fixed_layers` names them.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from airnet_sdr.dsp.errors import InputError, one_line
from airnet_sdr.models.batches import Batch, tensors_in
from airnet_sdr.models.nets import FULL_WIDTHS
from airnet_sdr.models.noise import copied
from airnet_sdr.models.resize import resizable, resize, widths_of

LEAST_CHANNELS = 4  # per layer that remain


def call(module: nn.Module, batch: Batch) -> Any:
    """Pass a batch of inputs, a single tensor, through the module."""
    return module(batch)


@dataclasses.dataclass(frozen=True)
class Tracing:
    """How a network is traced: an example batch, `run(module, batch)`, which passes it through, and the names of the
    layers whose output channels may go; None: all convolutions, as in the shipped architectures."""

    example: Batch
    run: Callable[[nn.Module, Batch], Any] = call
    layers: tuple[str, ...] | None = None

    def channels(self, module: nn.Module) -> dict[str, int]:
        """The number of output channels of each layer that may lose some, by name and in order."""
        names = tuple(convolutions(module)) if self.layers is None else self.layers
        return {name: num_channels(module.get_submodule(name)) for name in names}

    def groups(self, module: nn.Module) -> Callable:
        """A function from layer and channels to torch-pruning's group of all that goes with them."""
        was_training = module.training
        graph = torch_pruning.DependencyGraph().build_dependency(
            module, example_inputs=self.example, forward_fn=self.run, verbose=False
        )
        module.train(was_training)

        def group(layer, channels):
            linear = isinstance(layer, nn.Linear)
            prune = torch_pruning.prune_linear_out_channels if linear else torch_pruning.prune_conv_out_channels
            found = graph.get_pruning_group(layer, prune, idxs=list(channels))
            return found, graph.is_out_channel_pruning_fn

        return group


def num_channels(layer: Any) -> int:
    """The number of output channels of a layer with a weight."""
    return len(layer.weight)


def convolutions(module: nn.Module) -> dict[str, nn.Conv2d]:
    """The convolutions by name, in order: of the shipped architectures, those whose output channels are the widths."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d)}


def network_widths(arch: str, module: nn.Module) -> tuple[int, ...]:
    """The widths with which `models.nets.build` makes a network of this one's shapes."""
    if arch in FULL_WIDTHS:
        return tuple(layer.out_channels for layer in convolutions(module).values())
    return widths_of(module)


def members(module: nn.Module, tracing: Tracing) -> dict[str, list[tuple[str, int, list[int]]]]:
    """What goes with the channels of each layer: layers, the axis of their weights, and the entries along it."""
    names, group = {layer: name for name, layer in module.named_modules()}, tracing.groups(module)
    found = {}
    for name, num in tracing.channels(module).items():
        parts, is_output = group(module.get_submodule(name), range(num))
        found[name] = [
            (names[part.target.module], 0 if is_output(part.handler) else 1, entries)
            for part, entries in parts
            if part.target.module in names
        ]
    return found


def saliency(module: nn.Module, gradients: dict[str, Tensor], tracing: Tracing) -> dict[str, Tensor]:
    """I_c (channels,) of the output channels of each layer; see above."""
    change = {name: weight.detach() * gradients[name] for name, weight in module.named_parameters()}
    channels, found = tracing.channels(module), {}
    for name, parts in members(module, tracing).items():
        total, freed = torch.zeros(channels[name]), 0
        for layer, axis, entries in parts:
            for part in ("weight", "bias")[: 2 - axis]:
                each = change.get(f"{layer}.{part}")
                if each is None:
                    continue
                each = each.transpose(0, axis)
                each = each if len(entries) == len(each) else each[entries]
                total += each.reshape(channels[name], -1).sum(1).cpu()
                freed += each.numel() // channels[name]
        found[name] = total.square() / max(freed, 1)
    return found


def remove(module: nn.Module, channels: dict[str, list[int]], tracing: Tracing) -> nn.Module:
    """A copy of `module` without these output channels of the layers named."""
    smaller = copied(module)
    group = tracing.groups(smaller)
    for name, gone in channels.items():
        group(smaller.get_submodule(name), gone)[0].prune()
    return smaller


def select_channels(
    module: nn.Module, gradients: dict[str, Tensor], budget: int, tracing: Tracing
) -> dict[str, list[int]]:
    """The output channels to `remove`, by layer, until at most `budget` weights are left.

    gradients : of the loss, by parameter, under the noise that the network is trained for
    Raises InputError if the budget is below that of the least number of channels.
    """
    sizes, parts = _Sizes(module), members(module, tracing)
    left = tracing.channels(module)
    gone: dict[str, list[int]] = {name: [] for name in left}
    scores = saliency(module, gradients, tracing)
    ranked = sorted((float(s), name, channel) for name in left for channel, s in enumerate(scores[name]))
    full = dict(left)
    for _, name, channel in ranked:
        if sizes.total <= budget:
            break
        if left[name] > LEAST_CHANNELS:
            gone[name].append(channel)
            left[name] -= 1
            for layer, axis, entries in parts[name]:
                sizes.cut(layer, axis, len(entries) // full[name])
    else:
        raise InputError(
            f"a budget of {budget} weights does not hold {LEAST_CHANNELS} channels a layer, and what cannot be pruned; "
            "raise it"
        )
    return {name: sorted(channels) for name, channels in gone.items() if channels}


def prunable(module: nn.Module, tracing: Tracing) -> tuple[Tracing, dict[str, str]]:
    """The tracing with the layers whose channels may go, and why those of the others stay, by name.

    One channel of each layer is removed on trial: the network must then run, with outputs of the same shapes, and have
    the shapes that `models.resize` gives it.
    """
    free: list[str] = []
    stay: dict[str, str] = {}
    outputs = _output_shapes(module, tracing)
    seen: set[str] = set()
    for name, (layer, _) in resizable(module).items():
        if isinstance(layer, _BatchNorm) or name in seen or getattr(layer, "groups", 1) > 1:
            continue
        trial = dataclasses.replace(tracing, layers=(name,))
        try:
            parts = [layer for layer, axis, _ in members(module, trial)[name] if axis == 0]
            smaller = remove(module, {name: [num_channels(layer) - 1]}, trial)
            reason = _why_not(module, smaller, outputs, trial)
        except Exception as error:  # of torch-pruning or of the user's code
            parts, reason = [name], f"{type(error).__name__}: {one_line(error)[:120]}"
        seen |= {name, *parts}
        if reason is None and num_channels(layer) > LEAST_CHANNELS:
            free.append(name)
        else:
            stay[name] = reason or f"it has {num_channels(layer)} channels"
    return dataclasses.replace(tracing, layers=tuple(free)), stay


def uniform_widths(arch: str, module: nn.Module, share: float, tracing: Tracing) -> tuple[int, ...]:
    """The widths of the network with this share of the channels of every layer that may lose some."""
    gone = {
        name: list(range(max(LEAST_CHANNELS, round(share * num)), num))
        for name, num in tracing.channels(module).items()
    }
    return network_widths(arch, remove(module, {name: each for name, each in gone.items() if each}, tracing))


class _Sizes:
    """The shapes of the layers' weights, and the number of all weights, as channels go."""

    def __init__(self, module: nn.Module):
        self.layers: dict[str, tuple[list[int], bool]] = {
            name: (list(layer.weight.shape), layer.bias is not None)
            for name, (layer, _) in resizable(module).items()
            if layer.weight is not None
        }
        self.others = sum(weight.numel() for weight in module.parameters()) - sum(map(self._numel, self.layers))

    def _numel(self, name: str) -> int:
        shape, bias = self.layers[name]
        return math.prod(shape) + (shape[0] if bias else 0)

    @property
    def total(self) -> int:
        """Number of weights."""
        return self.others + sum(map(self._numel, self.layers))

    def cut(self, name: str, axis: int, num: int) -> None:
        """Take `num` entries off an axis of a layer's weight."""
        if name in self.layers and axis < len(self.layers[name][0]):
            self.layers[name][0][axis] -= num


def _output_shapes(module: nn.Module, tracing: Tracing) -> list[tuple[int, ...]]:
    """The shapes of what the network returns to the example."""
    found: list = []
    hook = module.register_forward_hook(lambda layer, inputs, output: found.extend(tensors_in(output)))
    was_training = module.training
    try:
        with torch.no_grad():
            tracing.run(module.eval(), tracing.example)
    finally:
        hook.remove()
        module.train(was_training)
    return [tuple(tensor.shape) for tensor in found]


def _why_not(module: nn.Module, smaller: nn.Module, outputs: list, tracing: Tracing) -> str | None:
    """Why a network with one channel less cannot be sent; None if it can."""
    if _output_shapes(smaller, tracing) != outputs:
        return "its channels are the output's"
    wanted = {name: tensor.shape for name, tensor in smaller.state_dict().items()}
    made = resize(copied(module), widths_of(smaller)).state_dict()
    odd = [name for name, tensor in made.items() if tensor.shape != wanted[name]]
    return f"{odd[0]} goes with it, which is in no layer that can be resized" if odd else None
