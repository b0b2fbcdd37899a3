"""Commands: parsing, running, and ending with one line and an exit status."""

import argparse
import errno
import os
import re
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from airnet_sdr.dsp.errors import LinkError
from airnet_sdr.dsp.host import environment
from airnet_sdr.dsp.host.stopping import stoppable

DISTRIBUTION = "airnet-sdr"
ENTRY_POINTS = "airnet-"  # what their names begin with
NEGATIVE = re.compile(r"-(\.?\d|inf\b|nan\b)", re.IGNORECASE)


class CommandParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and exit status 1 (2 means that nothing was received)."""

    def __init__(self, **kwargs):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs)
        self._negative_number_matcher = NEGATIVE  # argparse's own, before Python 3.14, takes -4e3 for an option
        self.add_argument("--version", action="version", version=f"%(prog)s {version()}")
        self.add_argument(
            "--print-completion",
            action=_PrintCompletion,
            metavar="SHELL",
            help="print the completion for bash, zsh, tcsh or fish",
        )

    def error(self, message) -> NoReturn:
        """End the process with the message in one line and status 1."""
        self.exit(1, f"{self.prog}: {message}; --help lists the options\n")

    def options(self, argv=None) -> dict:
        """What was given, by the name of its field; options declared by `add_options` are absent where not given."""
        return vars(self.parse_args(argv))

    def require(self, *names: str) -> None:
        """Options by their fields' names without which the command does not start."""
        for action in self._actions:
            action.required |= action.dest in names

    def with_flags(self, message: str) -> str:
        """The message with its fields, which are in backquotes, as flags of this command."""
        flags = {action.dest: action.option_strings[-1] for action in self._actions if action.option_strings}
        return re.sub(r"`(\w+)`", lambda match: flags.get(match[1], match[1]), message)


class _PrintCompletion(argparse.Action):
    """Print a shell's completion of the entry point that was started, and end."""

    def __init__(self, option_strings, dest, **kwargs):
        super().__init__(option_strings, argparse.SUPPRESS, default=argparse.SUPPRESS, **kwargs)

    def __call__(self, parser, namespace, values, option_string=None):
        import shtab  # here, as it is only for this

        if values not in shtab.SUPPORTED_SHELLS:
            parser.error(f"--print-completion takes one of {', '.join(shtab.SUPPORTED_SHELLS)}; got {values!r}")
        started = Path(sys.argv[0]).name
        parser.prog = started if started.startswith(ENTRY_POINTS) else f"{ENTRY_POINTS}{parser.prog}"
        print(shtab.complete(parser, values))
        parser.exit()


def _of_stdout(error: OSError) -> bool:
    """Whether standard output's reader is gone or its device is full: the only unmapped errors of a write."""
    return error.filename is None and error.errno in (errno.EPIPE, errno.ENOSPC)


def version() -> str:
    """The version of this program; "unknown" where it is not installed."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown (a checkout that is not installed)"


def run_command(
    parser: CommandParser, work: Callable[[], int | None], how_to_go_on: Callable[[], str] = lambda: ""
) -> int:
    """Run ``work``; a LinkError becomes one line on standard error and its exit status, Ctrl-C and SIGTERM 130 and 143.

    SIGTERM, and SIGHUP of a terminal that is gone unless it is ignored, are raised inside ``work`` (`stoppable`).
    ``how_to_go_on`` is asked for the words in which Ctrl-C says how to continue.
    """
    environment.set_defaults()
    try:
        with stoppable():
            status = work() or 0
            sys.stdout.flush()
            return status
    except OSError as error:
        if error.filename is not None:  # a file that an option names, wherever it was opened
            print(f"{parser.prog}: {error.filename}: {error.strerror}; name another file", file=sys.stderr)
            return 1
        if not _of_stdout(error):
            raise
        sys.stdout = open(os.devnull, "w")  # so that the interpreter's own flush at exit says nothing
        print(f"{parser.prog}: standard output cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    except LinkError as error:
        print(f"{parser.prog}: {parser.with_flags(str(error))}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        go_on = how_to_go_on()
        print(f"{parser.prog}: stopped by Ctrl-C" + (f"; {go_on}" if go_on else ""), file=sys.stderr)
        return 130
