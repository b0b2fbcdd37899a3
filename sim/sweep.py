"""Sweeps, their trials stored so that a run that was stopped goes on: `python sim/sweep.py --out out/sweep`.

The grid of `sim.sweeps.grid`: analog and digital, network by network, over SNR, budget and seed, in simulation.
"""

import importlib
import os
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its products are small: more threads only cost


def main(argv=None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    return importlib.import_module("sim.sweeps.grid").main(argv)


if __name__ == "__main__":
    sys.exit(main())
