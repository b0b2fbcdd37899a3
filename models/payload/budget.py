"""Budgets of channel uses: the payload symbols that a plan may use."""

from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat, frame_samples, layout_burst
from airnet_sdr.dsp.symbols import num_pairs
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.payload.tensors import TENSOR_BYTES
from airnet_sdr.models.plan_config import PlanConfig

COUNT_BYTES = 2  # of the number of tensors
CODED_BYTES = 11  # more in a hybrid's manifest than in an analog one


def symbols_once(checkpoint: Checkpoint) -> int:
    """Payload symbols of all weights sent linearly and once."""
    return sum(num_pairs(tensor.size) for tensor in checkpoint.tensors.values())


def payload_budget(
    checkpoint: Checkpoint, config: PlanConfig, fmt: FrameFormat = DEFAULT_FORMAT, more_bytes: int = 0
) -> int | None:
    """Payload symbols allowed by the budgets, None without one; ``more_bytes``: manifest beyond an analog one's."""
    if config.channel_uses is None:
        return config.payload_uses
    manifest_bytes = len(checkpoint.card.to_bytes()) + COUNT_BYTES + TENSOR_BYTES * len(checkpoint.tensors) + more_bytes
    room = payload_room(config.channel_uses, manifest_bytes, fmt)
    return room if config.payload_uses is None else min(room, config.payload_uses)


def whole_budget(
    checkpoint: Checkpoint, config: PlanConfig, fmt: FrameFormat = DEFAULT_FORMAT, more_bytes: int = 0
) -> int:
    """`payload_budget`; without one, the symbols of the weights sent linearly ``copies`` times."""
    budget = payload_budget(checkpoint, config, fmt, more_bytes)
    return symbols_once(checkpoint) * config.copies if budget is None else budget


def payload_room(channel_uses: int, manifest_bytes: int, fmt: FrameFormat = DEFAULT_FORMAT) -> int:
    """The most payload symbols whose whole cycle fits ``channel_uses`` samples, by bisection; 0 if none fit."""

    def total(num_payload):
        header = layout_burst(num_payload, manifest_bytes, 0, fmt)
        return header.num_frames * frame_samples(header, fmt)

    low, high = 0, channel_uses
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if total(middle) <= channel_uses else (low, middle - 1)
    return low
