"""SoapySDR's Python bindings, found where they are, and its errors mapped once.

They are not on PyPI; distributions install them for their own Python. Debian's python3-soapysdr is two files in
dist-packages, which also work in a virtual environment of the same Python version. They alone are loaded from there,
as the NumPy beside them is another one. conda-forge has them as soapysdr.
"""

import contextlib
import functools
import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from airnet_sdr.dsp.errors import RadioError
from airnet_sdr.dsp.radio.native import quieten

FOLDERS = ("/usr/lib/python3/dist-packages", "/usr/local/lib/python3/dist-packages")
INSTALL = "install Debian's python3-soapysdr and the radio's soapysdr-module-..., or conda-forge's soapysdr"


@functools.cache
def library() -> ModuleType:
    """The module SoapySDR; RadioError with what to install where it is missing or made for another Python."""
    with contextlib.suppress(ModuleNotFoundError):
        return _quiet(importlib.import_module("SoapySDR"))
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folders = [*FOLDERS, f"/usr/local/lib/{version}/dist-packages", f"/usr/local/lib/{version}/site-packages"]
    for folder in map(Path, folders):
        if (folder / "SoapySDR.py").exists():
            return _quiet(_load(folder))
    raise RadioError(f"SoapySDR's Python bindings are not here; {INSTALL}")


def _load(folder: Path):
    suffixes = importlib.machinery.EXTENSION_SUFFIXES
    binary = next((path for suffix in suffixes if (path := folder / f"_SoapySDR{suffix}").exists()), None)
    if binary is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise RadioError(f"SoapySDR's bindings in {folder} are for another Python than {version}; {INSTALL}")
    try:
        for name, path in (("_SoapySDR", binary), ("SoapySDR", folder / "SoapySDR.py")):
            spec = importlib.util.spec_from_file_location(name, path)
            sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[name])
    except Exception as error:  # a library below it is missing or of another version
        for name in ("_SoapySDR", "SoapySDR"):
            sys.modules.pop(name, None)
        raise RadioError(f"SoapySDR in {folder} does not load ({error}); {INSTALL}") from error
    return sys.modules["SoapySDR"]


def _quiet(soapy):
    """Without the lines that it and its drivers print beside the one that an error is here."""
    quieten()
    soapy.setLogLevel(soapy.SOAPY_SDR_FATAL)
    return soapy


@contextlib.contextmanager
def mapped(what: str, target: str) -> Iterator[None]:
    """Errors of SoapySDR, which are bare RuntimeErrors, as ours."""
    try:
        yield
    except (RuntimeError, IndexError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RadioError(
            f"{what} failed at soapy:{target} ({reason}); SoapySDRUtil --probe shows the device"
        ) from error
