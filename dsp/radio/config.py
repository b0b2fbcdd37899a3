"""Settings of a radio: carrier, rate, gain, buffers and timeout of one end of a link."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.options import check_fields, option

FREQ_HZ, RATE_HZ = 2.4e9, 2.5e6  # defaults
GAIN_MODES = ("manual", "slow_attack", "fast_attack", "hybrid")
BACKOFF_DB = 12.0  # rms of a burst below full scale, see `dsp.radio.scale`
DEVICE_SETTINGS = ("gain_db", "bandwidth_hz", "gain_mode", "buffer_samples", "num_buffers", "capture_samples")
_BUFFER_SAMPLES = (1024, 1 << 24)


@dataclass(frozen=True)
class RadioConfig:
    """Carrier, sample rate, gain and timeout of one end of a link; settings that a device has not have no effect."""

    freq_hz: float = option(FREQ_HZ, "carrier frequency", 1e-3, 1e12, metavar="F")
    rate_hz: float = option(RATE_HZ, "sample rate", 1e-3, 1e12, metavar="R")
    gain_db: float | str | None = option(
        None,
        "gain in dB, or auto: measured on the air (default: the device's)",
        -200,
        200,
        choices=("auto",),
        metavar="G",
    )
    timeout_s: float = option(
        60.0, "longest wait for samples, or for a receiver to take them", 1e-3, 1e9, choices=("inf",), metavar="T"
    )
    backoff_db: float | None = BACKOFF_DB  # None: samples are not scaled
    bandwidth_hz: float | None = option(
        None, "PlutoSDR: width of the analog filters (default: the rate)", 1e-3, 1e12, metavar="B"
    )
    gain_mode: str = option("manual", "PlutoSDR: gain control", choices=GAIN_MODES)
    buffer_samples: int | None = option(
        None, "PlutoSDR: samples per buffer (default: the driver's choice)", *_BUFFER_SAMPLES
    )
    num_buffers: int = option(4, "PlutoSDR: kernel buffers", 1, 64)
    capture_samples: int | None = option(
        None, "PlutoSDR: receive one contiguous capture of N samples (default: stream)", *_BUFFER_SAMPLES
    )
    loopback: int = 0  # of a sink's board: 1 digital, 2 radio frequency

    def __post_init__(self):
        check_fields(self)
        if self.backoff_db is not None and not math.isfinite(self.backoff_db):
            raise InputError(f"`backoff_db` must be a number; got {self.backoff_db}")

    def changed(self, names: Iterable[str]) -> list[str]:
        """Those of the settings ``names`` that differ from their defaults."""
        return [each.name for each in fields(self) if each.name in names and getattr(self, each.name) != each.default]
