"""Copies, power and curves of every tensor of a network, and the selection of a nested network, within a budget."""

import dataclasses

import numpy as np

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat
from airnet_sdr.dsp.symbols import num_pairs
from airnet_sdr.dsp.theory import lmmse_nmse
from airnet_sdr.dsp.uep import HANDICAP, Protection, best_curve, plan_protection, uniform
from airnet_sdr.dsp.units import linear
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.curves import expansion_curves
from airnet_sdr.models.ensemble import best_member, equivalent_snr_db, extract, from_metadata
from airnet_sdr.models.payload.budget import payload_budget, symbols_once, whole_budget
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.models.sensitivity import Sensitivity

SIZE_GRID_DB = np.arange(-30.0, 41.0)


def select_member(
    checkpoint: Checkpoint, config: PlanConfig, fmt: FrameFormat = DEFAULT_FORMAT
) -> tuple[Checkpoint, PlanConfig]:
    """The nested network for this channel, with the plan's budget; a network without members is returned unchanged.

    The default budget is the payload of the largest, ``copies`` times. Without UEP every weight of the selected member
    is sent as often as the budget allows.
    """
    members = from_metadata(checkpoint.metadata, checkpoint.arch)
    if not members:
        return checkpoint, config
    budget = whole_budget(checkpoint, config, fmt)

    def with_budget(member):
        copies = min(max(budget // symbols_once(member), 1), 255)
        return dataclasses.replace(config, copies=copies, payload_uses=budget)

    def arrives(member):
        sent = extract(checkpoint, member)
        planned = with_budget(sent)
        if planned.uep == "auto":  # the members' sensitivities were not measured
            planned = dataclasses.replace(planned, uep="size")
        snr = protect(sent, planned, None, fmt).snr(float(linear(config.snr_db)))
        return equivalent_snr_db({name: tensor.size for name, tensor in sent.tensors.items()}, snr)

    selected = extract(checkpoint, best_member(members, checkpoint.arch, budget, arrives))
    return selected, with_budget(selected)


def protect(
    checkpoint: Checkpoint,
    config: PlanConfig,
    sensitivity: Sensitivity | None = None,
    fmt: FrameFormat = DEFAULT_FORMAT,
) -> Protection:
    """Copies, power and curve of every tensor.

    Without UEP every symbol is sent ``copies`` times at equal power, or along the curve of less error in as many uses.
    With UEP the same number of payload symbols, or the budget if given, is divided for least expected damage
    (`dsp.uep.plan_protection`). The damage is measured, or, for ``uep`` "size", the NMSE of each tensor, so that small
    tensors, which cost few symbols, are protected better.
    """
    num_symbols = np.array([num_pairs(tensor.size) for tensor in checkpoint.tensors.values()])
    budget = payload_budget(checkpoint, config, fmt)
    needed = int(num_symbols.sum()) * (config.copies if config.uep == "none" else 1)
    if budget is not None and budget < needed:
        raise InputError(
            f"{checkpoint.arch} needs {needed} payload symbols, the budget has room for {budget}; "
            "raise `payload_uses` or `channel_uses`, or send a smaller model"
        )
    usable = expansion_curves() if config.may_expand else ()
    if config.uep == "none":
        return uniform(num_symbols, *best_curve(config.copies, float(linear(config.snr_db)), usable, HANDICAP))
    budget = int(num_symbols.sum()) * config.copies if budget is None else budget
    if config.uep == "size":
        snr_grid_db = SIZE_GRID_DB
        damage = np.tile(lmmse_nmse(linear(snr_grid_db)), (len(num_symbols), 1))
    elif sensitivity is not None:
        snr_grid_db, damage = sensitivity.snr_grid_db, sensitivity.damage(list(checkpoint.tensors))
    else:
        raise InputError(
            f"no sensitivity.json beside the checkpoint of {checkpoint.arch}; make it with "
            "python models/sensitivity.py, or set `uep` to size or none"
        )
    max_copies = max(8, 2 * -(-budget // int(num_symbols.sum())))  # so that a small network can use the whole budget
    return plan_protection(num_symbols, damage, snr_grid_db, config.snr_db, budget, min(max_copies, 255), usable)
