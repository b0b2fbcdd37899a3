"""What the page shows of a receiver, from its messages: computed here, outside the receiver's process."""

import struct
import sys
import time

import numpy as np

from airnet_sdr.dsp.errors import LinkError
from airnet_sdr.dsp.units import db
from airnet_sdr.rx.config import LIVE_NAME
from airnet_sdr.rx.live_message import Message

NUM_BINS = 512  # of the spectrum, a byte each: a line of the waterfall
NUM_POINTS = 640  # of the constellation
REACH = 3.2  # of the constellation, as in the receiver's picture
FRESH_S = 2.0  # a receiver that has sent nothing for so long is silent
MAX_HISTORY = 240  # evaluations remembered
MAX_SCHEMES = 8
MAX_LENGTH = 8192  # of an array along each axis
PICTURED = ("pictures", "labels", "guesses", "confidence")
ARRAYS = {  # of a message: dtype and number of axes
    **dict.fromkeys(("samples", "matched", "control", "h_hat"), ("<c8", 1)),
    **dict.fromkeys(("inv_noise_var", "control_inv_noise_var"), ("<f4", 1)),
    **dict.fromkeys(("symbol", *PICTURED), ("|u1", 1)),
    "pictures": ("|u1", 4),
}
MAY_BE_EMPTY = ("samples", "control", "control_inv_noise_var")
SPECTRUM, PAYLOAD, CONTROL, CHANNEL, SYMBOLS = 1, 2, 3, 4, 5  # parts of a scope
_WINDOW = np.hanning(NUM_BINS).astype(np.float32)
COUNTS = ("rate_hz", "freq_hz", "samples", "seconds_dsp", "heard", "lost", "erased", "snr_db", "cfo_hz", "sco_ppm")


def plain_name(what: str, name) -> str:
    """A name that came over a network; LinkError for one that no receiver can have (`LIVE_NAME`)."""
    if not isinstance(name, str) or not LIVE_NAME.fullmatch(name):
        raise LinkError(f"a live message whose {what} has no plain name")
    return name


def checked(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those of a message's arrays that are shown; LinkError for another type or size than `ARRAYS` says."""
    found = {name: arrays[name] for name in ARRAYS if name in arrays}
    for name, array in found.items():
        fits = (array.dtype.str, array.ndim) == ARRAYS[name] and max(array.shape) <= MAX_LENGTH
        if not fits or not (array.size or name in MAY_BE_EMPTY):
            raise LinkError(f"a live message whose {name} is {array.dtype.str} {array.shape}")
    return found


def spectrum(samples: np.ndarray) -> np.ndarray:
    """Power over frequency, lowest first, of samples (n,) complex64: bytes (512,), 0.5 dB a step from −110 dB.

    The mean of Hann-windowed periodograms of 512 samples each that overlap by half (Welch, 1967).
    """
    if samples.size < NUM_BINS:
        samples = np.pad(samples, (0, NUM_BINS - samples.size))
    segments = np.lib.stride_tricks.sliding_window_view(samples, NUM_BINS)[:: NUM_BINS // 2]
    power = np.mean(np.abs(np.fft.fftshift(np.fft.fft(segments * _WINDOW), axes=1)) ** 2, axis=0)
    return _bytes(2 * (db(power / np.sum(_WINDOW) ** 2 + 1e-30) + 110))


def points(matched: np.ndarray, inv_noise_var: np.ndarray) -> np.ndarray:
    """Equalised symbols of usable slots as bytes (n, 2): I and Q, ±3.2 on ±127 and offset by 128."""
    usable = inv_noise_var > 0
    symbols = (matched[usable] / inv_noise_var[usable])[:NUM_POINTS]
    return _bytes(128 + symbols.view(np.float32).reshape(-1, 2) * (127 / REACH))


def channel_gain(h_hat: np.ndarray) -> np.ndarray:
    """Gain over subcarriers, relative to its mean: bytes, 0.25 dB a step from −40 dB."""
    power = np.abs(h_hat) ** 2
    return _bytes(4 * (db(power / max(float(power.mean()), 1e-30) + 1e-30) + 40))


def symbol_snr(inv_noise_var: np.ndarray, symbol: np.ndarray) -> np.ndarray:
    """Mean SNR of each OFDM symbol: bytes, 0.25 dB a step from −20 dB; 0: unusable, 1: it has no payload."""
    num = np.bincount(symbol)
    snr_db = db(np.bincount(symbol, inv_noise_var) / np.maximum(num, 1) + 1e-30)
    return np.where(num == 0, 1, _bytes(4 * (snr_db + 20))).astype(np.uint8)


@np.errstate(all="ignore")  # a device's samples may be infinite; as bytes they are the largest
def scope(arrays: dict[str, np.ndarray]) -> bytes:
    """Checked arrays for the browser: parts of a byte that names them, their length as uint16, and their bytes."""
    parts = {}
    try:
        if "samples" in arrays:
            parts[SPECTRUM] = spectrum(arrays["samples"])
        if "matched" in arrays:
            parts[PAYLOAD] = points(arrays["matched"], arrays["inv_noise_var"])
            parts[CONTROL] = points(arrays["control"], arrays["control_inv_noise_var"])
            parts[CHANNEL] = channel_gain(arrays["h_hat"])
            parts[SYMBOLS] = symbol_snr(arrays["inv_noise_var"], arrays["symbol"])
    except (KeyError, ValueError, IndexError) as error:  # some are missing, or longer than others
        raise LinkError(f"a live message whose arrays do not fit: {error}") from error
    return b"".join(struct.pack("<BH", part, values.nbytes) + values.tobytes() for part, values in parts.items())


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(np.nan_to_num(values)), 0, 255).astype(np.uint8)


class ReceiverState:
    """The newest of everything that one receiver has told."""

    def __init__(self, name: str):
        self.name = name
        self.pid: float | None = None
        self.updated = -np.inf
        self.counts: dict = {}
        self.flowing = False
        self.scope = b""
        self.num_scopes = self.num_results = 0
        self.results: dict[str, dict] = {}  # by scheme
        self.history: list[dict] = []
        self.pictures = b""
        self.drawable: dict[str, np.ndarray] = {}  # arrays of the newest display with a frame

    def display(self, message: Message) -> None:
        """Take a display."""
        values, arrays = message.values, checked(message.arrays)
        shown = scope(arrays)
        if (pid := _number(values.get("pid"))) != self.pid:  # another process
            self.pid, self.results, self.drawable = pid, {}, {}
        self.updated = time.monotonic()
        self.flowing = bool(values.get("flowing"))
        self.counts = {name: _number(values.get(name)) for name in COUNTS}
        if arrays:
            self.scope = shown
            self.num_scopes += 1
            if "matched" in arrays:
                self.drawable = arrays

    def result(self, message: Message) -> None:
        """Take an evaluated network."""
        values, arrays = message.values, checked(message.arrays)
        scheme = plain_name("scheme", values.get("scheme"))
        lengths = {len(arrays.get(name, ())) for name in PICTURED}
        if len(lengths) > 1:
            raise LinkError(f"a live message whose {', '.join(PICTURED)} are not as many")
        if scheme not in self.results and len(self.results) >= MAX_SCHEMES:
            return
        accuracy = _number(values.get("accuracy"))
        result = {
            "accuracy": accuracy,
            "accuracy_sent": _number(values.get("accuracy_sent")),
            "cycles": _number(values.get("cycles")),
            "burst": _number(values.get("burst")),
            "images": _number(values.get("images")),
            "metrics": _metrics(values.get("report")),
            "error": _text(values.get("error"), 300),
            "time": time.time(),
        }
        report = values.get("report")
        result["report"] = report if isinstance(report, dict) else None
        if lengths != {0}:
            pictures = arrays["pictures"]
            self.pictures = struct.pack("<4H", *pictures.shape) + pictures.tobytes()
            result |= {name: arrays[name].tolist() for name in PICTURED[1:]}
        self.results[scheme] = result
        kept = ("time", "cycles", "burst", "accuracy", "error")
        self.history = [*self.history, {"scheme": scheme} | {name: result[name] for name in kept}][-MAX_HISTORY:]
        self.num_results += 1

    @property
    def fresh(self) -> bool:
        """Whether it has told anything lately."""
        return time.monotonic() - self.updated < FRESH_S

    def summary(self) -> dict:
        """Plain values for every browser."""
        shown = ("accuracy", "accuracy_sent", "metrics", "cycles", "burst", "images", "error", "time")
        results = {scheme: {name: result[name] for name in shown} for scheme, result in self.results.items()}
        counts = {"name": self.name, "flowing": self.fresh and self.flowing, "fresh": self.fresh, **self.counts}
        return counts | {"results": results}

    def detail(self) -> dict:
        """Plain values for the browsers that watch this receiver: layers, guesses, and accuracy over time."""
        found = {}
        for scheme, result in self.results.items():
            found[scheme] = {
                "layers": _layers(result["report"]),
                **{name: result.get(name, []) for name in ("labels", "guesses", "confidence")},
            }
        return {"name": self.name, "schemes": found, "history": self.history}


def _metrics(report) -> dict[str, float | None]:
    """Measures of a network with an `evaluate` of its own, the headline first."""
    metrics = report.get("metrics") if isinstance(report, dict) else None
    pairs = list(metrics.items())[:4] if isinstance(metrics, dict) else []
    return {str(name)[:32]: _number(value) for name, value in pairs}


def _layers(report: dict | None) -> list[dict]:
    """Names and expected errors from a report that came over a network."""
    layers = (report or {}).get("layers")
    found = [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []
    names = ("nmse_db", "nmse_expected_db")
    return [{"name": _text(layer.get("name"), 40), **{n: _number(layer.get(n)) for n in names}} for layer in found]


def _number(value) -> float | None:
    return value if isinstance(value, int | float) and abs(value) <= sys.float_info.max else None


def _text(value, num: int) -> str | None:
    return value[:num] if isinstance(value, str) else None
