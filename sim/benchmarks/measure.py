"""Result of a benchmark: a measured number with its bound or peer, as a table row and as JSON."""

import json
import math
import statistics
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.dsp.host.machine import machine
from airnet_sdr.dsp.host.options import check_fields, option


@dataclass(frozen=True)
class BenchConfig:
    """Size of the benchmarks. ``quick`` is for tests: fewer trials, the same code."""

    model: str = option("fashion", "model to send for the losses", metavar="NAME|PATH")
    seeds: int = option(20, "trials per row of losses", 1)
    workers: int = option(2, "processes per section", 1)
    num_weights: int = option(25_000_000, "weights of the random network of speed and scale", 1, flag="--weights")
    scale_samples: int = option(200_000_000, "length of the stream of scale", 1)
    quick: bool = option(False, "few trials, for tests: about a minute for everything")

    def __post_init__(self):
        check_fields(self)


@dataclass(frozen=True)
class Measure:
    """One measured number, its bound (None: shown only) and details."""

    what: str
    value: float
    unit: str
    bound: float | None = None
    at_most: bool = True
    trials: str = ""
    detail: dict = field(default_factory=dict)

    @property
    def holds(self) -> bool | None:
        """Whether the bound is kept, to the two decimals shown; a value that is not a number keeps none."""
        if self.bound is None:
            return None
        return bool(round(self.value, 2) <= self.bound if self.at_most else round(self.value, 2) >= self.bound)


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, least and greatest."""
    values = list(values)
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def over_processes(function: Callable, shared: tuple, items: list, workers: int) -> list:
    """[function(*shared, item) for item in items] over processes; with one worker, in this one."""
    if workers == 1:
        return [function(*shared, item) for item in items]
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        chunk = max(1, len(items) // (8 * workers))
        return list(pool.map(function, *map(repeat, shared), items, chunksize=chunk))


def table(measures: list[Measure]) -> Table:
    """All measures, one line each; below them the processor, what it has for wide arithmetic, and how busy it was."""
    about = machine()
    caption = f"{about['cpu']}, {about['cores']} cores, load {about['load']:.1f}, {' '.join(about['cpu_flags'])}"
    shown = Table("measured", "", "bound", "", "trials", "detail", title="make bench", caption=escape(caption))
    for column in (1, 2):
        shown.columns[column].justify = "right"
    marks = {None: "", True: "[green]holds[/]", False: "[red]missed[/]"}
    for m in measures:
        bound = "" if m.bound is None else f"{'≤' if m.at_most else '≥'} {m.bound:g}"
        detail = ", ".join(f"{name} {_short(value)}" for name, value in m.detail.items())
        shown.add_row(escape(m.what), f"{_short(m.value)} {m.unit}", bound, marks[m.holds], m.trials, escape(detail))
    return shown


def write(path: Path, command: str, measures: list[Measure]) -> None:
    """A section's measures as JSON, with the command, the machine and how busy it was."""
    content = {"command": command, "machine": machine(), "measures": [asdict(m) | {"holds": m.holds} for m in measures]}
    write_whole(path, (json.dumps(_plain(content), indent=2, allow_nan=False) + "\n").encode())


def _short(value) -> str:
    if isinstance(value, dict):
        return "{median} ({min}…{max})".format(**{name: _short(number) for name, number in value.items()})
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _plain(value):
    """JSON has no infinity and no NaN: null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
