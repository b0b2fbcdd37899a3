"""What the noise of its plan does to a network's state beside the weights (`models.beside`), as its sender finds it."""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from airnet_sdr.dsp.units import linear
from airnet_sdr.models.beside import MEASURE_DB
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.known_state import NUM_TRIED, SenderData
from airnet_sdr.models.noise import noisy
from airnet_sdr.models.payload.protection import protect
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.models.statistics import load_predicted, measure, num_bearable
from airnet_sdr.models.task import NoLossError, OwnCodeError

NOISY_DB = 0.0  # planned SNR per symbol up to which the mean under noise is sent
NUM_DRAWS, NUM_NOISY = 4, 1250  # of that noise, on so many real inputs
NOISY_STEP = 0.1  # of the differences; coarser steps cost accuracy beside the noise
TRIED_DRAWS = 2  # of the noise by which statistics sent and measured are compared
TRIED_DB = 10.0  # planned SNR per symbol up to which they are
BETTER = 0.05  # of the loss: what measuring must gain, as it needs inputs at the receiver


def under_noise(checkpoint: Checkpoint, config: PlanConfig) -> Checkpoint:
    """The checkpoint with batch norm's differences as they are, in the mean, under the noise of an analog plan.

    Strong noise moves the statistics on real inputs otherwise than those on made-up ones: they differ by

        d + E[d(W')] - d(W),

    d as sent without noise, d(W) measured on a few real inputs, W' the weights as they arrive. Unchanged for plans
    above NOISY_DB, of nested networks, without made-up inputs or data, and where some of this is not finite. InputError
    if the budget does not hold the network.
    """
    state = None if "members" in checkpoint.metadata else checkpoint.state
    if config.snr_db > NOISY_DB or state is None or state.difference is None or state.made_up is None:
        return checkpoint
    data = SenderData(checkpoint.dataset, checkpoint.data_dir)
    if data.training is None or data.task is None:
        return checkpoint
    if config.uep == "auto":  # near the plan by sensitivity
        config = dataclasses.replace(config, uep="size")
    module, snr = checkpoint.module(), protect(checkpoint, config).snr(float(linear(config.snr_db)))
    real, run = data.training.first(NUM_NOISY), data.task.run
    made = state.made_up.draw(num_bearable(module, state.made_up))

    def apart(network: nn.Module) -> np.ndarray:
        return measure(network, real, run).values - measure(network, made).values

    moved = np.mean([apart(arrived) for arrived in _arriving(checkpoint, snr, NUM_DRAWS)], axis=0) - apart(module)
    if not np.isfinite(moved).all():
        return checkpoint
    found = dataclasses.replace(state, difference=(state.difference + moved).astype(np.float32), step=NOISY_STEP)
    return dataclasses.replace(checkpoint, state=found)


def judged(checkpoint: Checkpoint, snr: np.ndarray, snr_db: float) -> Checkpoint:
    """The checkpoint whose state says below which SNR a receiver does better to measure batch norm's statistics.

    Both ways are compared by the loss on training examples held back, of networks whose tensors arrive at linear
    ``snr`` (L,), as planned for ``snr_db`` per symbol; measured are those on other examples. What is found holds up to
    2 dB or more above. Unchanged for plans above TRIED_DB, and without data here, batches of them, or a loss.
    """
    state = checkpoint.state
    if snr_db > TRIED_DB or state is None or state.difference is None:
        return checkpoint
    data = SenderData(checkpoint.dataset, checkpoint.data_dir)
    if data.training is None or not len(data.held_back):
        return checkpoint
    held, others, sent, measured = data.held_back, data.training.first(NUM_TRIED), 0.0, 0.0
    try:
        for arrived in _arriving(checkpoint, snr, TRIED_DRAWS):
            load_predicted(arrived, state.difference, state.made_up)
            sent += data.task.mean_loss(arrived, held)
            measure(arrived, others, data.task.run)
            measured += data.task.mean_loss(arrived, held)
    except (NoLossError, OwnCodeError):
        return checkpoint
    if measured >= (1 - BETTER) * sent:
        return checkpoint
    state = dataclasses.replace(state, measure_db=min(each for each in MEASURE_DB if each >= snr_db + 2))
    return dataclasses.replace(checkpoint, state=state)


def _arriving(checkpoint: Checkpoint, snr: np.ndarray, num: int) -> Iterator[nn.Module]:
    """The network ``num`` times with noise on its tensors, which arrive at linear ``snr`` (L,), always the same."""
    module, rng = checkpoint.module(), torch.Generator().manual_seed(0)
    of_tensors = dict(zip(checkpoint.tensors, snr, strict=True))
    of_parameters = {name: of_tensors.get(name, math.inf) for name, _ in module.named_parameters()}
    for _ in range(num):
        yield noisy(module, of_parameters, rng)
