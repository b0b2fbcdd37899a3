"""Options of the receiver: how weights are rebuilt and evaluated, how long it listens, what it writes."""

import dataclasses
import math

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.options import check_fields, option

ESTIMATORS = ("linear", "bayes")


@dataclasses.dataclass(frozen=True)
class ReceiveConfig:
    """How a network is rebuilt from a burst and evaluated."""

    evaluate: str | None = option(
        None, "data set for evaluation, or none (default: the one named in the manifest)", metavar="DATASET"
    )
    estimator: str = option(
        "linear", "linear MMSE, or bayes: the posterior mean given the weights' density", choices=ESTIMATORS
    )
    truth: str | None = option(None, "the sent model, to report true errors (default: none)", metavar="NAME|PATH")
    data_dir: str | None = option(None, "folder searched first for data sets", flag="--data", metavar="DIR")
    architecture: str | None = option(
        None, "your own architecture, FILE.py:NAME or a registered name", metavar="FILE.py:NAME"
    )

    def __post_init__(self):
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class ListenConfig:
    """How long the receiver listens, within which carrier offsets and memory."""

    cycles: int = option(16, "cycles of an endless burst to combine", 1, 2**31, metavar="K")
    timeout_s: float = option(30.0, "give up after T seconds without a frame", 1e-3, 1e9, choices=("inf",), metavar="T")
    max_cfo_hz: float | None = option(None, "largest carrier offset to search (default: 0.06 of the rate)", metavar="F")
    memory_mb: int = option(4096, "memory for the symbols of all bursts, in MiB", 16, 2**24, metavar="M")
    follow: bool = option(False, "keep listening; report every new cycle and model")

    def __post_init__(self):
        check_fields(self)

    def max_cfo(self, rate_hz: float, default: float) -> float:
        """The largest carrier offset searched, in rad/sample at ``rate_hz``. InputError if it is out of range."""
        if self.max_cfo_hz is None:
            return default
        max_cfo = 2 * math.pi * self.max_cfo_hz / rate_hz
        if not 0 < max_cfo < 0.9 * math.pi:
            raise InputError(f"`max_cfo_hz` must be positive and below 0.45 of the rate; got {self.max_cfo_hz:g}")
        return max_cfo


@dataclasses.dataclass(frozen=True)
class OutputConfig:
    """The files that the receiver writes; None: not written."""

    report: str | None = option(None, "write the report as JSON", metavar="R.json")
    picture: str | None = option(None, "draw constellation, channel, error of each layer and accuracy", metavar="P.png")
    save: str | None = option(None, "write the rebuilt weights", metavar="W.safetensors")

    def __post_init__(self):
        check_fields(self)
