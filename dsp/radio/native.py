"""Libraries below Python: calls that may hang, and lines that they print."""

import contextlib
import ctypes
import functools
import math
import os
import threading
from typing import Any

from airnet_sdr.dsp.errors import RadioTimeoutError


def bounded(call, timeout_s: float, what: str) -> Any:
    """``call()`` in a thread of its own; RadioTimeoutError when it takes longer, if ever. Ctrl-C comes through."""
    outcome = {}

    def work():
        try:
            outcome["value"] = call()
        except BaseException as error:  # handed to the caller
            outcome["error"] = error

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(None if timeout_s == math.inf else timeout_s)
    if thread.is_alive():
        raise RadioTimeoutError(f"{what} took longer than {timeout_s:g} s; is the device still there?")
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


class Calls:
    """Bounded calls into one end of a device, one after the other.

    A signal that interrupts a call leaves it behind in its thread, where it may still have to begin. It must not act
    on a device that was shut down meanwhile: the next call waits for it, and if it had not begun it never does.
    """

    def __init__(self):
        self._turn = threading.Lock()

    def __call__(self, call, timeout_s: float, what: str) -> Any:
        """As `bounded`."""
        left_behind = threading.Event()

        def in_turn():
            with self._turn:
                return None if left_behind.is_set() else call()

        try:
            return bounded(in_turn, timeout_s, what)
        except BaseException:
            left_behind.set()
            raise

    @property
    def under_way(self) -> bool:
        """Whether a call is."""
        return self._turn.locked()

    def over(self, timeout_s: float) -> bool:
        """Whether none is any more, within so long."""
        if self._turn.acquire(timeout=timeout_s):
            self._turn.release()
            return True
        return False


@functools.cache
def quieten() -> None:
    """Libraries print lines of their own to C's `stderr`, beside the one line that an error is here: not any more.

    Python's standard error, and what the C library says when it aborts, do not go that way.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no such symbol on this system: it stays talkative
        libc = ctypes.CDLL(None)
        libc.fopen.restype = ctypes.c_void_p
        if nowhere := libc.fopen(os.devnull.encode(), b"w"):
            ctypes.c_void_p.in_dll(libc, "stderr").value = nowhere
