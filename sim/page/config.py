"""Options of the lab: the page's address, the receivers, radios in place of the simulated air, and the folder."""

import dataclasses
import re
from pathlib import Path

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.options import check_fields, option

MAX_RECEIVERS = 5


@dataclasses.dataclass(frozen=True)
class LabConfig:
    """What the lab starts, and where its page is served."""

    port: int = option(8050, "port of the page; 0: any", 0, 65535, metavar="P")
    host: str = option("127.0.0.1", "address at which the page is served", metavar="H")
    tour: bool = option(False, "turn the knobs by itself, for an unattended stand")
    snr_db: tuple[float, ...] = option((15.0, 5.0), "SNR of each simulated receiver, one to five", -10, 30)
    model: str | None = option(None, "a network of your own to send", metavar="NAME|PATH")
    architecture: str | None = option(
        None, "your own architecture, FILE.py:NAME or a registered name", metavar="FILE.py:NAME"
    )
    pace_hz: float = option(250e3, "simulated air: samples a second", 50e3, 10e6)
    radio: str | None = option(None, "send over this radio in place of the simulated air", metavar="ADDRESS")
    rx_radio: tuple[str, ...] = option((), "radio of each receiver, with --radio", metavar="ADDRESS")
    feed: str | None = option(
        None, "start nothing; show the receivers that feed this address with --live", metavar="tcp://HOST:PORT"
    )
    images: int = option(1000, "test images of each evaluation", 12, 10_000)
    out: Path = option(Path("out/lab"), "folder of recordings, reports and logs; nothing is written elsewhere")
    seed: int = option(1, "seed of the air", 0, 2**62, metavar="S")

    def __post_init__(self):
        check_fields(self)
        if not 1 <= len(self.snr_db) <= MAX_RECEIVERS or len(self.rx_radio) > MAX_RECEIVERS:
            raise InputError(f"a lab has one to {MAX_RECEIVERS} receivers; got {len(self.snr_db)}")
        if (self.radio is None) != (not self.rx_radio):
            raise InputError("`radio` and `rx_radio` go together: one sends, the others receive")
        if not re.fullmatch(r"[A-Za-z0-9_.:-]+", self.host):
            raise InputError(f"`host` must be a name or an IP address; got {self.host!r}")

    @property
    def mode(self) -> str:
        """Where samples come from: "simulated", "boards", or "feed" for receivers started elsewhere."""
        if self.feed is not None:
            return "feed"
        return "simulated" if self.radio is None else "boards"

    @property
    def num_receivers(self) -> int:
        """Receivers that the lab starts."""
        return {"simulated": len(self.snr_db), "boards": len(self.rx_radio), "feed": 0}[self.mode]
