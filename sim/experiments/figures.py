"""Figures and tables of a sweep's trials.

    python sim/experiments/figures.py --trials out/sweep/trials.parquet --out out/sweep

known-ARCH.png: every scheme planned for the channel's SNR, one panel per budget. mismatch-ARCH.png: planned for one SNR
and received at another, static and in slow fading. tables.md has both as Markdown tables, with a summary. A lost trial
counts as guessing among ten classes. The bound holds for a known SNR; at another one a plan at capacity has no margin.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2] / "src")
    from airnet_sdr.dsp.host import environment

    environment.begin()

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.options import add_options, check_fields, config_from, option
from airnet_sdr.sim.experiments.library.panels import draw_figures
from airnet_sdr.sim.experiments.library.store import read


@dataclass(frozen=True)
class FiguresConfig:
    """The tables of trials, and the output folder."""

    trials: tuple[Path, ...] = option((), "tables of trials written by sim/sweep.py", metavar="T.parquet")
    out: Path = option(Path("out/sweep"), "folder of the figures and tables.md", metavar="DIR")

    def __post_init__(self):
        check_fields(self)


def main(argv=None) -> int:
    """Parse, draw and print."""
    parser = CommandParser(prog="figures", description=__doc__)
    add_options(parser, FiguresConfig)
    parser.require("trials")
    options = parser.options(argv)

    def work():
        config = config_from(FiguresConfig, options)
        rows = [row for path in config.trials for row in read(path)]
        if not rows:
            raise InputError(f"no trials in {', '.join(map(str, config.trials))}; run sim/sweep.py")
        print(draw_figures(rows, config.out))

    return run_command(parser, work)


if __name__ == "__main__":
    sys.exit(main())
