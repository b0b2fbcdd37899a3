"""The recipe of a training, checked."""

import math
from dataclasses import dataclass

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.options import check_fields, option
from airnet_sdr.models.nets import FULL_WIDTHS


@dataclass(frozen=True)
class TrainConfig:
    """The recipe: SGD with Nesterov momentum under a one-cycle rate, weight noise, flips, shifts, averaged weights."""

    model: str = option("fashion", "the architecture")
    seed: int = option(1, "seed of all random numbers", 0)
    epochs: int = option(20, "passes over the training images", 0)
    batch_size: int = 128
    learning_rate: float = option(0.4, "largest rate of the one cycle", 0, metavar="R")
    weight_decay: float = option(5e-4, "weight decay", 0, metavar="D")
    momentum: float = 0.9
    warm_up: float = 0.15  # share of the steps over which the rate rises
    label_smoothing: float = 0.05
    max_shift: int = option(1, "largest shift of images, pixels", 0)
    cutout: int = option(0, "side of the grey square of cutout, pixels", 0)
    average_steps: int = option(500, "time constant of the weight average, in steps; the average is the result", 1)
    min_snr_db: float = option(
        0.0, "least weight SNR after combining; each step draws an SNR, uniform in dB", -100, 100, metavar="D"
    )
    max_snr_db: float = option(30.0, "greatest weight SNR; inf: no noise", -100, 100, choices=("inf",), metavar="D")
    min_uep: float = option(0.0, "least exponent x of the energy per weight, (tensor size)^-x", 0, 1, metavar="X")
    uep: float = option(0.0, "greatest exponent x; each step draws one", 0, 1, metavar="X")
    init: str | None = option(
        None,
        "initial checkpoint, or several with commas: their mean (default: random weights)",
        metavar="NAME|PATH",
    )
    widths: tuple[int, ...] = ()  # of a network with random weights, or one that grows; (): full widths
    prune_to: int | None = option(None, "prune channels gradually to N weights (default: no pruning)", 1)
    prune_share: float = 0.5  # share of the steps over which pruning proceeds
    teacher: str | None = option(
        None,
        "teacher, or several with commas: their mean logits (default: none)",
        metavar="NAME|PATH",
    )
    teacher_share: float = 0.8  # weight of the distillation loss
    temperature: float = 2.0
    nested: tuple[tuple[int, ...], ...] = ()  # widths of the members; from an init of such widths the network grows
    nested_snr_db: tuple[tuple[float, ...], ...] = ()  # least and greatest SNR per member; (): as for the largest
    nested_step: int = option(
        3, "networks trained per step: 3 (largest, smallest, one between) or 2 (largest, one member)", 2, 3
    )
    bits: int | None = option(None, "train with quantisation, to compress to N bits (default: none)", 1)
    refine: bool = option(False, "with --bits: train a hybrid; the residual arrives as noisy analog symbols")
    half: bool = option(False, "store the result as float16")
    bf16: bool = option(False, "compute in bfloat16, weights in float32: twice as fast on processors that support it")
    hold_out: int = option(5000, "number of training images, the last ones, held out for validation", 0)
    limit: int | None = option(None, "train on the first N images only (default: all)", 1)

    def __post_init__(self):
        check_fields(self)
        for name in ("widths", "nested", "nested_snr_db"):
            object.__setattr__(self, name, _as_tuples(getattr(self, name)))
        if (self.prune_to or self.nested) and self.model not in FULL_WIDTHS:
            raise InputError(f"{self.model} has one size; `prune_to` and `nested` are for {', '.join(FULL_WIDTHS)}")
        if self.prune_to and self.nested:
            raise InputError("`prune_to` and `nested` exclude each other; prune first, then nest with `init`")
        if len(self.nested_snr_db) not in (0, len(self.nested)) or any(len(each) != 2 for each in self.nested_snr_db):
            raise InputError(
                f"`nested_snr_db` must be LEAST,MOST, once for each `nested` or never; got {len(self.nested_snr_db)} "
                f"for {len(self.nested)}"
            )
        if self.bits is not None and self.nested:
            raise InputError("`bits` and `nested` exclude each other; give one of them")
        if self.refine and (self.bits is None or self.max_snr_db == math.inf):
            raise InputError("`refine` goes with `bits`, and with a `max_snr_db` that is not infinite")


def _as_tuples(value):
    """Nested lists as tuples: a config is hashable, and its text does not depend on its source."""
    return tuple(map(_as_tuples, value)) if isinstance(value, (list, tuple)) else value


def learning_rate(config: TrainConfig, progress: float) -> float:
    """Learning rate: linear up over the warm-up, then half a cosine down to 0; `progress` runs from 0 to 1."""
    if progress < config.warm_up:
        return config.learning_rate * progress / config.warm_up
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - config.warm_up) / (1 - config.warm_up)))
