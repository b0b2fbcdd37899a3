"""The libraries under a PlutoSDR: whether they are there, and foreign errors mapped once."""

import contextlib
import importlib.metadata
from collections.abc import Iterator
from types import ModuleType

from airnet_sdr.dsp.errors import RadioError, RadioTimeoutError
from airnet_sdr.dsp.radio.native import quieten

INSTALL = "pip install -e '.[pluto]', and Debian's libiio0"


def library() -> ModuleType:
    """pyadi-iio's module; RadioError with what to install where a part is missing or of the wrong version."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        version = importlib.metadata.version("pylibiio")
        if int(version.split(".")[0]) >= 1:
            raise RadioError(f"pylibiio {version} needs libiio 1.x, this program 0.x; pip install 'pylibiio<1'")
    try:
        import adi
    except ModuleNotFoundError as error:
        raise RadioError(f"the Python package {error.name} is missing for a PlutoSDR; {INSTALL}") from error
    except (ImportError, OSError, AttributeError) as error:
        raise RadioError(f"libiio is missing or of the wrong version ({error}); {INSTALL}") from error
    quieten()
    return adi


def versions() -> dict[str, str]:
    """Of the libraries on this side."""
    import iio

    found = {"libiio": ".".join(map(str, iio.version[:2]))}
    for package in ("pyadi-iio", "pylibiio"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


REASONS = {  # of a board that cannot be opened, and what to try
    1: "no permission", 13: "no permission", 2: "not found", 19: "not found", 16: "busy",
    110: "no answer", 111: "connection refused", 112: "no route", 113: "no route",
}  # fmt: skip
_UDEV = (
    'put SUBSYSTEM=="usb", ATTRS{idVendor}=="0456", ATTRS{idProduct}=="b673", MODE="0666" into '
    "/etc/udev/rules.d/53-adi-plutosdr-usb.rules, run udevadm control --reload, and plug the board in again"
)
_REMEDIES = {
    "no permission": _UDEV,
    "not found": "check cable, power and address: iio_info -s lists boards",
    "busy": "another program has it, and over USB only one can; stop that program",
    "no answer": "the board is silent: power it off and on, and check the cable",
    "connection refused": "no libiio server listens there; check the address: iio_info -s lists boards",
    "no route": "check address and network: iio_info -s lists boards",
}


def not_opened(uri: str, error: BaseException) -> RadioError:
    """Why a board could not be opened, and what to try."""
    number = getattr(error, "errno", None)
    reason = REASONS.get(number)
    if reason is None:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    remedy = _REMEDIES.get(reason, "check cable, power and address: iio_info -s lists boards")
    kind = RadioTimeoutError if reason == "no answer" else RadioError
    return kind(f"no PlutoSDR at {uri} ({reason}); {remedy}")


@contextlib.contextmanager
def mapped(what: str, uri: str) -> Iterator[None]:
    """Errors of libiio as ours: ``what`` failed at the board. An attribute that is no number is one, too."""
    try:
        yield
    except OSError as error:
        if error.errno == 16:
            raise RadioError(f"the board at {uri} is busy: another program transmits; stop it first") from error
        if error.errno == 110:
            raise RadioTimeoutError(f"{what}: no answer from {uri} in time; is it still there?") from error
        if error.errno == 12:
            raise RadioError(
                f"{what}: the board at {uri} has no memory for such buffers; lower `capture_samples`, "
                "`buffer_samples` or `num_buffers`"
            ) from error
        reason = error.strerror or str(error)
        raise RadioError(f"{what} failed at {uri} ({reason}); check cable and power, then run --mute") from error
    except (ValueError, OverflowError, KeyError, AttributeError, IndexError) as error:
        raise RadioError(
            f"{what}: the board at {uri} answers something else than expected ({error}); check its firmware"
        ) from error


def number(value: float) -> str:
    """A value in a message: two that differ look different, 325000000 and not 3.25e+08.

    >>> number(325e6), number(325e6 - 1), number(-89.75)
    ('325000000', '324999999', '-89.75')
    """
    return f"{value:.12g}"
