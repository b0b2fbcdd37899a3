"""The model card: names, accuracy, metrics and widths of a network, and their bytes at the head of every manifest."""

import dataclasses
import math
import re
import reprlib
import struct
from collections.abc import Mapping
from typing import Any

from airnet_sdr.dsp.errors import InputError

MAX_METRICS = 16
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_METRIC = re.compile(r"[ -~]{1,32}")
_UNKNOWN = 65535  # accuracy
_LARGEST = 3.4028234663852886e38  # a float32


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """Names of the architecture and of the evaluation data, accuracy as sent (0 to 1, None unknown), widths, metrics.

    `widths` are passed to `models.nets.build`; () means the architecture's full widths. `metrics` are pairs of name and
    value, as a user's own `evaluate` found them, the headline first.
    """

    architecture: str
    dataset: str
    accuracy: float | None = None
    widths: tuple[int, ...] = ()
    metrics: tuple[tuple[str, float], ...] = ()

    def to_bytes(self) -> bytes:
        """Length-prefixed names; number of widths (8 bits) and each (16 bits); accuracy (16 bits); number of metrics (8
        bits), and of each the length-prefixed name and its value (float32). All big endian.

        Raises InputError when a name or value does not fit.
        """
        if self.accuracy is not None and not 0 <= self.accuracy <= 1:
            raise InputError(f"manifest: accuracy must be 0 to 1; got {self.accuracy}")
        if len(self.widths) > 255 or not all(1 <= width <= 65535 for width in self.widths):
            raise InputError(f"manifest: widths must be at most 255 numbers from 1 to 65535; got {list(self.widths)}")
        accuracy = _UNKNOWN if self.accuracy is None else round(self.accuracy * 65534)
        numbers = struct.pack(f">B{len(self.widths)}HH", len(self.widths), *self.widths, accuracy)
        check_metrics(dict(self.metrics))
        metrics = b"".join(
            bytes([len(name)]) + name.encode() + struct.pack(">f", _clipped(value)) for name, value in self.metrics
        )
        head = _name_bytes(self.architecture) + _name_bytes(self.dataset) + numbers
        return head + bytes([len(self.metrics)]) + metrics

    @classmethod
    def from_bytes(cls, data: bytes) -> tuple["ModelCard", bytes]:
        """The card at the head of ``data``, and the rest; struct.error, IndexError or UnicodeDecodeError otherwise."""
        architecture, data = _split_name(data)
        dataset, data = _split_name(data)
        num_widths, data = data[0], data[1:]
        *widths, accuracy = struct.unpack_from(f">{num_widths}HH", data)
        if 0 in widths:
            raise struct.error("a layer without channels")
        known = None if accuracy == _UNKNOWN else accuracy / 65534
        metrics, data = _split_metrics(data[2 * num_widths + 2 :])
        return cls(architecture, dataset, known, tuple(widths), metrics), data


def check_name(name: str) -> None:
    """Raise InputError for a name that a manifest cannot carry."""
    if not _NAME.fullmatch(name):
        raise InputError(f"manifest: a name is 1 to 63 ASCII letters, digits, '_', '.' or '-'; got {name!r}")


def check_metrics(metrics: Mapping[str, float]) -> None:
    """Raise InputError for metrics that a manifest cannot carry."""
    if len(metrics) > MAX_METRICS:
        raise InputError(f"manifest: metrics must be at most {MAX_METRICS}; got {len(metrics)}")
    for name in metrics:
        if not isinstance(name, str) or not _METRIC.fullmatch(name):
            raise InputError(f"manifest: a metric's name is 1 to 32 ASCII characters; got {reprlib.repr(name)}")


def checked_metrics(metrics: Mapping[str, Any], what: str) -> dict[str, float]:
    """The metrics as floats: of numbers, and of arrays and tensors of one; InputError where a manifest cannot carry
    them, or one is no number. ``what`` found them."""
    check_metrics(metrics)
    return {name: _as_float(value, f"{what}: {name}") for name, value in metrics.items()}


def _as_float(value: Any, what: str) -> float:
    try:
        return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise InputError(f"{what} must be a number; got {reprlib.repr(value)}") from error


def _clipped(value: float) -> float:
    return value if not math.isfinite(value) else max(-_LARGEST, min(value, _LARGEST))


def _split_metrics(data: bytes) -> tuple[tuple[tuple[str, float], ...], bytes]:
    count, data, found = data[0], data[1:], {}
    if count > MAX_METRICS:
        raise struct.error("metrics")
    for _ in range(count):
        length = data[0]
        name, data = data[1 : 1 + length].decode("ascii"), data[1 + length :]
        if not _METRIC.fullmatch(name) or name in found:
            raise struct.error("metric")
        found[name], data = struct.unpack_from(">f", data)[0], data[4:]
    return tuple(found.items()), data


def _name_bytes(name: str) -> bytes:
    check_name(name)
    return bytes([len(name)]) + name.encode()


def _split_name(data: bytes) -> tuple[str, bytes]:
    length = data[0]
    name = data[1 : 1 + length].decode("ascii")
    if not _NAME.fullmatch(name):
        raise struct.error("name")
    return name, data[1 + length :]
