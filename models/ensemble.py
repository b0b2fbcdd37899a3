"""Nested networks: one set of weights in which the first channels of every layer form smaller networks, the members.

The fewer weights a network has, the more often each is sent in the same channel uses, so the best size depends on the
SNR: at low SNR fewer, better protected weights win. The sender stores the largest network and sends the member that
suits the channel; the manifest carries its widths. Members are trained together: each step trains the largest, the
smallest and one between (the sandwich rule; Yu and Huang, Universally Slimmable Networks, 2019), or the largest and one
other, each at its own weight noise.

The loss of each member over weight SNR is measured once, on examples held back, and stored in the checkpoint's
metadata. The sender plans each member's protection and reads its loss at the weight SNR of equal error
(`models.payload.protection.select_member`). Older checkpoints have accuracies instead, whose complements are read.
"""

import dataclasses
import functools
import json
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.units import linear
from airnet_sdr.models.batch_norm import recompute_statistics
from airnet_sdr.models.batches import Examples
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.nets import ARCHITECTURES, build, num_weights, shapes_alone
from airnet_sdr.models.noise import energies, noisy
from airnet_sdr.models.packing import TensorSpec, tensor_specs
from airnet_sdr.models.task import Task

SNR_GRID_DB = tuple(range(-3, 25, 3))
UEP = 0.5  # exponent of the protection with which members are measured


@dataclasses.dataclass(frozen=True)
class Member:
    """A member: its widths, its test accuracy (0 to 1, None for no classifier) without noise, and `losses`, on examples
    held back, with its weights at each SNR of SNR_GRID_DB; of older checkpoints, the shares of wrong answers."""

    widths: tuple[int, ...]
    accuracy: float | None
    losses: tuple[float, ...]

    def expected(self, snr_db: float) -> float:
        """Loss with weights at `snr_db` after combining, constant beyond the measured SNRs."""
        return float(np.interp(snr_db, SNR_GRID_DB, self.losses))


def narrow(tensors: dict, arch: str, widths: tuple[int, ...]) -> dict:
    """The member of these widths: the first entries along each axis of every tensor (NumPy or torch, by name)."""
    shapes = {spec.name: spec.shape for spec in _specs(ARCHITECTURES.get(arch), arch, tuple(widths))}
    return {
        name: tensors[name][tuple(slice(size) for size in shape)] for name, shape in shapes.items() if name in tensors
    }


@functools.lru_cache(maxsize=64)
def _specs(make: Callable[..., nn.Module] | None, arch: str, widths: tuple[int, ...]) -> list[TensorSpec]:
    """The tensors of a member of an architecture, which `make` builds: building it takes longer than a step."""
    with shapes_alone(arch):
        return tensor_specs(build(arch, widths))


def grow(small: dict[str, Tensor], arch: str, widths: tuple[int, ...]) -> nn.Module:
    """A network of these widths with the member `small` (tensors by name), which initially computes the same.

    New channels are random with each tensor's mean and deviation; the weights that read them are zero (after Chen,
    Goodfellow and Shlens, Net2Net, 2016). For plain chains of layers without biases. The output is unchanged if
    normalisation is per channel.
    """
    module = build(arch, widths)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            old = small[name]
            weight.normal_(old.mean().item(), old.std().item())
            weight[: len(old)] = 0
            weight[tuple(slice(size) for size in old.shape)] = old
    return module


def reorder(module: nn.Module, scores: dict[str, Tensor]) -> nn.Module:
    """Sort each convolution's output channels by `scores` (channels,), best first, in place; the output is unchanged.

    For plain chains of layers without biases, in which each reads the channels of the one before.
    """
    layers = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        for (name, layer), (_, reader) in zip(layers, layers[1:], strict=False):
            order = torch.argsort(scores[name], descending=True, stable=True)
            layer.weight.copy_(layer.weight[order].clone())
            columns = reader.weight.reshape(reader.weight.shape[0], len(order), -1)
            reader.weight.copy_(columns[:, order].reshape(reader.weight.shape))
    return module


def losses_under_noise(
    module: nn.Module, task: Task, examples: Examples, seed: int = 0, num_draws: int = 3
) -> tuple[float, ...]:
    """Mean loss on these examples with the weights at each of SNR_GRID_DB, protected by tensor size."""
    weights = {name: each for name, each in module.named_parameters() if each.is_floating_point() or each.is_complex()}
    shares, losses = energies({name: each.numel() for name, each in weights.items()}, UEP), []
    for snr_db in SNR_GRID_DB:
        rng = torch.Generator().manual_seed(seed)
        snr = {name: float(linear(snr_db)) * share for name, share in shares.items()}
        total = 0.0
        for _ in range(num_draws):
            arrived = noisy(module, snr, rng)
            recompute_statistics(arrived, examples, task.run)
            total += task.mean_loss(arrived, examples)
        losses.append(total / num_draws)
    return tuple(losses)


def equivalent_snr_db(numels: dict[str, int], snr) -> float:
    """The SNR of `losses_under_noise` with as much error as tensors of `numels` at linear `snr` (L,).

    Error is the sum of the tensors' NMSE, which `--uep size` minimises.
    """
    shares = np.array(list(energies(numels, UEP).values()))
    grid = np.arange(-30.0, 60.0, 0.5)
    errors = (1 / (1 + linear(grid)[:, None] * shares)).sum(axis=1)
    return float(np.interp(-np.sum(1 / (1 + np.asarray(snr))), -errors, grid))


def best_member(members: list[Member], arch: str, payload_uses: int, arrives: Callable[[Member], float]) -> Member:
    """The member of least expected loss among those that fit `payload_uses` symbols; `arrives(member)` is the SNR
    of its weights in dB. InputError if none fits."""
    sizes = {member: num_weights(arch, member.widths) for member in members}
    fitting = [member for member in members if sizes[member] <= 2 * payload_uses]
    if not fitting:
        raise InputError(
            f"the smallest network in this {arch} needs {-(-min(sizes.values()) // 2)} payload symbols, "
            f"the budget has room for {payload_uses}; raise `payload_uses` or `channel_uses`"
        )
    return min(fitting, key=lambda member: member.expected(arrives(member)))


def extract(checkpoint: Checkpoint, member: Member) -> Checkpoint:
    """The member as a checkpoint of its own."""
    tensors = narrow(checkpoint.tensors, checkpoint.arch, member.widths)
    of = checkpoint.arch, checkpoint.dataset, member.accuracy
    return Checkpoint(*of, tensors, widths=member.widths, data_dir=checkpoint.data_dir)


def extract_widths(checkpoint: Checkpoint, widths: tuple[int, ...]) -> Checkpoint:
    """The member of these widths; the checkpoint itself if it has no such member."""
    members = from_metadata(checkpoint.metadata, checkpoint.arch)
    found = next((member for member in members if member.widths == widths), None)
    return checkpoint if found is None else extract(checkpoint, found)


def to_metadata(members: list[Member]) -> dict[str, str]:
    """The members as a checkpoint's metadata."""
    rows = [{"widths": each.widths, "accuracy": each.accuracy, "losses": each.losses} for each in members]
    return {"members": json.dumps(rows)}


def from_metadata(metadata: dict[str, str], arch: str) -> list[Member]:
    """The members of a checkpoint, [] for a single network. Raises InputError naming the fault."""
    try:
        members = [
            Member(tuple(map(int, fields["widths"])), _accuracy(fields["accuracy"]), _losses(fields))
            for fields in json.loads(metadata.get("members", "[]"))
        ]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise InputError(
            f"the members in this checkpoint's metadata make no sense ({error!r}); train it again"
        ) from error
    for member in members:
        num_weights(arch, member.widths)  # refuses impossible widths
        if not 0 <= (member.accuracy or 0) <= 1 or len(member.losses) != len(SNR_GRID_DB):
            raise InputError(
                f"member {member.widths} has no accuracy, or not {len(SNR_GRID_DB)} losses under noise; train it again"
            )
    return members


def _accuracy(value: float | None) -> float | None:
    return None if value is None else float(value)


def _losses(fields: dict) -> tuple[float, ...]:
    """The losses in the metadata, or the complements of the accuracies in their place."""
    if "losses" in fields:
        return tuple(map(float, fields["losses"]))
    return tuple(1 - float(accuracy) for accuracy in fields["curve"])
