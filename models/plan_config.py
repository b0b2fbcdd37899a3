"""The options of a plan: the channel, the budgets and the kind of protection."""

import dataclasses

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.options import check_fields, option
from airnet_sdr.dsp.power_range import MAX_POWER_DB, MOST_POWER_DB

SEAL_BYTES = 16  # of a counter and a tag, before a sealed manifest (`models.seal`)
MOST_USES = 1 << 29  # no burst is as long: its frames are numbered
UEP = ("none", "size", "auto")
EXPANSION = ("none", "auto")


@dataclasses.dataclass(frozen=True)
class PlanConfig:
    """Protection, channel and budgets of a plan. Budgets are channel uses of one cycle."""

    uep: str | None = option(
        "auto", "unequal error protection: as measured (auto), by tensor size, or none", choices=UEP
    )
    copies: int = option(1, "times every weight is sent; with UEP the mean, if no budget is given", 1, 255, metavar="K")
    snr_db: float = option(10.0, "SNR per payload symbol to plan for", -30, 60, metavar="D")
    payload_uses: int | None = option(None, "budget of payload symbols per cycle (default: none)", 1, MOST_USES)
    channel_uses: int | None = option(None, "budget of samples on the air per cycle (default: none)", 1, MOST_USES)
    expansion: str | None = option(
        None,
        "expansion curves instead of copies if better (default: auto with unequal protection, else none)",
        choices=EXPANSION,
    )
    max_power_db: float = option(
        MAX_POWER_DB,
        "most power of a tensor's symbols over the mean, with unequal protection",
        0,
        MOST_POWER_DB,
        metavar="D",
    )
    digital_share: float | None = option(
        None,
        "hybrid: the digital base's share of the payload (default: the least for its trained bits)",
        0,
        1,
        metavar="F",
    )

    def __post_init__(self):
        check_fields(self)
        if self.digital_share in (0, 1):
            raise InputError(f"`digital_share` must be between 0 and 1; got {self.digital_share:g}")

    @property
    def may_expand(self) -> bool:
        """Whether curves may take the place of copies: as asked for, and otherwise with unequal protection."""
        return self.uep != "none" if self.expansion is None else self.expansion == "auto"

    @property
    def more_manifest_bytes(self) -> int:
        """Bytes that stand before the manifest."""
        return 0

    def protected(self, uep: str) -> "PlanConfig":
        """The config, with ``uep`` where no protection was asked for."""
        return self if self.uep is not None else dataclasses.replace(self, uep=uep)
