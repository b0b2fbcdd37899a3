"""SigMF recordings: a sink that writes `cf32_le`, a source that also reads `ci16_le`, `ci8`, `cu8`."""

import fcntl
import hashlib
import itertools
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from airnet_sdr.dsp.errors import InputError, RadioError
from airnet_sdr.dsp.radio.base import Sink, Source
from airnet_sdr.dsp.radio.config import DEVICE_SETTINGS, FREQ_HZ, RATE_HZ

PART = ".part"
SAMPLE_BYTES = 8
LONGEST_VALUE = 40  # characters in a message
MOST_HZ = 1e12  # of a carrier or rate
MOST_SAMPLES = 1 << 62  # of a recording
BLOCK_SAMPLES = 1 << 20  # 8 MiB of cf32_le: memory stays bounded whatever the recording's length
# component type, its zero, scale to full scale 1.0
_DATATYPES = {
    "cf32_le": ("<f4", 0.0, 1.0),
    "ci16_le": ("<i2", 0.0, 1 / 32768),
    "ci8": ("i1", 0.0, 1 / 128),
    "cu8": ("u1", 127.5, 1 / 127.5),
}


def parse_target(text: str) -> tuple[str, dict]:
    """The path of a recording's metadata; ValueError for another."""
    if not text.endswith(".sigmf-meta") or text.endswith("/.sigmf-meta") or text == ".sigmf-meta":
        raise ValueError("the path of a recording ends in .sigmf-meta")
    return text, {}


class SigmfSink(Sink):
    """Writes PATH.sigmf-data and PATH.sigmf-meta, one annotation for every labelled send.

    Both grow under temporary names (.part) and get their own when all is well: an exception leaves nothing behind. What
    a program that was killed has left is named in ``warnings``. ``hardware`` names what made the samples.
    """

    ignored = DEVICE_SETTINGS
    hardware = "none: computed samples"

    def annotate(self, start: int, count: int, label: str) -> None:
        """Name samples start…start + count - 1 of the recording."""
        self._annotations.append((max(0, start), count, label))

    def _open(self):
        self._meta_path = Path(self.address.target)
        self._data_path = self._meta_path.with_suffix(".sigmf-data")
        self._start = datetime.now(UTC)
        self._sha512, self._annotations = hashlib.sha512(), []
        try:
            self._data_path.parent.mkdir(parents=True, exist_ok=True)
            self.warnings += left_behind(self._data_path)
            self._data = _open_alone(_part(self._data_path))
        except BlockingIOError as error:
            raise InputError(
                f"another program is writing recording {self._meta_path}; wait for it, or name another"
            ) from error
        except OSError as error:
            raise InputError(
                f"cannot write recording {self._meta_path}: {error.strerror}; try a folder that is writable"
            ) from error

    def _write(self, scaled, label):
        payload = scaled.astype("<c8", copy=False).view(np.uint8)
        self._sha512.update(payload)
        try:
            self._data.write(payload)
        except OSError as error:
            raise self._failed(error) from error
        if label is not None:
            self._annotations.append((self.samples, scaled.size, label))

    def _close(self, failed):
        try:
            self._data.close()  # flushes: a full disk shows here at the latest
            if not failed:
                _part(self._meta_path).write_text(self._metadata().dumps() + "\n", encoding="utf-8")
                os.replace(_part(self._data_path), self._data_path)
                os.replace(_part(self._meta_path), self._meta_path)
        except OSError as error:
            if not failed:
                raise self._failed(error) from error
        finally:
            _part(self._data_path).unlink(missing_ok=True)
            _part(self._meta_path).unlink(missing_ok=True)

    def _metadata(self):
        from sigmf import SigMFFile  # 0.3 s to import, and a source does without

        scale = "" if self.config.backoff_db is None else f", bursts {self.config.backoff_db:g} dB below it"
        meta = SigMFFile(
            global_info={
                "core:datatype": "cf32_le",
                "core:sample_rate": self.config.rate_hz,
                "core:hw": self.hardware,
                "core:recorder": "airnet-sdr",
                "core:author": "airnet-sdr",
                "core:description": f"A neural network over the air; full scale 1.0{scale}, {self.clipped} clipped",
                "core:sha512": self._sha512.hexdigest(),
            }
        )
        meta.add_capture(
            0, {"core:frequency": self.config.freq_hz, "core:datetime": self._start.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
        )
        for start, count, label in sorted(self._annotations):
            if start < self.samples:  # of a frame that was heard only in part there are fewer samples here
                meta.add_annotation(start, min(count, self.samples - start), {"core:label": label})
        return meta

    def _failed(self, error):
        return RadioError(f"writing recording {self._meta_path} failed: {error.strerror}; is the disk full?")


class SigmfSource(Source):
    """Reads a recording from its first sample to its last; rate and carrier are the recording's own."""

    ignored = DEVICE_SETTINGS

    def _open(self):
        meta_path = Path(self.address.target)
        self._data_path = meta_path.with_suffix(".sigmf-data")
        meta = _load(meta_path)
        try:
            datatype = meta["global"]["core:datatype"]
            rate_hz = meta["global"].get("core:sample_rate")
            freq_hz = (meta.get("captures") or [{}])[0].get("core:frequency")
            num_channels = meta["global"].get("core:num_channels", 1)
            annotations = meta.get("annotations") or []
            ends = [min(a["core:sample_start"] + a.get("core:sample_count", 0), MOST_SAMPLES) for a in annotations]
            header_bytes = any(capture.get("core:header_bytes") for capture in meta.get("captures") or [])
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise InputError(
                f"{meta_path} is not SigMF metadata ({type(error).__name__}: {error}); try sigmf_validate"
            ) from error
        if not isinstance(datatype, str) or datatype not in _DATATYPES:
            raise InputError(
                f"recording {meta_path} has datatype {shortened(datatype)}; try one of {', '.join(_DATATYPES)}"
            )
        if num_channels != 1 or header_bytes:
            raise InputError(
                f"recording {meta_path} has {shortened(num_channels)} channels or header bytes between its samples; "
                "try one plain channel"
            )
        self._component, self._zero, self._scale = _DATATYPES[datatype]
        self.rate_hz = self._frequency(meta_path, "core:sample_rate", rate_hz, self.config.rate_hz, RATE_HZ)
        self.freq_hz = self._frequency(meta_path, "core:frequency", freq_hz, self.config.freq_hz, FREQ_HZ)
        self.num_samples = self._num_samples()
        if ends and max(ends) > self.num_samples:
            self.warnings.append(
                f"recording {meta_path} ends early: annotations reach to sample {max(ends):.0f}, "
                f"its data to {self.num_samples}"
            )
        self._data = open(self._data_path, "rb")

    def _close(self):
        self._data.close()

    def _read(self, timeout_s):
        components = np.empty(2 * BLOCK_SAMPLES, self._component)
        try:
            num_bytes = self._data.readinto(components.view(np.uint8))
        except OSError as error:
            raise RadioError(f"reading {self._data_path} failed: {error.strerror}") from error
        components = components[: 2 * (num_bytes // (2 * components.itemsize))]
        if components.size == 0:
            return None
        if self._scale != 1.0:
            components = (components - np.float32(self._zero)) * np.float32(self._scale)
        return components.astype(np.float32, copy=False).view(np.complex64)

    def _frequency(self, meta_path, name, value, configured, default):
        """`value` of the recording if it has one, else the configured one; a warning says what is not as expected."""
        if value is None:
            self.warnings.append(f"recording {meta_path} has no {name}; {configured:g} assumed")
            return configured
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MOST_HZ:
            raise InputError(
                f"recording {meta_path} has {name} {shortened(value)}; try a positive number up to {MOST_HZ:g}"
            )
        if configured not in (value, default):
            self.warnings.append(f"recording {meta_path} has {name} {value:g}; {configured:g} has no effect")
        return float(value)

    def _num_samples(self):
        sample_bytes = 2 * np.dtype(self._component).itemsize
        try:
            with open(self._data_path, "rb") as data:
                num_bytes = data.seek(0, os.SEEK_END)
        except OSError as error:
            raise InputError(
                f"cannot read the recording's data {self._data_path}: {error.strerror}; "
                "it belongs beside the .sigmf-meta file"
            ) from error
        if num_bytes == 0 or num_bytes % sample_bytes:
            raise InputError(
                f"recording {self._data_path} is {'truncated' if num_bytes else 'empty'}: {num_bytes} "
                f"bytes are no whole number of {sample_bytes}-byte samples; try recording it again"
            )
        return num_bytes // sample_bytes


def _load(meta_path):
    try:
        return json.loads(meta_path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"cannot read recording {meta_path}: {error.strerror}; try an existing .sigmf-meta file"
        ) from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, brackets without end
        raise InputError(f"{meta_path} is not SigMF metadata ({error}); try sigmf_validate") from error


def shortened(value) -> str:
    """A value of the metadata for a message: hostile ones are long."""
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def _part(path):
    return path.with_name(path.name + PART)


def _open_alone(path):
    """A file to write, emptied, locked as long as it is open; BlockingIOError when another program writes it."""
    data = open(path, "ab")
    try:
        fcntl.flock(data, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        data.close()
        raise
    data.truncate(0)
    return data


def left_behind(data_path: Path) -> list[str]:
    """A line on every recording in the folder whose program was killed: nobody writes it, and it has no metadata.

    The one of the same name is renamed, as a new one is about to take its place.
    """
    lines = []
    for part in sorted(data_path.parent.glob(f"*.sigmf-data*{PART}")):
        with open(part, "rb") as data:
            try:
                fcntl.flock(data, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue  # it is being written
            num_samples = data.seek(0, os.SEEK_END) // SAMPLE_BYTES
            path = _kept(part) if part == _part(data_path) else part
        lines.append(
            f"{path} is what a killed program has recorded: {num_samples} samples, cf32_le; delete it, or keep it with "
            "metadata of its own"
        )
    return lines


def _kept(part):
    """A left part of the name that is wanted, under another name."""
    numbers = (part.with_name(f"{part.name.removesuffix(PART)}.{i}{PART}") for i in itertools.count(1))
    path = next(number for number in numbers if not number.exists())
    part.rename(path)
    return path
