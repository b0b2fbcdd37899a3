"""Sweeps: accuracy and error of the weights against the channel, as tables, files and a figure.

    python sim/sweep.py --radio pluto:ip:192.168.2.1 --rx-radio pluto:ip:192.168.3.1 --model fashion

With --radio the transmit attenuation of a board is stepped, real or virtual (`sim/sweeps/attenuation.py`; --help with
--radio lists its options).
"""

import importlib
import os
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its products are small: more threads only cost

from dsp.radio.command import CommandParser


def main(argv=None) -> int:
    argv = sys.argv[1:] if argv is None else [str(arg) for arg in argv]
    if any(arg.split("=")[0] == "--radio" for arg in argv):
        return importlib.import_module("sim.sweeps.attenuation").main(argv)
    parser = CommandParser(prog="sweep", description=__doc__)
    parser.parse_known_args(argv)
    parser.error("--radio is missing: give the transmitting board, pluto:ip:192.168.2.1 or another")


if __name__ == "__main__":
    sys.exit(main())
