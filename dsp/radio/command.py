"""What every command shares: usage errors in one line with exit status 1, errors mapped to their exit status once."""

import argparse
import signal
import sys
from collections.abc import Callable

from dsp.errors import LinkError


class CommandParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and exit status 1 (2 means that nothing was received)."""

    def __init__(self, **kwargs):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs)

    def error(self, message):
        self.exit(1, f"{self.prog}: {message}; --help lists the options\n")


def run_command(name: str, work: Callable[[], int | None]) -> int:
    """Run ``work``; a LinkError becomes one line on standard error and its exit status, Ctrl-C and SIGTERM 130 and 143.

    SIGTERM, and SIGHUP of a terminal that is gone unless it is ignored (nohup), are raised inside ``work`` as
    SystemExit, so that ``with`` blocks shut their radios down.
    """
    ends = [signal.SIGTERM, *([signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL else [])]
    previous = {number: signal.signal(number, _terminate) for number in ends}
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


def _terminate(signum, frame):
    signal.signal(signum, signal.SIG_IGN)  # a second one must not disturb what shuts down
    raise SystemExit(128 + signum)
