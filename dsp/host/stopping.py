"""Stop signals: a signal raises in the current work, and endless loops check again."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from airnet_sdr.dsp.errors import LinkError

_stopped_by: int | None = None  # the signal that the work at hand has been told to end with


def stop_starting() -> None:
    """Ctrl-C ends the process in one line, status 130: for the seconds of imports before `stoppable` takes over."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end_at_once)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """While this lasts SIGTERM, SIGINT and SIGHUP are raised inside the work, as SystemExit or KeyboardInterrupt.

    So ``with`` blocks shut their radios down. A SIGHUP that is ignored (nohup) stays ignored. The signals are as before
    once the block ends.

    Where it strikes a destructor or a callback of a library, Python would print it there, and the library may fail of
    it with an error of its own: neither is said, the work ends as stopped.
    """
    global _stopped_by  # noqa: PLW0603 signals are of the process
    defaults = {signal.SIGHUP: (signal.SIG_DFL,), signal.SIGINT: (signal.default_int_handler, _end_at_once)}
    ends = [signal.SIGTERM, *(number for number, default in defaults.items() if signal.getsignal(number) in default)]
    previous, unraisable = {number: signal.signal(number, _stop) for number in ends}, sys.unraisablehook
    sys.unraisablehook = lambda lost: None if _is_stop(lost.exc_value) else unraisable(lost)
    try:
        yield
    except Exception as error:
        if not isinstance(error, LinkError):
            raise_if_stopped()
        raise
    finally:
        sys.unraisablehook = unraisable
        for number, handler in previous.items():
            signal.signal(number, handler)
        _stopped_by = None


def raise_if_stopped() -> None:
    """End what a signal has told to end, once more.

    The exception that a signal raises is lost where it strikes a destructor, or a library that catches everything;
    whatever may go on without end asks here in every round.
    """
    if _stopped_by is not None:
        raise KeyboardInterrupt if _stopped_by == signal.SIGINT else SystemExit(128 + _stopped_by)


def _is_stop(error) -> bool:
    """Whether this is what a signal has raised."""
    return _stopped_by is not None and isinstance(error, KeyboardInterrupt | SystemExit)


def _end_at_once(signum, frame):
    if signum == signal.SIGINT:
        os.write(2, f"{Path(sys.argv[0]).stem}: stopped by Ctrl-C\n".encode())
    os._exit(128 + signum)


def _torch_is_imported() -> bool:
    """Whether torch is being imported: before any radio is open, and its C++ aborts at an exception in between."""
    return getattr(getattr(sys.modules.get("torch"), "__spec__", None), "_initializing", False)


def _stop(signum, frame):
    global _stopped_by  # noqa: PLW0603 signals are of the process
    if _torch_is_imported():
        _end_at_once(signum, frame)
    _stopped_by = signum
    if signum != signal.SIGINT:
        signal.signal(signum, signal.SIG_IGN)  # a second one must not disturb what shuts down
    raise_if_stopped()
