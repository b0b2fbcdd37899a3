"""The receiver's report: frames, errors, accuracy and channel uses, as JSON and as text."""

import dataclasses
import json
from pathlib import Path

import numpy as np

from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat, Header, frame_samples
from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.dsp.host.machine import versions
from airnet_sdr.dsp.units import db
from airnet_sdr.models.manifest import Manifest
from airnet_sdr.models.packing import TensorSpec
from airnet_sdr.models.payload import ReceivedWeights
from airnet_sdr.rx.combine import BurstCombiner

SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class Rebuilt:
    """A rebuilt burst: `specs` of the network's tensors, their estimated weights, and the true weights `truth`, if
    known, a vector (numel,) float32 per tensor."""

    burst: BurstCombiner
    manifest: Manifest
    specs: list[TensorSpec]
    weights: ReceivedWeights
    truth: list[np.ndarray] | None = None


def make_report(rebuilt: Rebuilt, accuracy: float | None, radio: dict, timing: dict, warnings: list[str]) -> dict:
    """Make the report of one burst, of plain numbers, None if missing. `docs/reference.md` has the fields."""
    burst, manifest, specs, weights = rebuilt.burst, rebuilt.manifest, rebuilt.specs, rebuilt.weights
    card, plans, truth = manifest.card, weights.part.tensor_plans(len(specs)), rebuilt.truth
    snr, cfo, sco = burst.sync
    errors = None if truth is None else [_errors(w_hat, w) for w_hat, w in zip(weights.vectors, truth, strict=True)]
    numels = np.array([spec.numel for spec in specs])
    known = None not in weights.expected_nmse
    expected = float(np.average(weights.expected_nmse, weights=numels)) if known else 1.0
    lost = burst.header.num_frames - len(burst.receptions)
    warnings = list(warnings)
    if lost:
        warnings.append(f"{lost} of {burst.header.num_frames} frames were never received; their weights are erased")
    if burst.erased_symbols:
        warnings.append(f"{burst.erased_symbols} OFDM symbols of received frames were unusable")
    return {
        "schema": SCHEMA,
        "model": card.architecture,
        "widths": list(card.widths) or None,
        "scheme": manifest.scheme,
        "part": weights.part.kind,
        "accuracy": accuracy,
        "accuracy_sent": card.accuracy,
        "frames": {
            "expected": burst.header.num_frames,
            "received": len(burst.receptions),
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
            for i, (spec, plan) in enumerate(zip(specs, plans, strict=True))
        ],
        "channel_uses": channel_uses(burst.header, manifest, specs, burst.fmt),
        "radio": {**radio, "versions": versions()},
        "timing": timing,
        "warnings": warnings,
    }


def channel_uses(
    header: Header, manifest: Manifest, specs: list[TensorSpec], fmt: FrameFormat = DEFAULT_FORMAT
) -> dict[str, int]:
    """Channel uses of one cycle: samples (total) and subcarriers of OFDM symbols (the rest)."""
    frames = header.num_frames
    return {
        "total": frames * frame_samples(header, fmt),
        "payload": manifest.num_symbols([spec.numel for spec in specs]),
        "pilot": frames * header.num_symbols * fmt.num_pilots,
        "preamble": frames * fmt.num_active,
        "control": frames * (fmt.header_symbols + header.num_chunk_steps * fmt.chunk_step),
    }


def write_json(path: str | Path, report: dict) -> None:
    """Write the report, whole or not at all."""
    write_whole(Path(path), (json.dumps(report, indent=2, allow_nan=False) + "\n").encode())


def summary(report: dict) -> str:
    """The report as a few lines of text."""
    frames, sync, weights = report["frames"], report["sync"], report["weights"]
    sent, got = report["accuracy_sent"], report["accuracy"]
    lines = [
        f"{report['model']}: {frames['received']} of {frames['expected']} frames, {frames['cycles']} cycle(s), "
        f"{sync['snr_db']:.1f} dB per symbol, CFO {sync['cfo_hz']:+.0f} Hz, clock {sync['sco_ppm']:+.1f} ppm",
    ]
    if report["part"] == "digital":
        lines.append("weights: digital, all arrived")
    else:
        arrived = weights["snr_db"] is not None
        lines.append(f"weights at {weights['snr_db']:.1f} dB" if arrived else "weights: nothing arrived")
    if weights["nmse_db"] is not None:
        lines[-1] += f", true NMSE {weights['nmse_db']:.2f} dB"
    if got is not None:
        lines.append(f"accuracy {100 * got:.2f} %" + ("" if sent is None else f", sent with {100 * sent:.2f} %"))
    return "\n".join(lines + [f"warning: {text}" for text in report["warnings"]])


def _errors(w_hat, w) -> np.ndarray:
    """Squared error and power of one tensor, centred and normalised to unit power first; 0 for a constant tensor."""
    w = w.astype(np.float64)
    power = np.mean((w - w.mean()) ** 2)
    return np.array([0.0, 0.0]) if power == 0 else np.array([np.sum((w_hat - w) ** 2) / power, w.size])


def _nmse_db(error_and_power) -> float | None:
    error, power = error_and_power
    return None if power == 0 else _plain(max(db(error / power), -200.0))


def _plain(value) -> float | None:
    return float(value) if np.isfinite(value) else None
