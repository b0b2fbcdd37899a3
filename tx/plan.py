"""From what the user asks for to the protection of every tensor: unequal error protection within the budgets."""

import dataclasses

import numpy as np

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat, frame_samples, layout_burst
from airnet_sdr.dsp.theory import lmmse_nmse
from airnet_sdr.dsp.uep import HANDICAP, Protection, best_curve, plan_protection, uniform
from airnet_sdr.dsp.units import linear
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.curves import curves
from airnet_sdr.models.digital.channel_code import CodedPayload
from airnet_sdr.models.digital.rate import best_payload, least_symbols
from airnet_sdr.models.digital.scheme import compressed, weights_of
from airnet_sdr.models.ensemble import best_member, equivalent_snr_db, extract, from_metadata
from airnet_sdr.models.manifest import Manifest, TensorPlan
from airnet_sdr.models.packing import to_vectors
from airnet_sdr.models.sensitivity import Sensitivity

SIZE_GRID_DB = np.arange(-30.0, 41.0)


@dataclasses.dataclass(frozen=True)
class PlanConfig:
    """uep: "auto", "size" or "none"; snr_db, per payload symbol, of the channel; budgets in channel uses of a cycle;
    expansion: "auto" for curves where they help, "none" for copies alone; by default "auto" unless uep is "none".
    digital_share: of a hybrid's payload, in the symbols of its base; None for what its bits need."""

    uep: str = "auto"
    copies: int = 1
    snr_db: float = 10.0
    payload_uses: int | None = None
    channel_uses: int | None = None
    expansion: str | None = None
    digital_share: float | None = None

    def __post_init__(self):
        if not 1 <= self.copies <= 255:
            raise InputError(f"--copies must be 1 to 255; got {self.copies}")
        if not -30 <= self.snr_db <= 60:
            raise InputError(f"--snr-db must be -30 to 60 dB; got {self.snr_db}")
        if self.digital_share is not None and not 0 < self.digital_share < 1:
            raise InputError(f"--digital-share must be between 0 and 1; got {self.digital_share}")
        if self.expansion is None:
            object.__setattr__(self, "expansion", "none" if self.uep == "none" else "auto")


@dataclasses.dataclass(frozen=True)
class Hybrid:
    """A digital base, its bytes and their payload, and the analog refinement: what each tensor still lacks.

    `base` and `residual` are vectors (numel,) float32 a tensor, `protection` is that of the residual.
    """

    data: bytes
    payload: CodedPayload
    base: list[np.ndarray]
    residual: list[np.ndarray]
    protection: Protection


def pick(
    checkpoint: Checkpoint, config: PlanConfig, fmt: FrameFormat = DEFAULT_FORMAT
) -> tuple[Checkpoint, PlanConfig]:
    """Of nested networks the one for this channel, with the plan's budget; a network that is one alone as it came.

    Without a budget it is the payload of the largest, ``copies`` times. Without UEP every weight of the one that is
    picked is then sent as often as the budget allows.
    """
    members = from_metadata(checkpoint.metadata, checkpoint.arch)
    if not members:
        return checkpoint, config
    budget = _whole_budget(checkpoint, config, fmt)

    def with_budget(member):
        copies = min(max(budget // _num_symbols(member), 1), 255)
        return dataclasses.replace(config, copies=copies, payload_uses=budget)

    def arrives(member):
        sent = extract(checkpoint, member)
        planned = with_budget(sent)
        if planned.uep == "auto":  # nobody has measured what is within
            planned = dataclasses.replace(planned, uep="size")
        snr = protect(sent, planned, None, fmt).snr(float(linear(config.snr_db)))
        return equivalent_snr_db({name: tensor.size for name, tensor in sent.tensors.items()}, snr)

    picked = extract(checkpoint, best_member(members, checkpoint.arch, budget, arrives))
    return picked, with_budget(picked)


def protect(
    checkpoint: Checkpoint, config: PlanConfig, sensitivity: Sensitivity | None, fmt: FrameFormat = DEFAULT_FORMAT
) -> Protection:
    """Copies and power of every tensor.

    Without UEP every symbol is sent ``copies`` times at equal power, or along the curve that does more in as many uses.
    With it the same number of payload symbols, or the budget where one is given, is divided so that the expected damage
    is least (`dsp.uep.plan_protection`): the damage measured, or, where ``uep`` is "size", the error's share of each
    tensor, whichever it is, so that small tensors, which cost little, are protected better.
    """
    num_symbols = np.array([(tensor.size + 1) // 2 for tensor in checkpoint.tensors.values()])
    budget = _budget(checkpoint, config, fmt)
    needed = int(num_symbols.sum()) * (config.copies if config.uep == "none" else 1)
    if budget is not None and budget < needed:
        raise InputError(
            f"{checkpoint.arch} needs {needed} payload symbols, the budget has room for {budget}; "
            "raise --payload-uses or --channel-uses, or send a smaller model"
        )
    usable = curves() if config.expansion == "auto" else ()
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
            "python models/sensitivity.py, or send with --uep size or none"
        )
    max_copies = max(8, 2 * -(-budget // int(num_symbols.sum())))  # so that the budget can be spent on a small network
    return plan_protection(num_symbols, damage, snr_grid_db, config.snr_db, budget, min(max_copies, 255), usable)


def code(
    checkpoint: Checkpoint, config: PlanConfig, sensitivity: Sensitivity | None, fmt: FrameFormat = DEFAULT_FORMAT
) -> tuple[bytes, CodedPayload]:
    """The digital alternative: compressed weights, and the coded payload that carries the most at ``snr_db``.

    The payload takes the budget where one is given, and else as many symbols as the analog weights would, ``copies``
    times.
    """
    payload = best_payload(_whole_budget(checkpoint, config, fmt), config.snr_db)
    curves = (None, None)
    if sensitivity is not None:
        curves = sensitivity.damage(list(checkpoint.tensors)), sensitivity.snr_grid_db
    return compressed(checkpoint, payload.num_bytes, *curves), payload


def refine(checkpoint: Checkpoint, config: PlanConfig, fmt: FrameFormat = DEFAULT_FORMAT) -> Hybrid:
    """A digital base with an analog refinement, as in hybrid digital-analog coding (Mittal and Phamdo, IEEE Trans.
    Inf. Theory 48(5), 2002): where the base arrives, the error goes on falling with the SNR.

    The base takes as few symbols as carry the bits that the network was trained for, or the share that is asked for;
    all others are the residual's, protected by size or not at all. Raises InputError where they do not hold it once.
    """
    if config.uep == "auto":
        raise InputError("what quantisation leaves has no measured sensitivity; send a hybrid with --uep size or none")
    budget, tensors = _whole_budget(checkpoint, config, fmt, CodedPayload(1, 1000, 2)), checkpoint.tensors
    if config.digital_share is not None:
        num_coded = round(config.digital_share * budget)
    elif "bits" in checkpoint.metadata:
        num_coded = least_symbols(-(-int(checkpoint.metadata["bits"]) // 8), config.snr_db, budget)
    else:
        raise InputError("this network was not trained for a number of bits; say how many symbols with --digital-share")
    num_symbols = _num_symbols(checkpoint)
    if budget - num_coded < num_symbols:  # before the network is compressed, which takes seconds
        raise InputError(
            f"of {budget} payload symbols the digital base leaves {budget - num_coded}, its refinement needs "
            f"{num_symbols}; raise --payload-uses or --channel-uses, or lower --digital-share"
        )
    payload = best_payload(num_coded, config.snr_db)
    data = compressed(checkpoint, payload.num_bytes)
    base = weights_of(data, [tensor.size for tensor in tensors.values()])
    residual = [weights - part for weights, part in zip(to_vectors(tensors), base, strict=True)]
    if not any(weights.any() for weights in residual):
        raise InputError("the digital base holds all of this network; send it with --scheme digital")
    left = dataclasses.replace(checkpoint, tensors=dict(zip(tensors, residual, strict=True)))
    copies = min((budget - num_coded) // num_symbols, 255)
    rest = dataclasses.replace(config, copies=copies, payload_uses=budget - num_coded, channel_uses=None)
    return Hybrid(data, payload, base, residual, protect(left, rest, None, fmt))


def pick_coded(
    checkpoints: list[Checkpoint], config: PlanConfig, fmt: FrameFormat = DEFAULT_FORMAT
) -> tuple[Checkpoint, PlanConfig]:
    """Of networks trained for different numbers of bits (`models.entropy`) the best that fits, and the plan's budget.

    Which is best is read in their metadata: their accuracy on training images kept for validation.
    """
    trained = [checkpoint for checkpoint in checkpoints if {"bits", "validation"} <= checkpoint.metadata.keys()]
    if not trained:
        raise InputError("none of these networks was trained for a number of bits; make some with train.py --bits")
    budget = max(_whole_budget(checkpoint, config, fmt) for checkpoint in trained)
    num_bits = 8 * best_payload(budget, config.snr_db).num_bytes
    fitting = [checkpoint for checkpoint in trained if int(checkpoint.metadata["bits"]) <= num_bits]
    if not fitting:
        least = min(int(checkpoint.metadata["bits"]) for checkpoint in trained)
        raise InputError(
            f"the smallest of these networks has {least} bits, {budget} symbols at {config.snr_db:g} dB carry "
            f"{num_bits}; raise --payload-uses or --channel-uses"
        )
    picked = max(fitting, key=lambda checkpoint: float(checkpoint.metadata["validation"]))
    return picked, dataclasses.replace(config, payload_uses=budget, channel_uses=None)


def _whole_budget(checkpoint: Checkpoint, config: PlanConfig, fmt: FrameFormat, coded=None) -> int:
    """The budget; without one, what the weights sent linearly take, ``copies`` times."""
    budget = _budget(checkpoint, config, fmt, coded)
    if budget is None:
        budget = _num_symbols(checkpoint) * config.copies
    return budget


def _num_symbols(checkpoint: Checkpoint) -> int:
    """Payload symbols that all weights take, sent linearly and once."""
    return sum((tensor.size + 1) // 2 for tensor in checkpoint.tensors.values())


def _budget(checkpoint, config, fmt, coded=None) -> int | None:
    """Payload symbols that the budgets allow; None without one. `coded` is a hybrid's, whose manifest is longer."""
    if config.channel_uses is None:
        return config.payload_uses
    room = _payload_room(config.channel_uses, _manifest_bytes(checkpoint, coded), fmt)
    return room if config.payload_uses is None else min(room, config.payload_uses)


def _manifest_bytes(checkpoint: Checkpoint, coded=None) -> int:
    plan = TensorPlan(0.0, 1.0, 1, 0.0)
    plans = (plan,) * len(checkpoint.tensors)
    return len(Manifest(checkpoint.arch, checkpoint.dataset, None, plans, checkpoint.widths, coded).to_bytes())


def _payload_room(channel_uses: int, manifest_bytes: int, fmt: FrameFormat) -> int:
    """The most payload symbols whose whole cycle fits channel_uses samples, by bisection; 0 when none do."""

    def total(num_payload):
        header = layout_burst(num_payload, manifest_bytes, 0, fmt)
        return header.num_frames * frame_samples(header, fmt)

    low, high = 0, channel_uses
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if total(middle) <= channel_uses else (low, middle - 1)
    return low
