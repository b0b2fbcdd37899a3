"""What every command shares: usage errors in one line with exit status 1, errors mapped to their exit status once."""

import argparse
import signal
import sys
from collections.abc import Callable

from airnet_sdr.dsp.errors import LinkError


class CommandParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and exit status 1 (2 means that nothing was received)."""

    def __init__(self, **kwargs):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs)

    def error(self, message):
        self.exit(1, f"{self.prog}: {message}; --help lists the options\n")


_stopped_by: int | None = None  # the signal that the work at hand has been told to end with


def run_command(name: str, work: Callable[[], int | None]) -> int:
    """Run ``work``; a LinkError becomes one line on standard error and its exit status, Ctrl-C and SIGTERM 130 and 143.

    SIGTERM, and SIGHUP of a terminal that is gone unless it is ignored (nohup), are raised inside ``work`` as
    SystemExit, so that ``with`` blocks shut their radios down.
    """
    global _stopped_by
    defaults = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    ends = [signal.SIGTERM, *(number for number, default in defaults.items() if signal.getsignal(number) is default)]
    previous = {number: signal.signal(number, _stop) for number in ends}
    try:
        return work() or 0
    except LinkError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print(f"{name}: stopped by Ctrl-C", file=sys.stderr)
        return 130
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
    global _stopped_by
    _stopped_by = signum
    if signum != signal.SIGINT:
        signal.signal(signum, signal.SIG_IGN)  # a second one must not disturb what shuts down
    raise_if_stopped()
