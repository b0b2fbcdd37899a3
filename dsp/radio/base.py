"""The interface of every radio: its sending and receiving ends."""

from collections.abc import Callable

import numpy as np

from airnet_sdr.dsp.host.stopping import raise_if_stopped
from airnet_sdr.dsp.radio.address import Address
from airnet_sdr.dsp.radio.config import RadioConfig
from airnet_sdr.dsp.radio.scale import to_full_scale


class Sink:
    """Takes samples of unit average power and puts them on the air; a context manager.

    A device implements `_open`, `_close` and `_write`. Scaling to full scale and the clip count happen here. One that
    can repeat a burst by itself says how long a burst in `cyclic_samples` and implements `repeat` and `watch`.
    """

    cyclic_samples = 0
    ignored: tuple[str, ...] = ()  # settings of `RadioConfig` that the device does not have

    def __init__(self, address: Address, config: RadioConfig):
        self.address, self.config = address, config
        self.samples = self.clipped = 0
        self.warnings = _without_effect(address, config, self.ignored)

    def send(self, samples: np.ndarray, label: str | None = None) -> None:
        """Send complex64 (n,) of unit average power; `label` names the burst where the device keeps such names.

        Raises RadioTimeoutError if no receiver takes the samples within the configured timeout.
        """
        raise_if_stopped()
        scaled, num_clipped = to_full_scale(samples, self.config.backoff_db)
        if scaled.size:
            self._write(scaled, label)
        self.samples += scaled.size
        self.clipped += num_clipped

    def describe(self) -> dict:
        """Plain numbers for a report."""
        config = self.config
        return {
            "address": str(self.address),
            "rate_hz": config.rate_hz,
            "freq_hz": config.freq_hz,
            "gain_db": config.gain_db,
            "clipped": self.clipped,
            "samples": self.samples,
            "warnings": list(self.warnings),
        }

    def __enter__(self):
        self._open()
        return self

    def __exit__(self, exc_type, exc, traceback):
        self._close(failed=exc_type is not None)

    def repeat(self, samples: np.ndarray) -> None:
        """Send complex64 (n,) of unit average power again and again, n at most `cyclic_samples`."""
        raise NotImplementedError

    def watch(self, seconds: float) -> None:
        """Wait so long beside a burst that repeats; RadioError where the device went away."""
        raise NotImplementedError

    def _open(self): ...

    def _close(self, failed: bool): ...

    def _write(self, scaled: np.ndarray, label: str | None):
        raise NotImplementedError


class Source:
    """Gives samples in blocks, at the device's scale; a context manager.

    A device implements `_open`, `_close` and `_read`. `rate_hz` and `freq_hz` are the configured ones, or a
    recording's own once it is open. ``beside`` is a sink whose device it may share (`open_source`).
    """

    ignored: tuple[str, ...] = ()  # settings of `RadioConfig` that the device does not have

    def __init__(self, address: Address, config: RadioConfig, beside: Sink | None = None):
        self.address, self.config, self.beside = address, config, beside
        self.rate_hz, self.freq_hz = config.rate_hz, config.freq_hz
        self.samples = 0
        self.num_samples: int | None = None  # all that there are, where a recording knows once it is open
        self.on_block: Callable[[int], None] = lambda num: None  # called with the size of each block that is read
        self.overflow: bool | None = None  # lost samples were seen; None where a device cannot tell
        self.warnings = _without_effect(address, config, self.ignored)

    def read(self, timeout_s: float | None = None) -> np.ndarray | None:
        """The next block, complex64 (n,), n as it comes; None at the end of a recording.

        Raises RadioTimeoutError when nothing comes within `timeout_s` (None: the configured timeout); reading may go
        on afterwards.
        """
        raise_if_stopped()
        block = self._read(self.config.timeout_s if timeout_s is None else timeout_s)
        if block is not None:
            self.samples += block.size
            self.on_block(block.size)
        return block

    def __iter__(self):
        """Blocks until the recording ends, or RadioTimeoutError."""
        while (block := self.read()) is not None:
            yield block

    def describe(self) -> dict:
        """Plain numbers for a report, and warnings as text."""
        return {
            "address": str(self.address),
            "rate_hz": self.rate_hz,
            "freq_hz": self.freq_hz,
            "gain_db": self.config.gain_db,
            "overflow": self.overflow,
            "clipped": None,
            "samples": self.samples,
            "warnings": list(self.warnings),
        }

    def __enter__(self):
        self._open()
        return self

    def __exit__(self, exc_type, exc, traceback):
        self._close()

    def _open(self): ...

    def _close(self): ...

    def _read(self, timeout_s: float) -> np.ndarray | None:
        raise NotImplementedError


def _without_effect(address: Address, config: RadioConfig, ignored: tuple[str, ...]) -> list[str]:
    """A warning where settings were changed that the device does not have."""
    names = config.changed(ignored)
    return [f"no effect on a {address.scheme}: radio: {', '.join(names)}"] if names else []
