"""Stop signals: a signal raises in the current work, and endless loops check again."""

import contextlib
import signal
from collections.abc import Iterator

_stopped_by: int | None = None  # the signal that the work at hand has been told to end with


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """While this lasts SIGTERM, SIGINT and SIGHUP are raised inside the work, as SystemExit or KeyboardInterrupt.

    So ``with`` blocks shut their radios down. A SIGHUP that is ignored (nohup) stays ignored. The signals are as before
    once the block ends.
    """
    global _stopped_by  # noqa: PLW0603 signals are of the process
    defaults = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    ends = [signal.SIGTERM, *(number for number, default in defaults.items() if signal.getsignal(number) is default)]
    previous = {number: signal.signal(number, _stop) for number in ends}
    try:
        yield
    finally:
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


def _stop(signum, frame):
    global _stopped_by  # noqa: PLW0603 signals are of the process
    _stopped_by = signum
    if signum != signal.SIGINT:
        signal.signal(signum, signal.SIG_IGN)  # a second one must not disturb what shuts down
    raise_if_stopped()
