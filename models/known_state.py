"""The state of a network beside its weights (`models.beside`), as its sender finds it before it plans."""

import dataclasses
import functools
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from airnet_sdr.dsp.errors import InputError, LinkError
from airnet_sdr.models.batch_norm import statistics_of
from airnet_sdr.models.batches import Examples, tensors_in
from airnet_sdr.models.beside import State, as_sent
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import checksum, exact_bytes, exact_of
from airnet_sdr.models.statistics import NUM_INPUTS, MadeUp, Statistics, channels_of, few, made_up, measure, predicted
from airnet_sdr.models.task import HOLD_OUT, OwnCodeError, known, task_of

NUM_TRIED = 500  # examples held back on which ways are compared
LEAVES_PAY = 0.75  # of what fields leave; drawing leaves costs both ends time


def with_state(checkpoint: Checkpoint, data_dir: str | None = None) -> Checkpoint:
    """`with_states` of one checkpoint."""
    return with_states([checkpoint], data_dir)[0]


def with_states(checkpoints: Iterable[Checkpoint], data_dir: str | None = None) -> tuple[Checkpoint, ...]:
    """The checkpoints with their states beside the weights: changed exact buffers, and batch norm's statistics.

    The statistics are those of the checkpoint, or measured on training data if it has none. Without training data here
    they are sent as they are, and without either not at all. Data are loaded once for all checkpoints.
    """
    data: dict[tuple[str, str | None], SenderData] = {}

    def found(each: Checkpoint) -> Checkpoint:
        of = each.dataset, data_dir or each.data_dir
        return each if each.state is not None else _with_state(each, data.setdefault(of, SenderData(*of)))

    return tuple(map(found, checkpoints))


class SenderData:
    """The training data of a data set, loaded when they are first asked for; None where none are here."""

    def __init__(self, dataset: str, data_dir: str | None):
        self.task = task_of(dataset) if dataset in known() else None
        self.data_dir = data_dir

    @functools.cached_property
    def _split(self) -> tuple[Examples, Examples] | None:
        if self.task is None:
            return None
        try:
            return self.task.split(HOLD_OUT, self.data_dir)
        except LinkError as error:
            if isinstance(error, InputError) or isinstance(error.__cause__, OSError):
                return None  # no data here
            raise

    @functools.cached_property
    def training(self) -> Examples | None:
        """Training examples at random, few if they are large."""
        if self._split is None:
            return None
        training = self._split[0]
        order = torch.randperm(len(training), generator=torch.Generator().manual_seed(0))
        return training.select(order[: _few(training, NUM_INPUTS)])

    @property
    def held_back(self) -> Examples:
        """Some of the training examples on which no network was trained, where there is data; few if they are large."""
        found = self._split[1]
        return found.first(_few(found, NUM_TRIED))

    @functools.cached_property
    def made_up(self) -> MadeUp | None:
        """The made-up inputs that stand for them; None where none do, as for examples that do not make one batch."""
        if self.training is None:
            return None
        try:
            batch = self.training.take(torch.arange(len(self.training)))
        except OwnCodeError:
            return None
        made = made_up(batch[0] if isinstance(batch, (tuple, list)) and len(batch) <= 2 else batch)
        return None if made is None else as_sent(made)


def _few(examples: Examples, num: int) -> int:
    """At most ``num``, fewer if the examples are large."""
    one = examples.take(torch.arange(min(len(examples), 1)))
    return few(num, sum(tensor.numel() for tensor in tensors_in(one)))


def _with_state(checkpoint: Checkpoint, data: SenderData) -> Checkpoint:
    fresh = build(checkpoint.arch, checkpoint.widths)
    buffers = exact_of(fresh)
    exact, crc = exact_bytes(checkpoint.exact, buffers), checksum({**buffers, **checkpoint.exact})
    if not channels_of(fresh):
        return dataclasses.replace(checkpoint, state=State(exact, checksum=crc), data_dir=data.data_dir)
    module, real = checkpoint.module(), None
    if set(statistics_of(fresh)) <= set(checkpoint.statistics):
        real = Statistics.of(module)
    elif data.training is not None:
        real = measure(module, data.training, data.task.run)
        if not np.isfinite(real.values).all():
            raise InputError(f"{checkpoint.dataset}: batch norm's statistics on its training data are not finite")
    if real is None:
        return dataclasses.replace(checkpoint, state=State(exact, checksum=crc), data_dir=data.data_dir)
    difference, made = least_difference(module, real, data.made_up)
    state = State(exact, difference.astype(np.float32), made, checksum=crc)
    return dataclasses.replace(checkpoint, state=state, data_dir=data.data_dir)


def least_difference(module: nn.Module, real: Statistics, made: MadeUp | None) -> tuple[np.ndarray, MadeUp | None]:
    """What statistics on real inputs differ by from those on the made-up inputs that are most like them, and these: of
    pictures in colour leaves, where they are clearly better.

    The statistics themselves and None if the network takes no made-up inputs, or makes no finite numbers of them.
    """
    if made is None:
        return real.values, None
    kinds = [made, dataclasses.replace(made, leaves=True)] if made.is_colour else [made]
    try:
        differences = [real.values - predicted(module, each) for each in kinds]
    except Exception:  # the network may take other inputs than its data, and raise anything
        return real.values, None
    rms = [np.linalg.norm(each) for each in differences]
    if not np.isfinite(rms).all():
        return real.values, None
    best = int(rms[-1] < LEAVES_PAY * rms[0])
    return differences[best], kinds[best]
