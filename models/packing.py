"""A network's weights to the list of vectors that is sent, and back.

Every floating-point entry of the state dict is sent, in its order: weights, biases, gains, buffers. The running
statistics of batch norm are not, because they do not fit noisy weights: the receiver measures its own
(`models.batch_norm`). Integer buffers (batch norm's num_batches_tracked) do not affect the output and are not sent.
Names and shapes follow from the architecture's code.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models.batch_norm import statistics_of


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of a network: its name in the state dict, its shape and its number of weights."""

    name: str
    shape: tuple[int, ...]
    numel: int


def tensor_specs(module: nn.Module) -> list[TensorSpec]:
    """Name, shape and number of weights of each tensor that is sent, in the order sent."""
    return [TensorSpec(name, tuple(value.shape), value.numel()) for name, value in _sent(module)]


def tensors_of(module: nn.Module) -> dict[str, np.ndarray]:
    """Copies of the tensors that are sent, float32, by name in the order sent."""
    return {name: value.detach().cpu().float().numpy().copy(order="C") for name, value in _sent(module)}


def to_vectors(tensors: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Each tensor as a float32 vector (numel,), in C order."""
    return [np.ascontiguousarray(tensor, dtype=np.float32).reshape(-1) for tensor in tensors.values()]


def load_vectors(module: nn.Module, vectors: Iterable[np.ndarray]) -> nn.Module:
    """Load vectors (numel,) into `module`, in place, and return it. Raises InputError if they do not fit."""
    specs, vectors = tensor_specs(module), list(vectors)
    got, wanted = [len(vector) for vector in vectors], [spec.numel for spec in specs]
    if got != wanted:
        raise InputError(f"the weights do not fit the architecture: got tensors of {got}, it has {wanted}")
    state = {
        spec.name: torch.from_numpy(np.array(vector, dtype=np.float32)).reshape(spec.shape)
        for spec, vector in zip(specs, vectors, strict=True)
    }
    module.load_state_dict(state, strict=False)
    return module


def _sent(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    home = set(statistics_of(module))
    return [(n, value) for n, value in module.state_dict().items() if value.is_floating_point() and n not in home]
