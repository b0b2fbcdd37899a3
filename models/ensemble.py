"""Nested networks: one stored set of weights of which the first channels of every layer are smaller networks.

A small network's weights are sent more often in the same channel uses, so each channel has a size that does best on
it: at low SNR fewer weights, better protected, win. The sender stores the largest and sends the member that the
channel calls for; the manifest names its widths. Members are trained together, at each step the largest, the smallest
and one between (the sandwich rule; Yu and Huang, Universally Slimmable Networks, 2019) or the largest and one within,
each at its own weight noise.

What each member is worth at a weight SNR is measured once, on images kept from training, and travels in the
checkpoint's metadata. A member is planned as it would be sent, and its curve is read at the SNR that leaves as much
error as the plan does (`models.payload.protection.select_member`).
"""

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.units import linear
from airnet_sdr.models.batch_norm import recompute_statistics
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.evaluate import logits, top1
from airnet_sdr.models.nets import build, num_weights
from airnet_sdr.models.noise import energies, noisy
from airnet_sdr.models.packing import tensor_specs

SNR_GRID_DB = tuple(range(-3, 25, 3))
UEP = 0.5  # exponent of the protection that members are measured with


@dataclasses.dataclass(frozen=True)
class Member:
    """A network within: its widths, its accuracy (0 to 1) on the test images as sent, and `accuracies`, on
    validation images with its weights at each of SNR_GRID_DB."""

    widths: tuple[int, ...]
    accuracy: float
    accuracies: tuple[float, ...]

    def expected(self, snr_db: float) -> float:
        """Validation accuracy with weights at `snr_db` after combining, the curve's end beyond its ends."""
        return float(np.interp(snr_db, SNR_GRID_DB, self.accuracies))


def narrow(tensors: dict, arch: str, widths: tuple[int, ...]) -> dict:
    """The member of these widths: of every tensor (NumPy or torch, by name) the first entries along each axis."""
    with torch.device("meta"):
        specs = tensor_specs(build(arch, widths))
    return {spec.name: tensors[spec.name][tuple(slice(size) for size in spec.shape)] for spec in specs}


def grow(small: dict[str, Tensor], arch: str, widths: tuple[int, ...]) -> nn.Module:
    """The network of these widths whose member `small` is (tensors by name), and which at first computes the same.

    Its further channels are random, of each tensor's own mean and deviation, and nothing reads them yet: the weights
    that will are zero (after Chen, Goodfellow and Shlens, Net2Net, 2016). For plain chains of layers without biases;
    the output stays where channels are normalised each by itself.
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
    """Sort each convolution's output channels by `scores` (channels,), best first, in place; the output stays.

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


def accuracies_under_noise(
    module: nn.Module, images: Tensor, labels: Tensor, seed: int = 0, num_draws: int = 3
) -> tuple[float, ...]:
    """Mean accuracy on these images with the weights at each of SNR_GRID_DB, protected by their tensor's size."""
    shares, accuracies = energies({name: weight.numel() for name, weight in module.named_parameters()}, UEP), []
    for snr_db in SNR_GRID_DB:
        rng = torch.Generator().manual_seed(seed)
        snr = {name: float(linear(snr_db)) * share for name, share in shares.items()}
        total = 0.0
        for _ in range(num_draws):
            arrived = noisy(module, snr, rng)
            recompute_statistics(arrived, images)
            total += top1(logits(arrived, images), labels)
        accuracies.append(total / num_draws)
    return tuple(accuracies)


def equivalent_snr_db(numels: dict[str, int], snr) -> float:
    """The SNR of `accuracies_under_noise` that leaves as much error as tensors of `numels` have at linear `snr` (L,).

    Error is the sum of the tensors' NMSE, which `--uep size` minimises.
    """
    shares = np.array(list(energies(numels, UEP).values()))
    grid = np.arange(-30.0, 60.0, 0.5)
    errors = (1 / (1 + linear(grid)[:, None] * shares)).sum(axis=1)
    return float(np.interp(-np.sum(1 / (1 + np.asarray(snr))), -errors, grid))


def best_member(members: list[Member], arch: str, payload_uses: int, arrives: Callable[[Member], float]) -> Member:
    """Of the members that `payload_uses` symbols hold, the one expected to do best where its weights arrive at the SNR
    in dB that `arrives` tells. InputError where none fits."""
    sizes = {member: num_weights(arch, member.widths) for member in members}
    fitting = [member for member in members if sizes[member] <= 2 * payload_uses]
    if not fitting:
        raise InputError(
            f"the smallest network in this {arch} needs {-(-min(sizes.values()) // 2)} payload symbols, "
            f"the budget has room for {payload_uses}; raise `payload_uses` or `channel_uses`"
        )
    return max(fitting, key=lambda member: member.expected(arrives(member)))


def extract(checkpoint: Checkpoint, member: Member) -> Checkpoint:
    """The member as a checkpoint of its own."""
    tensors = narrow(checkpoint.tensors, checkpoint.arch, member.widths)
    return Checkpoint(checkpoint.arch, checkpoint.dataset, member.accuracy, tensors, {}, member.widths)


def extract_widths(checkpoint: Checkpoint, widths: tuple[int, ...]) -> Checkpoint:
    """The member of these widths; the checkpoint itself where it has none such."""
    members = from_metadata(checkpoint.metadata, checkpoint.arch)
    found = next((member for member in members if member.widths == widths), None)
    return checkpoint if found is None else extract(checkpoint, found)


def to_metadata(members: list[Member]) -> dict[str, str]:
    """The members as a checkpoint's metadata carries them."""
    rows = [{"widths": each.widths, "accuracy": each.accuracy, "curve": each.accuracies} for each in members]
    return {"members": json.dumps(rows)}


def from_metadata(metadata: dict[str, str], arch: str) -> list[Member]:
    """The members that a checkpoint has, none where it is one network. Raises InputError naming what is wrong."""
    try:
        members = [
            Member(tuple(fields["widths"]), float(fields["accuracy"]), tuple(map(float, fields["curve"])))
            for fields in json.loads(metadata.get("members", "[]"))
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"the members in this checkpoint's metadata make no sense ({error!r}); train it again"
        ) from error
    for member in members:
        num_weights(arch, member.widths)  # refuses widths there cannot be
        if not 0 <= member.accuracy <= 1 or len(member.accuracies) != len(SNR_GRID_DB):
            raise InputError(
                f"member {member.widths} has no accuracy, or not {len(SNR_GRID_DB)} of them under noise; train it again"
            )
    return members
