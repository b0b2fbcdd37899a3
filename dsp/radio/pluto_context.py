"""A context of libiio on one board: opened with a reason where that fails, asked with patience, and let go for good.

Over USB a board serves one context at a time, so whoever needs both directions shares this one, and it is destroyed
when the board closes, not when Python gets round to it.
"""

import contextlib
import math
import re
from typing import Any

from airnet_sdr.dsp.errors import RadioError, RadioTimeoutError
from airnet_sdr.dsp.radio.native import Calls, bounded
from airnet_sdr.dsp.radio.pluto_library import library, mapped, not_opened, versions

CONNECT_TIMEOUT_S = 15.0
LEFT_BEHIND_S = 1.0  # for a call that a signal interrupted, to end
PATIENCE_S = 10.0  # for an attribute; a calibration takes a second
_NUMBER = re.compile(r"-?\d+(\.\d*)?([eE][-+]?\d+)?")


class BoardContext:
    """The context and pyadi-iio's object on it. ``timeout_s`` bounds every question where it is below PATIENCE_S."""

    def __init__(self, uri: str, timeout_s: float = math.inf):
        self.uri = uri
        self.patience_s = min(PATIENCE_S, timeout_s)
        self.silent = False  # a question was never answered: it is not asked again
        self.in_use = False  # a call hangs in a buffer: the context stays, too
        self._calls = Calls()
        adi = library()
        import iio

        try:
            context = bounded(lambda: iio.Context(uri), min(CONNECT_TIMEOUT_S, timeout_s), f"connecting to {uri}")
            self.pluto = adi.Pluto(context)
        except RadioTimeoutError as error:
            raise not_opened(uri, TimeoutError(110, "")) from error
        except Exception as error:  # pyadi-iio raises bare Exceptions
            raise not_opened(uri, error) from error
        self._hanging = False

    def ask(self, what: str, call, timeout_s: float | None = None) -> Any:
        """What ``call()`` gives, which reads or sets attributes; errors mapped, and never longer than the patience.

        A board that did not answer once is not asked again: what is to be done at the end would take for ever.
        """
        if self.silent:
            raise RadioTimeoutError(f"{what}: the board at {self.uri} has stopped answering")
        patience_s = self.patience_s if timeout_s is None else timeout_s
        with mapped(what, self.uri):
            try:
                return self._calls(call, patience_s, f"{what} at {self.uri}")
            except (OSError, RadioTimeoutError) as error:
                self._hanging |= isinstance(error, RadioTimeoutError)
                self.silent = self._hanging or getattr(error, "errno", None) == 110
                raise

    def number(self, what: str, read) -> float:
        """A finite number that ``read()`` gives as text or number; RadioError for anything else."""
        value = self.ask(what, read)
        match = _NUMBER.match(str(value).strip())
        if not match:
            raise RadioError(f"{what}: the board at {self.uri} says {str(value)!r}, no number; check its firmware")
        return float(match[0])

    def describe(self) -> dict:
        """Names and versions, for a report."""
        context = self.pluto._ctx
        return {
            "device": context.attrs.get("hw_model", "unknown"),
            "serial": context.attrs.get("hw_serial"),
            "firmware": context.attrs.get("fw_version"),
            "libraries": {**versions(), "libiio of the board": ".".join(map(str, context.version[:2]))},
        }

    def set_timeout(self, timeout_s: float) -> None:
        """How long libiio itself waits; takes effect for buffers created afterwards."""
        milliseconds = int(1000 * min(timeout_s, 1e6))
        self.ask("setting the timeout", lambda: self.pluto._ctx.set_timeout(milliseconds))

    def destroy(self) -> None:
        """Destroy the context, whose buffers are gone; left alone where a call still hangs in it or in a buffer."""
        pluto, self.pluto = self.pluto, None
        if pluto is None or self.in_use or self._hanging or not self._calls.over(LEFT_BEHIND_S):
            return
        context = pluto._ctx
        with contextlib.suppress(Exception):
            context.__del__()
            context._context = None
