"""What the receiver is asked for: how weights are rebuilt and evaluated, how long it listens, what it writes."""

import dataclasses
import math

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.options import check_fields, option

ESTIMATORS = ("linear", "bayes")


@dataclasses.dataclass(frozen=True)
class ReceiveConfig:
    """How a network is rebuilt from a burst, and on what it is evaluated."""

    evaluate: str | None = option(
        None, "evaluation data, or none (default: the data set that the manifest names)", metavar="DATASET"
    )
    estimator: str = option(
        "linear", "linear MMSE, or the posterior mean given the weights' density", choices=ESTIMATORS
    )
    truth: str | None = option(None, "the model as sent: adds the true errors to the report", metavar="NAME|PATH")
    data_dir: str | None = option(None, "where data sets are looked for first", flag="--data", metavar="DIR")
    architecture: str | None = option(
        None, "architecture of one's own, FILE.py:NAME or a registered name", metavar="FILE.py:NAME"
    )

    def __post_init__(self):
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class ListenConfig:
    """How long the receiver listens, and to what."""

    cycles: int = option(16, "of an endless burst, combine K cycles", 1, 2**31, metavar="K")
    timeout_s: float = option(30.0, "give up after T seconds without a frame", 1e-3, 1e9, choices=("inf",), metavar="T")
    max_cfo_hz: float | None = option(None, "carrier offsets searched (default: 0.06 of the rate)", metavar="F")
    memory_mb: int = option(4096, "memory for the symbols of all bursts, in MiB", 16, 2**24, metavar="M")
    follow: bool = option(False, "go on listening; report again as cycles or models arrive")

    def __post_init__(self):
        check_fields(self)

    def max_cfo(self, rate_hz: float, default: float) -> float:
        """The largest carrier offset searched, in rad/sample at ``rate_hz``. InputError where it cannot be."""
        if self.max_cfo_hz is None:
            return default
        max_cfo = 2 * math.pi * self.max_cfo_hz / rate_hz
        if not 0 < max_cfo < 0.9 * math.pi:
            raise InputError(f"`max_cfo_hz` must be positive and below 0.45 of the rate; got {self.max_cfo_hz:g}")
        return max_cfo


@dataclasses.dataclass(frozen=True)
class OutputConfig:
    """The files that the receiver writes; None for those it does not."""

    report: str | None = option(None, "write the report here", metavar="R.json")
    picture: str | None = option(None, "draw constellation, channel, layers and accuracy here", metavar="P.png")
    save: str | None = option(None, "write the rebuilt weights here", metavar="W.safetensors")

    def __post_init__(self):
        check_fields(self)
