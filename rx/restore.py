"""A received network: its weights and what it has beside them, exact buffers and batch norm's statistics; and the
average of two."""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from airnet_sdr.dsp.errors import LinkError, one_line
from airnet_sdr.models.batch_norm import measured_statistics
from airnet_sdr.models.batches import logits_of
from airnet_sdr.models.beside import CodedState, State
from airnet_sdr.models.card import ModelCard
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.evaluate import Evaluation, evaluate, recalibrate_batch_norm
from airnet_sdr.models.manifest import Manifest
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import (
    checksum,
    exact_of,
    hollow,
    load_exact,
    load_vectors,
    named_floats,
    read_exact,
    tensors_of,
)
from airnet_sdr.models.payload import ReceivedWeights
from airnet_sdr.models.statistics import channels_of, load_predicted
from airnet_sdr.rx.report import combined_snr_db

MOVED = 0.01  # of accuracy: more is worth a warning


@dataclasses.dataclass(frozen=True)
class Restored:
    """A network as it arrived: the module and its card, the sender's dtypes by tensor where they are not the module's,
    whether batch norm's statistics were sent, the SNR below which the sender found it better to measure, warnings."""

    module: nn.Module
    card: ModelCard
    dtypes: dict[str, str]
    are_sent: bool
    measure_db: float
    warnings: list[str]

    def checkpoint(
        self,
        metadata: Mapping[str, str],
        with_statistics: bool,
        accuracy: float | None = None,
        metrics: Mapping[str, float | None] = {},  # noqa: B006
    ) -> Checkpoint:
        """The network as a checkpoint, with the accuracy and metrics found, otherwise those of the card."""
        known = {name: value for name, value in metrics.items() if value is not None} or dict(self.card.metrics)
        return Checkpoint(
            self.card.architecture,
            self.card.dataset,
            self.card.accuracy if accuracy is None else accuracy,
            tensors_of(self.module, copy=False),
            {**metadata, **({"metrics": json.dumps(known)} if known else {})},
            self.card.widths,
            measured_statistics(self.module) if with_statistics else {},
            exact_of(self.module),
            self.dtypes,
        )


class Averaged(nn.Module):
    """The mean of two networks' logits, ``share`` the weight of the first."""

    def __init__(self, first: nn.Module, second: nn.Module, share: float):
        super().__init__()
        self.networks, self.share = nn.ModuleList([first, second]), share

    def forward(self, *inputs, **named) -> Any:
        """The first network's output with the mean as its logits; LinkError if they are no tensors of one shape."""
        output, other = (network(*inputs, **named) for network in self.networks)
        first, second = logits_of(output), logits_of(other)
        if not all(isinstance(each, torch.Tensor) for each in (first, second)) or first.shape != second.shape:
            raise LinkError("the outputs of the two networks cannot be averaged; the sender's averages are wrong")
        mean = self.share * first + (1 - self.share) * second
        averaged = tree_map(lambda part: mean if part is first else part, output)
        return averaged if logits_of(averaged) is mean else mean  # torch may not know the parts of an output


def manifest_of(weights: ReceivedWeights, manifest: Manifest) -> Manifest:
    """The manifest of the network that arrived: of a layered transmission it may be another than the best."""
    if weights.card is None:
        return manifest
    dtypes = manifest.dtypes if weights.card.architecture == manifest.card.architecture else ()
    return dataclasses.replace(manifest, card=weights.card, checksum=weights.checksum, dtypes=dtypes)


def restore(weights: ReceivedWeights, manifest: Manifest, module: nn.Module | None = None) -> Restored:
    """The network of received weights, whose list is emptied, and their state, in ``module`` if it is built already.

    LinkError if they do not fit the architecture.
    """
    manifest = manifest_of(weights, manifest)
    if module is None:
        module = hollow(build(manifest.card.architecture, manifest.card.widths))
    load_vectors(module, weights.vectors, keep=False)
    warnings = restore_exact(module, weights.state, manifest.checksum)
    are_sent = restore_statistics(module, weights.state)
    measure_db = weights.state.measure_db if are_sent else -math.inf
    dtypes = manifest.dtypes_of(named_floats(module))
    return Restored(module.eval(), manifest.card, dtypes, are_sent, measure_db, warnings)


def restore_exact(module: nn.Module, state: CodedState | State | None, expected: int) -> list[str]:
    """Load the sender's exact buffers, in place; a warning if they are not all those of the sender.

    ``expected`` is the sender's checksum over all.
    """
    load_exact(module, read_exact(state.exact if state else b"", exact_of(module)))
    if checksum(exact_of(module)) == expected:
        return []
    return ["the architecture here has other integers, masks or tables than the sender's; use its version of the file"]


def restore_statistics(module: nn.Module, state: CodedState | State | None) -> bool:
    """Load batch norm's statistics as the sender's state predicts them, in place; whether there are any.

    LinkError if the state is that of another architecture.
    """
    if state is None or not state.num_channels:
        return False
    num_channels = sum(channels_of(module))
    if state.num_channels != num_channels:  # before they are decoded
        raise LinkError(
            f"statistics of {state.num_channels} channels were sent, the architecture has {num_channels} here; "
            "use the sender's version of the architecture"
        )
    difference = state.difference
    try:
        load_predicted(module, difference, state.made_up)
    except Exception as error:  # a network may raise anything of inputs that it does not take
        reason = one_line(error)[:200]
        raise LinkError(f"the sender's made-up inputs do not fit the architecture here: {reason}") from error
    return True


def way_to_statistics(mode: str, parts: Iterable[Restored], report: dict) -> str:
    """The ``mode`` of `evaluate_restored`: "auto" is "measured" where a sender found that better at this SNR."""
    measured = mode == "auto" and any(combined_snr_db(report) < part.measure_db for part in parts)
    return "measured" if measured else mode


def evaluate_restored(module: nn.Module, mode: str, report: dict, dataset: str, data_dir: str | None) -> Evaluation:
    """Evaluate a module, whose batch norm's statistics are first measured on test inputs, in place, if ``mode`` says
    so; that is said in the report, and where it moves the accuracy.

    mode : "measured", "sent", or "auto": measured where none were sent
    """
    are_sent = report["batch_norm"] == "sent"
    if mode == "sent" or (mode == "auto" and are_sent):
        return evaluate(module, dataset, data_dir)
    sent = evaluate(module, dataset, data_dir).accuracy if are_sent else None
    num_inputs = recalibrate_batch_norm(module, dataset, data_dir)
    if num_inputs:
        report |= {"batch_norm": "measured", "batch_norm_inputs": num_inputs}
    found = evaluate(module, dataset, data_dir)
    if num_inputs and None not in (sent, found.accuracy) and abs(found.accuracy - sent) >= MOVED:
        report["warnings"].append(
            f"batch norm measured on {num_inputs} inputs here moved the accuracy by "
            f"{100 * (found.accuracy - sent):+.1f} points; with the statistics sent it is {100 * sent:.2f} %"
        )
    return found
