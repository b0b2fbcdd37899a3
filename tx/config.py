"""Options of the sender: how a network becomes a burst, and how often the burst is sent."""

import dataclasses

from airnet_sdr.dsp.host.options import check_fields, option
from airnet_sdr.models.plan_config import SEAL_BYTES, UEP, PlanConfig

SCHEME_NAMES = ("analog", "digital", "hybrid", "layered")  # the shipped ones; `models.payload.SCHEMES` may have more


@dataclasses.dataclass(frozen=True)
class SendConfig(PlanConfig):
    """How a network becomes a burst: the scheme, the plan's options, and names for a module without any."""

    uep: str | None = option(
        None, "unequal error protection (default: auto where sensitivities were measured)", choices=UEP
    )
    scheme: str = option(
        "analog",
        f"how the weights are sent: {', '.join(SCHEME_NAMES)}; as analog symbols, compressed and coded, or both",
        metavar="NAME",
    )
    architecture: str | None = option(
        None, "your own architecture, FILE.py:NAME or a registered name", metavar="FILE.py:NAME"
    )
    dataset: str | None = option(None, "data set for evaluation, sent in the manifest, for a module", metavar="NAME")
    key: str | None = option(
        None,
        "file of a secret that both ends have: seal the burst, scramble its payload (default: none)",
        metavar="FILE",
    )
    data_dir: str | None = option(
        None, "folder searched first for training data, on which batch norm is measured", flag="--data", metavar="DIR"
    )
    seed: int = option(0, "seed of all random numbers", 0, 2**63 - 1, metavar="S")

    @property
    def more_manifest_bytes(self) -> int:
        """Of the seal."""
        return SEAL_BYTES if self.key is not None else 0


@dataclasses.dataclass(frozen=True)
class TransmissionConfig:
    """How often a burst is sent, and where it is also recorded."""

    cycles: int = option(1, "cycles of the burst to send; 0: until stopped", 0, 2**31, metavar="K")
    record: str | None = option(None, "also record the sent samples", metavar="FILE.sigmf-meta")

    def __post_init__(self):
        check_fields(self)
