"""Networks of an architecture with fewer channels: what is left of pruning, and the members of a nested family.

An architecture that takes widths makes such networks itself (`models.nets.FULL_WIDTHS`). Of any other, the layers here
are replaced in size, in the order of the module; the code of its `forward` stays as it is. The widths are each layer's
numbers of channels: out and in of a convolution or linear layer, the channels of a normalisation.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from airnet_sdr.dsp.errors import InputError

CHANNELS: dict[type[nn.Module], tuple[str, ...]] = {
    _ConvNd: ("out_channels", "in_channels"),
    nn.Linear: ("out_features", "in_features"),
    _BatchNorm: ("num_features",),
}


def resizable(module: nn.Module) -> dict[str, tuple[Any, tuple[str, ...]]]:
    """The layers that can be resized, with the names of their numbers of channels, by name and in order."""
    found = {}
    for name, layer in module.named_modules():
        for kind, counts in CHANNELS.items():
            if isinstance(layer, kind) and not getattr(layer, "transposed", False):
                found[name] = (layer, counts)
    return found


def widths_of(module: nn.Module) -> tuple[int, ...]:
    """The widths of a network, with which `resize` makes one of its shapes."""
    return tuple(getattr(layer, count) for layer, counts in resizable(module).values() for count in counts)


def resize(module: nn.Module, widths: tuple[int, ...]) -> nn.Module:
    """The module itself with layers of these widths, the first entries of each tensor kept.

    Raises InputError for widths that are not those of a smaller network of this kind.
    """
    full = widths_of(module)
    if len(widths) != len(full) or not all(1 <= width <= most for width, most in zip(widths, full, strict=True)):
        raise InputError(
            f"the network cannot have {len(widths)} widths {list(widths)[:8]}; it has {len(full)}: {list(full)[:9]}"
        )
    left = iter(widths)
    for layer, counts in resizable(module).values():
        before = tuple(getattr(layer, count) for count in counts)
        after = tuple(next(left) for _ in counts)
        if after == before:
            continue
        for count, width in zip(counts, after, strict=True):
            setattr(layer, count, width)
        if isinstance(layer, _ConvNd) and layer.groups == before[0] == before[1]:  # depthwise
            layer.groups = after[0]
        _cut(layer, after)
    return module


def _cut(layer: nn.Module, sizes: tuple[int, ...]) -> None:
    """Cut the layer's tensors to the sizes along their first axes; the second of a weight is per group."""
    groups = getattr(layer, "groups", 1)
    tables: tuple[dict, ...] = (layer._parameters, layer._buffers)
    for table in tables:
        for name, tensor in list(table.items()):
            if tensor is None or tensor.ndim == 0:
                continue
            wanted = sizes[: min(len(sizes), tensor.ndim)]
            if len(wanted) > 1:
                wanted = (wanted[0], wanted[1] // groups)
            cut = tensor.detach()[tuple(slice(size) for size in wanted)].clone()
            table[name] = nn.Parameter(cut, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else cut
