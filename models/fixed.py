"""Floating-point buffers that an architecture's code determines: masks, tables of positions, filters.

They have the same numbers in every network that the code builds, and the network relies on them: a mask with noise on
it masks nothing. So they are no weights but exact buffers, as integers are (`models.packing`). Which they are follows
from two networks built one after the other, at sender and receiver alike.
"""

from collections.abc import Callable

import torch
from torch import nn

from airnet_sdr.models.batch_norm import statistics_of

_MARK = "_airnet_fixed"  # attribute of a module that was built
_known: dict[str, tuple[Callable, frozenset[str]]] = {}  # by architecture: what builds it, and its fixed buffers


def fixed_of(module: nn.Module) -> frozenset[str]:
    """Names of the fixed buffers of a module that `mark` has seen, none of others."""
    return getattr(module, _MARK, frozenset())


def mark(module: nn.Module, name: str, build: Callable[[], nn.Module]) -> nn.Module:
    """The module itself, which ``build`` has just made, marked with its fixed buffers.

    A second one is built, once, if there are floating-point buffers at all; torch's random numbers go on as if not.
    """
    buffers = _floating_buffers(module)
    if not buffers or any(each.is_meta for each in buffers.values()):
        return module
    if name not in _known or _known[name][0] is not build:
        with torch.random.fork_rng(devices=[]):
            others = _floating_buffers(build())
        same = [each for each, value in buffers.items() if each in others and _equal(value, others[each])]
        _known[name] = build, frozenset(same)
    setattr(module, _MARK, _known[name][1])
    return module


def mark_as(module: nn.Module, other: nn.Module) -> nn.Module:
    """The module itself, with the fixed buffers of another of its architecture."""
    if fixed := fixed_of(other):
        setattr(module, _MARK, fixed)
    return module


def resolved(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself, or, of a view whose conjugate or sign torch has put off, its numbers."""
    return tensor.resolve_conj().resolve_neg()


def _floating_buffers(module: nn.Module) -> dict[str, torch.Tensor]:
    state = module.state_dict()
    buffers = {name for name, _ in module.named_buffers(remove_duplicate=False)} - set(statistics_of(module))
    names = [name for name in state if name in buffers]
    return {name: state[name] for name in names if state[name].is_floating_point() or state[name].is_complex()}


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether all bits are the same, of NaNs, too."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(*(resolved(each).reshape(-1).view(torch.uint8) for each in (one, other)))
