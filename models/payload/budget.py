"""Budgets of channel uses: the payload symbols that a plan may use."""

import math

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat, frame_samples, layout_burst
from airnet_sdr.dsp.symbols import num_pairs
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.payload.state import StatePayload
from airnet_sdr.models.payload.tensors import TENSOR_BYTES, plan_of_each
from airnet_sdr.models.plan_config import PlanConfig

COUNT_BYTES = 2  # of the number of tensors
MORE_BYTES = 17  # dtypes, checksum, number of parts; kind and length of two parts, and the body of a state
CODED_BYTES = 11  # more in a hybrid's manifest than in an analog one


def state_payload(checkpoint: Checkpoint, config: PlanConfig) -> StatePayload | None:
    """The part that carries the state of the checkpoint, None if it has none."""
    state = checkpoint.state
    if state is None or state.is_empty:
        return None
    return StatePayload.plan(state, config.snr_db)


def state_symbols(checkpoint: Checkpoint, config: PlanConfig) -> int:
    """Payload symbols of the state beside the weights, 0 without."""
    state = state_payload(checkpoint, config)
    return 0 if state is None else state.num_symbols([])


def symbols_once(checkpoint: Checkpoint) -> int:
    """Payload symbols of all weights sent linearly and once."""
    return sum(map(num_pairs, checkpoint.numels))


def payload_budget(
    checkpoint: Checkpoint, config: PlanConfig, fmt: FrameFormat = DEFAULT_FORMAT, more_bytes: int = 0
) -> int | None:
    """Payload symbols that the weights may use, None without a budget; ``more_bytes``: manifest beyond an analog one's.

    The symbols of the state beside the weights are subtracted from the budget.
    """
    num_state = state_symbols(checkpoint, config)
    if config.channel_uses is None:
        return None if config.payload_uses is None else max(0, config.payload_uses - num_state)
    weights = COUNT_BYTES + TENSOR_BYTES * len(set(plan_of_each(checkpoint.numels)))
    manifest_bytes = len(checkpoint.card.to_bytes()) + weights + MORE_BYTES + more_bytes
    room = payload_room(config.channel_uses, manifest_bytes + config.more_manifest_bytes, fmt)
    room = room if config.payload_uses is None else min(room, config.payload_uses)
    return max(0, room - num_state)


def whole_budget(
    checkpoint: Checkpoint, config: PlanConfig, fmt: FrameFormat = DEFAULT_FORMAT, more_bytes: int = 0
) -> int:
    """`payload_budget`; without one, the symbols of the weights sent linearly ``copies`` times."""
    budget = payload_budget(checkpoint, config, fmt, more_bytes)
    return symbols_once(checkpoint) * config.copies if budget is None else budget


def payload_room(channel_uses: int, manifest_bytes: int, fmt: FrameFormat = DEFAULT_FORMAT) -> int:
    """The most payload symbols whose whole cycle fits ``channel_uses`` samples, by bisection; 0 if none fit."""

    def total(num_payload):
        try:
            header = layout_burst(num_payload, manifest_bytes, 0, fmt)
        except InputError:  # more than a burst holds
            return math.inf
        return header.num_frames * frame_samples(header, fmt)

    low, high = 0, channel_uses
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if total(middle) <= channel_uses else (low, middle - 1)
    return low
