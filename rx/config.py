"""Options of the receiver: how weights are rebuilt and evaluated, how long it listens, what it writes."""

import dataclasses
import math
import re

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.options import check_fields, option
from airnet_sdr.rx.drawing import picture_format

ESTIMATORS = ("linear", "bayes")
BATCH_NORM = ("auto", "sent", "measured")


@dataclasses.dataclass(frozen=True)
class ReceiveConfig:
    """How a network is rebuilt from a burst and evaluated."""

    evaluate: str | None = option(
        None, "data set for evaluation, or none (default: the one named in the manifest)", metavar="DATASET"
    )
    estimator: str = option(
        "linear", "linear MMSE, or bayes: the posterior mean given the weights' density", choices=ESTIMATORS
    )
    batch_norm: str = option(
        "auto",
        "batch norm's statistics: as sent, measured on unlabelled evaluation inputs, or auto, as the sender found best",
        choices=BATCH_NORM,
    )
    truth: str | None = option(None, "the sent model, to report true errors (default: none)", metavar="NAME|PATH")
    data_dir: str | None = option(None, "folder searched first for data sets", flag="--data", metavar="DIR")
    architecture: str | None = option(
        None, "your own architecture, FILE.py:NAME or a registered name", metavar="FILE.py:NAME"
    )

    key: str | None = option(
        None,
        "file of a secret that both ends have: take its bursts alone, none twice (default: none)",
        metavar="FILE",
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
    picture: str | None = option(
        None,
        "draw constellation, channel, error of each layer and accuracy, as PNG, PDF or SVG by the suffix",
        metavar="P.png",
    )
    save: str | None = option(None, "write the rebuilt weights", metavar="W.safetensors")

    def __post_init__(self):
        check_fields(self)
        if self.picture is not None:
            picture_format(self.picture)


LIVE_ADDRESS = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):(?P<port>\d{1,5})")
LIVE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_. -]{0,31}")


@dataclasses.dataclass(frozen=True)
class LiveConfig:
    """Where a lab page listens, and how the receiver is called there."""

    live: str | None = option(
        None, "feed the lab page there, and keep listening as with --follow", metavar="tcp://HOST:PORT"
    )
    live_name: str = option("receiver", "what the lab page calls this receiver")
    live_images: int = option(1000, "test images of each evaluation for the lab page", 1, 10**7)

    def __post_init__(self):
        check_fields(self)
        match = LIVE_ADDRESS.fullmatch(self.live or "tcp://localhost:1")
        if not match or not 0 < int(match["port"]) < 65536:
            raise InputError(f"`live` must be tcp://HOST:PORT; got {self.live!r}")
        if not LIVE_NAME.fullmatch(self.live_name):
            raise InputError(f"`live_name` is 1 to 32 letters, digits, '_', '.', '-' or spaces; got {self.live_name!r}")
