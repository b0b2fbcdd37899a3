"""What a result says of where it was made: the machine, and the versions of program and libraries."""

import importlib.metadata
import os
import platform
from pathlib import Path

LIBRARIES = ("airnet-sdr", "numpy", "scipy", "numba", "torch", "pyzmq", "sigmf")


def machine() -> dict:
    """Processor, cores, load over the last minute and library versions."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), cpu)
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": versions(),
    }


def versions() -> dict[str, str | None]:
    """Versions of this program and of the libraries that decide its numbers."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found
