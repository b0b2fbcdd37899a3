"""What it takes to run a result again: the record `run` of a report."""

import dataclasses
import datetime
import functools
import math
import os
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from airnet_sdr.dsp.host.machine import versions

ROOT = Path(__file__).resolve().parents[2]
GIT = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
PATIENCE_S = 5.0  # for git


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a command or function.

    ``command``: the command line, None for a call from Python. ``options``: the value of each option, defaults
    included. ``channel``: the impairments of a simulated air. ``plan_snr_db``: SNR that the sender planned for. A
    receiver that runs apart from the sender knows neither seed, channel nor planned SNR: they are None.
    """

    command: str | None = None
    options: Mapping = dataclasses.field(default_factory=dict)
    seed: int | None = None
    channel: Mapping | None = None
    plan_snr_db: float | None = None

    @functools.cached_property
    def _commit(self) -> str | None:
        return commit()  # once: a receiver reports many times, and git takes longer than a report

    def record(self) -> dict:
        """The run with the versions, the commit and the date, as values that JSON has."""
        return {
            "command": self.command,
            "options": _plain(self.options),
            "seed": self.seed,
            "channel": _plain(self.channel),
            "plan_snr_db": self.plan_snr_db,
            "versions": {"python": platform.python_version(), **versions()},
            "commit": self._commit,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }


def command_line(script: str, argv: Sequence[str]) -> str:
    """The command line of a script, such as rx/receive.py, for a shell in the repository's root."""
    return shlex.join(["python", script, *map(str, argv)])


def options_of(*configs) -> dict:
    """The fields of several configs by name; of a field that several have, the last one's value."""
    return {field.name: getattr(config, field.name) for config in configs for field in dataclasses.fields(config)}


@functools.cache  # what was started; a receiver with `follow` reports again and again
def commit() -> str | None:
    """The commit of this checkout, "-dirty" after it where files are changed; None outside a checkout or without git.

    A folder above a checkout that is no part of it, such as a user's own repository, does not count.
    """
    if not (ROOT / ".git").exists():
        return None
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        described = subprocess.run(
            GIT, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=PATIENCE_S
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None


def _plain(value):
    """``value`` with the types that JSON has: tuples as lists, infinity and objects as text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return value if isinstance(value, float) and math.isfinite(value) else str(value)
