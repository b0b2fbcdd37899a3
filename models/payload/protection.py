"""Copies, power and curves of every tensor of a network, and the selection of a nested network, within a budget."""

import dataclasses

import numpy as np

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat
from airnet_sdr.dsp.power_range import MAX_POWER_DB
from airnet_sdr.dsp.symbols import num_pairs
from airnet_sdr.dsp.theory import lmmse_nmse
from airnet_sdr.dsp.uep import HANDICAP, Protection, best_curve, plan_protection, uniform
from airnet_sdr.dsp.units import linear
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.curves import expansion_curves
from airnet_sdr.models.ensemble import best_member, equivalent_snr_db, extract, from_metadata
from airnet_sdr.models.known_state import with_state
from airnet_sdr.models.payload.budget import payload_budget, state_symbols, symbols_once, whole_budget
from airnet_sdr.models.payload.tensors import plan_of_each
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.models.sensitivity import Sensitivity

SIZE_GRID_DB = np.arange(-30.0, 41.0)


def select_member(
    checkpoint: Checkpoint, config: PlanConfig, fmt: FrameFormat = DEFAULT_FORMAT
) -> tuple[Checkpoint, PlanConfig]:
    """The nested network for this channel, with the plan's budget; a network without members is returned unchanged.

    The default budget is the payload of the largest, ``copies`` times. Without UEP every weight of the selected member
    is sent as often as the budget allows. If the state of the whole is known, the member's has its place in the budget,
    without one on top of it.
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
    if checkpoint.state is None:
        return selected, with_budget(selected)
    selected, room = with_state(selected), whole_budget(dataclasses.replace(checkpoint, state=None), config, fmt)
    if config.payload_uses is None and config.channel_uses is None:
        room += state_symbols(selected, config)
    budget = room - state_symbols(selected, config)
    return selected, dataclasses.replace(with_budget(selected), payload_uses=room)


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
    numels = checkpoint.numels
    num_symbols = np.array([num_pairs(numel) for numel in numels])
    budget = payload_budget(checkpoint, config, fmt)
    needed = int(num_symbols.sum()) * (config.copies if config.uep == "none" else 1)
    if budget is not None and budget < needed:
        raise InputError(
            f"{checkpoint.arch} needs {needed} payload symbols, the budget has room for {budget}; "
            "raise `payload_uses` or `channel_uses`, or send a smaller model"
        )
    usable = expansion_curves() if config.may_expand else ()
    if config.uep == "none":
        if config.max_power_db != MAX_POWER_DB:
            raise InputError("`max_power_db` has no effect without unequal protection; set `uep` to size or auto")
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
    places = np.array(plan_of_each(numels))
    num_symbols = np.bincount(places, num_symbols).astype(np.int64)  # of each plan
    damage = np.stack([damage[places == place].sum(axis=0) for place in range(len(num_symbols))])
    max_copies = max(8, 2 * -(-budget // int(num_symbols.sum())))  # so that a small network can use the whole budget
    found = plan_protection(
        num_symbols, damage, snr_grid_db, config.snr_db, budget, min(max_copies, 255), usable, config.max_power_db
    )
    return found if len(num_symbols) == len(numels) else _of_each(found, places)


def _of_each(protection: Protection, places: np.ndarray) -> Protection:
    """The protection of each tensor, given that of each plan."""
    curves = tuple(protection.curves[place] for place in places)
    return Protection(protection.copies[places], protection.power[places], curves)
