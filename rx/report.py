"""The receiver's report: what arrived, how well, and what it cost; as JSON and as a picture."""

import importlib.metadata
import io
import json
from pathlib import Path

import numpy as np

from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat, Header, frame_samples
from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.dsp.units import db
from airnet_sdr.models.manifest import Manifest
from airnet_sdr.models.packing import TensorSpec
from airnet_sdr.rx.pipeline import BurstCombiner, ReceivedWeights

SCHEMA = 1
LIBRARIES = ("airnet-sdr", "numpy", "scipy", "numba", "torch", "pyzmq", "sigmf")


def make_report(
    burst: BurstCombiner,
    manifest: Manifest,
    specs: list[TensorSpec],
    weights: ReceivedWeights,
    accuracy: float | None,
    truth: list[np.ndarray] | None,
    radio: dict,
    timing: dict,
    warnings: list[str],
) -> dict:
    """Assemble the report of one burst; every number plain, missing ones None. See `README.md` for the fields."""
    snr, cfo, sco = burst.sync
    errors = None if truth is None else [_errors(w_hat, w) for w_hat, w in zip(weights.vectors, truth, strict=True)]
    numels = np.array([spec.numel for spec in specs])
    known = None not in weights.expected_nmse
    expected = float(np.average(weights.expected_nmse, weights=numels)) if known else 1.0
    lost = burst.header.num_frames - len(burst.heard)
    warnings = list(warnings)
    if lost:
        warnings.append(f"{lost} of {burst.header.num_frames} frames were never received; their weights are erased")
    if burst.erased_symbols:
        warnings.append(f"{burst.erased_symbols} OFDM symbols of received frames were unusable")
    return {
        "schema": SCHEMA,
        "model": manifest.model,
        "widths": list(manifest.widths) or None,
        "scheme": manifest.scheme,
        "accuracy": accuracy,
        "accuracy_sent": manifest.accuracy,
        "frames": {
            "expected": burst.header.num_frames,
            "received": len(burst.heard),
            "lost": lost,
            "cycles": burst.cycles,
        },
        "sync": {
            "snr_db": _plain(db(snr)),
            "cfo_hz": _plain(cfo * radio["rate_hz"] / (2 * np.pi)),
            "sco_ppm": _plain(1e6 * sco),
        },
        "weights": {
            "snr_db": _plain(db(1 / expected - 1)) if 0 < expected < 1 else None,
            "nmse_db": None if errors is None else _nmse_db(np.sum(errors, axis=0)),
        },
        "layers": [
            {
                "name": spec.name,
                "numel": spec.numel,
                "copies": 1 if plan is None else plan.copies,
                "power_db": 0.0 if plan is None else plan.power_db,
                "dimensions": 1 if plan is None or plan.curve is None else plan.curve.dims,
                "nmse_db": None if errors is None else _nmse_db(errors[i]),
            }
            for i, (spec, plan) in enumerate(zip(specs, manifest.tensors or [None] * len(specs), strict=True))
        ],
        "channel_uses": channel_uses(burst.header, manifest, specs, burst.fmt),
        "radio": {**radio, "versions": versions()},
        "timing": timing,
        "warnings": warnings,
    }


def channel_uses(
    header: Header, manifest: Manifest, specs: list[TensorSpec], fmt: FrameFormat = DEFAULT_FORMAT
) -> dict[str, int]:
    """What one cycle costs, in samples (total) and in subcarriers of OFDM symbols (the rest)."""
    frames = header.num_frames
    plans = manifest.tensors or [None] * len(specs)
    payload = sum((s.numel + 1) // 2 * plan.uses for s, plan in zip(specs, plans, strict=True) if plan)
    payload += 0 if manifest.coded is None else manifest.coded.num_symbols
    return {
        "total": frames * frame_samples(header, fmt),
        "payload": payload,
        "pilot": frames * header.num_symbols * fmt.num_pilots,
        "preamble": frames * fmt.num_active,
        "control": frames * (fmt.header_symbols + header.num_chunk_steps * fmt.chunk_step),
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


def write_json(path: str | Path, report: dict) -> None:
    """Write the report, whole or not at all."""
    write_whole(Path(path), (json.dumps(report, indent=2, allow_nan=False) + "\n").encode())


def draw(path: str | Path, report: dict, burst: BurstCombiner) -> None:
    """The picture: constellation, channel, error of each layer, accuracy sent and received."""
    from matplotlib.figure import Figure  # half a second to import, and most reports go without

    frame, fmt = burst.latest, burst.fmt
    figure = Figure(figsize=(11, 8), layout="constrained")
    constellation, channel, layers, accuracy = figure.subplots(2, 2).flat

    payload = _equalised(frame.statistic, frame.information)[:4000]
    control = _equalised(frame.chunk, frame.chunk_information)
    constellation.plot(
        payload.real,
        payload.imag,
        ".",
        ms=1.5,
        color="tab:blue",
        alpha=0.5,
        label=f"payload: weights, {report['scheme']}",
    )
    constellation.plot(control.real, control.imag, ".", ms=3, color="tab:orange", label="control: QPSK")
    reach = 3.2
    constellation.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="I", ylabel="Q")
    constellation.set_title(f"constellation of the last frame, {report['sync']['snr_db']:.1f} dB per symbol")
    constellation.legend(loc="upper right", fontsize="small")

    rate = report["radio"]["rate_hz"]
    gain = np.abs(frame.channel.h_hat) ** 2
    channel.plot(fmt.subcarriers * rate / fmt.fft_size / 1e3, db(gain / np.mean(gain)))
    channel.set(xlabel="subcarrier (kHz)", ylabel="gain over mean (dB)")
    channel.set_title(
        f"channel; CFO {report['sync']['cfo_hz'] / 1e3:+.2f} kHz, clock {report['sync']['sco_ppm']:+.1f} ppm"
    )

    names = [layer["name"] for layer in report["layers"]]
    errors = [layer["nmse_db"] for layer in report["layers"]]
    known = all(value is not None for value in errors)
    layers.barh(names, errors if known else [0] * len(names), color="tab:green")
    layers.invert_yaxis()
    layers.set(
        xlabel="weight NMSE (dB)", title="error of each layer" if known else "error of each layer: needs --truth"
    )
    for i, layer in enumerate(report["layers"]):
        layers.annotate(
            f" ×{layer['copies']}, {layer['power_db']:+.2f} dB", (0, i), fontsize="small", va="center", ha="left"
        )
    layers.margins(x=0.25)

    bars = {"sent": report["accuracy_sent"], "received": report["accuracy"]}
    shown = {name: 100 * value for name, value in bars.items() if value is not None}
    drawn = accuracy.bar(list(shown), list(shown.values()), color=["tab:gray", "tab:blue"][: len(shown)], width=0.5)
    accuracy.bar_label(drawn, fmt="%.2f %%")
    accuracy.set(ylim=(0, 105), ylabel="top-1 accuracy (%)", title=f"{report['model']}: accuracy")
    frames = report["frames"]
    figure.suptitle(f"{frames['received']} of {frames['expected']} frames, {frames['cycles']} cycle(s)")
    picture = io.BytesIO()
    figure.savefig(picture, dpi=110, format="png")
    write_whole(Path(path), picture.getvalue())


def _equalised(statistic, information):
    heard = information > 0
    return statistic[heard] / information[heard]


def _errors(w_hat, w) -> np.ndarray:
    """Squared error and power of one tensor, centred and normalised to unit power first; a constant tensor has none."""
    w = w.astype(np.float64)
    power = np.mean((w - w.mean()) ** 2)
    return np.array([0.0, 0.0]) if power == 0 else np.array([np.sum((w_hat - w) ** 2) / power, w.size])


def _nmse_db(error_and_power) -> float | None:
    error, power = error_and_power
    return None if power == 0 else _plain(max(db(error / power), -200.0))


def _plain(value) -> float | None:
    return float(value) if np.isfinite(value) else None
