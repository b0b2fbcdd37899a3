"""An hour without a fault: sender, air and receiver as processes, killed and started again: `python sim/endurance.py`.

Prints what was counted and writes OUT/endurance.json. For Linux, which tells memory and open files of a process.
"""

import shlex
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")
    from airnet_sdr.dsp.host import environment

    environment.begin()

from rich.console import Console

from airnet_sdr.dsp.errors import LinkError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.options import add_options, config_from
from airnet_sdr.sim.benchmarks.endurance import endurance
from airnet_sdr.sim.benchmarks.measure import table, write
from airnet_sdr.sim.benchmarks.processes import EnduranceConfig


def main(argv=None) -> int:
    """Parse, run, and print the measures; status 1 where one misses its bound."""
    argv = sys.argv[1:] if argv is None else argv
    parser = CommandParser(prog="endurance", description=__doc__)
    add_options(parser, EnduranceConfig)
    options = parser.options(argv)

    def work() -> None:
        config = config_from(EnduranceConfig, options)
        measures = endurance(config, progress=lambda text: print(text, flush=True))
        write(config.out / "endurance.json", shlex.join(["python", "sim/endurance.py", *argv]), measures)
        Console(width=None if sys.stdout.isatty() else 200).print(table(measures))
        if missed := [each.what for each in measures if each.holds is False]:
            raise LinkError(f"endurance: {len(missed)} bounds are missed: {'; '.join(missed)}")

    return run_command(parser, work)


if __name__ == "__main__":
    sys.exit(main())
