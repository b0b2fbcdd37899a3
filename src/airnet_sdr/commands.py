"""The entry points `airnet-send`, `airnet-receive`, …: each sets the process's defaults, then runs its command.

Defaults such as OpenMP's way to wait count only before torch and NumPy are loaded, hence before the command's module.
"""

import importlib
import sys
from pathlib import Path

MODULES = {
    "airnet-send": "tx.send",
    "airnet-receive": "rx.receive",
    "airnet-compare": "rx.compare",
    "airnet-loopback": "sim.loopback",
    "airnet-air": "sim.air",
    "airnet-lab": "sim.lab",
    "airnet-gnuradio-air": "sim.gnuradio_air",
    "airnet-selftest": "sim.selftest",
    "airnet-sweep": "sim.sweep",
    "airnet-virtual-pluto": "sim.virtual_pluto.__main__",
    "airnet-import": "models.importing",
    "airnet-train": "models.train",
    "airnet-sensitivity": "models.sensitivity",
}


def main() -> int:
    """Run the command that this program was started as."""
    from airnet_sdr.dsp.host import environment

    environment.begin()
    name = Path(sys.argv[0]).stem
    return importlib.import_module(f"airnet_sdr.{MODULES[name]}").main()
