"""What a result says of where it was made: the machine, and the versions of program and libraries."""

import functools
import importlib.metadata
import os
import platform
from pathlib import Path

LIBRARIES = ("airnet-sdr", "numpy", "scipy", "numba", "torch", "pyzmq", "sigmf")
CPU_INFO = Path("/proc/cpuinfo")
WIDE = ("avx512", "amx")  # flags of a processor that decide its speed here
BFLOAT16 = ("avx512_bf16", "amx_bf16")  # flags of processors that multiply bfloat16


def machine() -> dict:
    """Processor, what it has for wide arithmetic, cores, load over the last minute and library versions."""
    facts = _cpu_facts()
    return {
        "cpu": facts.get("model name") or platform.processor() or platform.machine(),
        "cpu_flags": [name for name in facts.get("flags", "").split() if name.startswith(WIDE)],
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": versions(),
    }


def _cpu_facts() -> dict[str, str]:
    """Names and values of Linux's account of the first core; empty where there is none."""
    if not CPU_INFO.exists():
        return {}
    first, *_ = CPU_INFO.read_text().split("\n\n")
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16, which takes half the time of float32 or less."""
    return not set(BFLOAT16).isdisjoint(machine()["cpu_flags"])


def versions() -> dict[str, str | None]:
    """Versions of this program and of the libraries that decide its numbers."""
    return {name: _version(name) for name in LIBRARIES}


@functools.cache  # a receiver with `follow` reports again and again
def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
