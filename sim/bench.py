"""The benchmarks, each against a bound or a peer measured in the same run: `python sim/bench.py [--only SECTION …]`.

loss: implementation loss over the airs of the receiver's contract · stress: the same where something breaks ·
interference: loss against an oracle by cell ·
detection: missed and false frames, header and manifest errors · speed: samples a second beside liquid's
ofdmflexframerx, and where the time goes · scale: memory and speed over a long stream · flowgraph: GNU Radio's air,
socket to socket · realtime: virtual PlutoSDRs at 5 MS/s for a minute ·
page: the lab page before five browsers beside a link at 5 MS/s · start: what the first second is made of ·
training: images a second, one training alone and two at once. Prints one table and the processor, writes
out/bench/SECTION.json.
"""

import importlib
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")
    from airnet_sdr.dsp.host import environment

    environment.begin()
    for library in ("OMP", "OPENBLAS"):  # the threads that are counted are the link's own; workers inherit this
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")

from rich.console import Console

from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.options import add_options, config_from, option
from airnet_sdr.sim.benchmarks.measure import BenchConfig, Measure, table, write

SECTIONS = (
    "loss",
    "stress",
    "interference",
    "detection",
    "speed",
    "scale",
    "flowgraph",
    "realtime",
    "page",
    "start",
    "training",
)
QUICK = {"seeds": 2, "num_weights": 500_000, "scale_samples": 4_000_000}  # where nothing else is asked for


@dataclass(frozen=True)
class BenchRunConfig(BenchConfig):
    """Which sections are run, and where their results are written."""

    only: tuple[str, ...] = option(SECTIONS, "some of the sections (default: all)", choices=SECTIONS)
    out: Path = option(Path("out/bench"), "folder for SECTION.json", metavar="DIR")


def bench(config: BenchRunConfig, command: str) -> list[Measure]:
    """Run the sections, write each as it ends, and return all measures."""
    measures = []
    console = Console(stderr=True)
    for name in config.only:
        with console.status(f"{name} …"):
            found = importlib.import_module(f"airnet_sdr.sim.benchmarks.{name}").take_measures(config)
        write(config.out / f"{name}.json", command, found)
        measures += found
    return measures


def main(argv=None) -> int:
    """Parse, run the sections and print their measures."""
    argv = sys.argv[1:] if argv is None else argv
    parser = CommandParser(prog="bench", description=__doc__)
    add_options(parser, BenchRunConfig)
    options = parser.options(argv)
    command = shlex.join(["python", "sim/bench.py", *argv])

    def work() -> None:
        config = config_from(BenchRunConfig, (QUICK if "quick" in options else {}) | options)
        Console(width=None if sys.stdout.isatty() else 200).print(table(bench(config, command)))

    return run_command(parser, work)


if __name__ == "__main__":
    sys.exit(main())
