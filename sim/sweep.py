"""Sweeps, their results as tables, files and figures.

    python sim/sweep.py --out out/sweep
    python sim/sweep.py --question broadcast --out out/broadcast
    python sim/sweep.py --radio pluto:ip:192.168.2.1 --rx-radio pluto:ip:192.168.3.1 --model fashion

The first is the grid of `sim.experiments.grid`: analog against digital over SNR, budget and seed, in simulation. The
second is `sim.experiments.broadcast`: one transmission for receivers of every SNR. A run of either that was stopped
continues. With --radio it is `sim/experiments/attenuation.py`, which steps the transmit attenuation of a board. --help
lists the options of the first, --question broadcast --help and --radio X --help those of the others.
"""

import importlib
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")
    from airnet_sdr.dsp.host import environment

    environment.begin()


def main(argv=None) -> int:
    """Run the sweep over boards where --radio is given, the simulated one otherwise."""
    argv = sys.argv[1:] if argv is None else [str(arg) for arg in argv]
    over_boards = any(arg.split("=")[0] == "--radio" for arg in argv)
    experiment = "attenuation" if over_boards else "grid.sweep"
    if argv[:2] == ["--question", "broadcast"] or argv[:1] == ["--question=broadcast"]:
        argv, experiment = argv[2 if argv[0] == "--question" else 1 :], "broadcast.compare"
    return importlib.import_module(f"airnet_sdr.sim.experiments.{experiment}").main(argv)


if __name__ == "__main__":
    sys.exit(main())
