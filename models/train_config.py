"""The recipe of a training, checked: its options, its learning rate and its optimiser."""

import argparse
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.options import check_fields, option
from airnet_sdr.models.augment import Augmentation
from airnet_sdr.models.nets import AUGMENTATION

YES_NO = ("yes", "no")
MOMENTA = {"sgd": ("momentum_buffer",), "adamw": ("exp_avg", "exp_avg_sq")}  # an optimiser's tensors of each weight


@dataclass(frozen=True)
class TrainConfig:
    """The recipe: SGD or AdamW under a one-cycle rate, weight noise, augmentation, averaged weights."""

    model: str = option("fashion", "the architecture")
    seed: int = option(1, "seed of all random numbers", 0, 2**40)
    epochs: int = option(20, "passes over the training examples", 0)
    batch_size: int = option(128, "training examples a step", 1)
    optimiser: str = option("sgd", "sgd with Nesterov momentum, or adamw", choices=("sgd", "adamw"))
    learning_rate: float = option(0.4, "largest rate of the one cycle", 0, metavar="R")
    weight_decay: float = option(5e-4, "weight decay", 0, metavar="D")
    momentum: float = 0.9
    warm_up: float = 0.15  # share of the steps over which the rate rises
    label_smoothing: float = option(
        0.05, "share of the label spread over all classes, in cross-entropy", 0, 1, metavar="X"
    )
    max_shift: int | None = option(
        None, "largest shift of images, pixels (default: 1 for the shipped architectures, 0 for others)", 0, 64
    )
    mirror: str | None = option(
        None, "mirror half of the images (default: yes for the shipped architectures, no for others)", choices=YES_NO
    )
    cutout: int = option(0, "side of the grey square of cutout, pixels", 0, 1024)
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
    teacher_architecture: str | None = option(
        None,
        "the teacher's architecture, where it is another of your own (default: the network's)",
        metavar="FILE.py:NAME",
    )
    teacher_share: float = option(0.8, "share of the teacher in the loss", 0, 1, metavar="A")
    temperature: float = option(
        2.0, "temperature of the teacher's and the student's probabilities", 0.01, 1e3, metavar="T"
    )
    nested: tuple[tuple[int, ...], ...] = ()  # widths of the members; from an init of such widths the network grows
    nested_snr_db: tuple[tuple[float, ...], ...] = ()  # least and greatest SNR per member; (): as for the largest
    nested_step: int = option(
        3, "networks trained per step: 3 (largest, smallest, one between) or 2 (largest, one member)", 2, 3
    )
    bits: int | None = option(None, "train with quantisation, to compress to N bits (default: none)", 1)
    refine: bool = option(False, "with --bits: train a hybrid; the residual arrives as noisy analog symbols")
    best: bool = option(False, "with --bits: the result is the best of all epochs on the examples held back")
    half: bool = option(False, "store the result as float16")
    bf16: bool = option(False, "compute in bfloat16, weights in float32: twice as fast on processors that support it")
    hold_out: int = option(5000, "training examples held back for validation, at most a tenth", 1)
    limit: int | None = option(None, "train on the first N examples only (default: all)", 1)
    device: str | None = option(
        None, "where to train; auto: on a GPU if there is one (default: auto)", choices=("auto", "cpu", "cuda")
    )

    def __post_init__(self):
        check_fields(self)
        if self.device == "auto":
            object.__setattr__(self, "device", None)  # as in the states of earlier trainings, which go on
        for name in ("widths", "nested", "nested_snr_db"):
            object.__setattr__(self, name, _as_tuples(getattr(self, name)))
        if self.prune_to and self.nested:
            raise InputError("`prune_to` and `nested` exclude each other; prune first, then nest with `init`")
        if len(self.nested_snr_db) not in (0, len(self.nested)) or any(len(each) != 2 for each in self.nested_snr_db):
            raise InputError(
                f"`nested_snr_db` must be LEAST,MOST, once for each `nested` or never; got {len(self.nested_snr_db)} "
                f"for {len(self.nested)}"
            )
        if self.bits is not None and self.nested:
            raise InputError("`bits` and `nested` exclude each other; give one of them")
        if self.best and (self.bits is None or self.refine):
            raise InputError("`best` goes with `bits`, and not with `refine`")
        if self.refine and (self.bits is None or self.max_snr_db == math.inf):
            raise InputError("`refine` goes with `bits`, and with a `max_snr_db` that is not infinite")

    @property
    def is_shipped(self) -> bool:
        """Whether the architecture is a shipped one, and none of the user's own."""
        return self.model in AUGMENTATION

    @property
    def torch_device(self) -> torch.device:
        """Where the training runs. Raises InputError for a GPU that is not there."""
        if self.device == "cuda" and not torch.cuda.is_available():
            raise InputError("`device` is cuda, but torch finds no GPU; give cpu or auto")
        return torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))

    @property
    def augmentation(self) -> Augmentation:
        """What is done to training images: what is asked for, otherwise what the architecture says."""
        own = AUGMENTATION.get(self.model, Augmentation())
        max_shift = own.max_shift if self.max_shift is None else self.max_shift
        return Augmentation(max_shift, own.mirror if self.mirror is None else self.mirror == "yes", self.cutout)


def _as_tuples(value):
    """Nested lists as tuples: a config is hashable, and its text does not depend on its source."""
    return tuple(map(_as_tuples, value)) if isinstance(value, (list, tuple)) else value


def learning_rate(config: TrainConfig, progress: float) -> float:
    """Learning rate: linear up over the warm-up, then half a cosine down to 0; `progress` runs from 0 to 1."""
    if progress < config.warm_up:
        return config.learning_rate * progress / config.warm_up
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - config.warm_up) / (1 - config.warm_up)))


def new_optimiser(config: TrainConfig, weights: Iterable[Tensor]) -> torch.optim.Optimizer:
    """The recipe's optimiser, without momentum yet."""
    common: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.optimiser == "adamw":
        return torch.optim.AdamW(weights, betas=(config.momentum, 0.999), **common)
    return torch.optim.SGD(weights, momentum=config.momentum, nesterov=True, **common)


def widths_from(text: str) -> tuple[float, ...]:
    """Widths from the command line: integers separated by commas, or a share of the channels such as 0.5."""
    return (float(text),) if "." in text else tuple(int(width) for width in text.split(","))


def range_from(text: str) -> tuple[float, ...]:
    """A range from the command line: two numbers separated by a comma."""
    return tuple(float(number) for number in text.split(","))


def add_nested_options(parser) -> None:
    """Offer the widths of networks and the SNRs of nested ones, lists separated by commas."""
    nothing = argparse.SUPPRESS
    parser.add_argument(
        "--widths", type=widths_from, default=nothing, metavar="W,W...",
        help="widths of the network, also for one that grows from --init (default: full widths)",
    )  # fmt: skip
    parser.add_argument(
        "--nested", type=widths_from, action="append", default=nothing, metavar="W,W...|SHARE",
        help="also train a nested network of these widths, or of this share of the channels; repeatable; the largest "
        "grows from an --init of such widths (default: none)",
    )  # fmt: skip
    parser.add_argument(
        "--nested-snr-db", type=range_from, action="append", default=nothing, metavar="LEAST,MOST",
        help="range of weight SNR for each --nested, in the same order (default: as for the largest)",
    )  # fmt: skip
