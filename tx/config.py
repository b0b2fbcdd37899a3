"""What the sender is asked for: how a network becomes a burst, and how often the burst is sent."""

import dataclasses

from airnet_sdr.dsp.host.options import check_fields, option
from airnet_sdr.models.plan_config import UEP, PlanConfig

SCHEME_NAMES = ("analog", "digital", "hybrid")  # shipped ones; `models.payload.SCHEMES` may have more


@dataclasses.dataclass(frozen=True)
class SendConfig(PlanConfig):
    """How a network becomes a burst: the scheme, the plan's options, and names where a network brings none."""

    uep: str | None = option(
        None, "unequal error protection (default: auto where sensitivities were measured)", choices=UEP
    )
    scheme: str = option(
        "analog",
        f"how the weights travel: {', '.join(SCHEME_NAMES)}; analog symbols, compressed and coded, or both",
        metavar="NAME",
    )
    architecture: str | None = option(
        None, "architecture of one's own, FILE.py:NAME or a registered name", metavar="FILE.py:NAME"
    )
    dataset: str | None = option(None, "evaluation data that the manifest names for a module", metavar="NAME")
    seed: int = option(0, "the one seed of the run", 0, 2**63 - 1, metavar="S")


@dataclasses.dataclass(frozen=True)
class TransmissionConfig:
    """How often a burst is sent, and where it is recorded besides."""

    cycles: int = option(1, "how often the burst is sent; 0 repeats it until stopped", 0, 2**31, metavar="K")
    record: str | None = option(None, "also record what goes over the radio", metavar="FILE.sigmf-meta")

    def __post_init__(self):
        check_fields(self)
