"""One board: opened, shared by a sink and a source, and left silent on every way out."""

import atexit
import contextlib
import math
import threading

from airnet_sdr.dsp.errors import RadioError
from airnet_sdr.dsp.radio import pluto_settings as settings
from airnet_sdr.dsp.radio.base import RadioConfig
from airnet_sdr.dsp.radio.native import bounded
from airnet_sdr.dsp.radio.pluto_buffers import Buffers
from airnet_sdr.dsp.radio.pluto_context import BoardContext
from airnet_sdr.dsp.radio.pluto_library import number
from airnet_sdr.dsp.radio.pluto_ranges import check_config, check_range, range_of

CLOSE_TIMEOUT_S = 6.0


class Board:
    """A connected board. With ``config`` its settings are checked against the board's ranges at once.

    ``mutes`` says whether it is silenced when it closes. What was never closed, because a signal came where no `with`
    block could see it, is closed at exit.
    """

    def __init__(self, uri: str, config: RadioConfig | None):
        self.uri, self._config = uri, config
        self.mutes = self._closed = False
        self._closing = threading.Lock()
        self.context = BoardContext(uri, math.inf if config is None else config.timeout_s)
        self.buffers = Buffers(self.context, 4 if config is None else config.num_buffers)
        atexit.register(self._close_at_exit)
        if config is not None:
            try:
                check_config(self.context, config)
            except BaseException:
                self.close()
                raise

    def range_of(self, what: str) -> tuple[float, float]:
        """Lowest and highest value, as the board says now."""
        return range_of(self.context, what)

    def check_range(self, name: str, value: float, what: str, unit: str) -> None:
        """InputError when the board does not take the value."""
        check_range(self.context, name, value, what, unit)

    def describe(self) -> dict:
        """Names and versions, for a report."""
        return self.context.describe()

    def prepare_to_send(self) -> None:
        """Make sure that nobody else transmits, then put the board in order and tune it: calibrated, and not heard.

        Muted from now on when it closes; `settings.set_transmit_gain` is what makes it heard.
        """
        self.buffers.probe_transmitter()
        self.mutes = True
        settings.silence(self.context)
        settings.power(self.context, "TX", True)  # the calibrations need it
        settings.order(self.context)
        settings.set_rate(self.context, self._config.rate_hz)
        settings.tune(self.context, self._config, "tx")

    def prepare_to_receive(self) -> None:
        """Put the board in order and tune its receiver; its own transmitter is muted.

        Of a board that transmits for another program nothing of the sender's is touched: RadioError where the receiver
        would need another rate.
        """
        try:
            self.buffers.probe_transmitter()
        except RadioError as error:
            if getattr(error.__cause__, "errno", None) != 16:
                raise
            self.check_rate(self._config.rate_hz, "another program transmits with it")
        else:
            settings.mute(self.context)
            settings.order(self.context)
            settings.set_rate(self.context, self._config.rate_hz)
        settings.power(self.context, "RX", True)
        settings.tune(self.context, self._config, "rx")

    def check_rate(self, rate_hz: float, because: str) -> None:
        """RadioError unless the board runs at the rate already."""
        if not settings.rate_is(self.context, rate_hz):
            found = self.context.number("reading the rate", lambda: self.context.pluto.sample_rate)
            raise RadioError(
                f"the board at {self.uri} runs at {number(found)} samples/s and may not be moved to {number(rate_hz)}, "
                f"or its filters changed: {because}; receive with its `rate_hz`, or stop the sender"
            )

    def close(self) -> None:
        """Destroy the buffers, mute if it transmitted, and let go; never longer than CLOSE_TIMEOUT_S."""
        if self._closed:
            return
        self.buffers.wake()

        def work():
            with self._closing:
                if self._closed:
                    return
                if not self.context.silent:
                    with contextlib.suppress(Exception):
                        self.context.pluto._ctx.set_timeout(1000)
                self.buffers.stop_receiving()
                self.buffers.stop_sending()
                try:
                    if self.mutes:
                        settings.mute(self.context)
                finally:
                    self.context.destroy()
                    self._closed = True

        try:
            bounded(work, min(CLOSE_TIMEOUT_S, max(self.context.patience_s, 1.0)), f"closing {self.uri}")
        except Exception:
            self._closed = True  # it was tried; a signal that interrupts it is no reason not to
            raise
        finally:
            if self._closed:
                atexit.unregister(self._close_at_exit)

    def _close_at_exit(self):
        with contextlib.suppress(Exception):
            self.close()
