"""The receiver's report: frames, errors, accuracy and channel uses, as JSON and as text."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping

import numpy as np

from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat, Header, control_slots, frame_samples
from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.dsp.host.machine import versions
from airnet_sdr.dsp.units import db
from airnet_sdr.models.evaluate import Evaluation
from airnet_sdr.models.manifest import Manifest
from airnet_sdr.models.packing import TensorSpec
from airnet_sdr.models.payload import ReceivedWeights
from airnet_sdr.rx.combine import BurstCombiner

SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class Rebuilt:
    """A rebuilt burst: `specs` of the network's tensors, what arrived, and the `errors` of each tensor, None where the
    true weights are unknown (`true_errors`)."""

    burst: BurstCombiner
    manifest: Manifest
    specs: list[TensorSpec]
    weights: ReceivedWeights
    errors: list[np.ndarray] | None = None


def make_report(rebuilt: Rebuilt, radio: dict, timing: dict, warnings: list[str]) -> dict:
    """Make the report of one burst, of plain numbers, None if missing; it is not evaluated yet (`add_evaluation`).

    `docs/reference.md` has the fields.
    """
    burst, manifest, specs, weights = rebuilt.burst, rebuilt.manifest, rebuilt.specs, rebuilt.weights
    card, plans, errors = manifest.card, weights.part.tensor_plans([spec.numel for spec in specs]), rebuilt.errors
    snr, cfo, sco = burst.sync
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
        "burst_id": burst.header.burst_id,
        "accuracy": None,
        "accuracy_sent": card.accuracy,
        "metrics": None,
        "metrics_sent": _plain_metrics({name: float(str(np.float32(value))) for name, value in card.metrics}),
        "frames": {
            "expected": burst.header.num_frames,
            "received": len(burst.receptions),
            "lost": lost,
            "cycles": burst.cycles,
            "receptions": burst.num_received,
        },
        "sync": {
            "snr_db": plain(db(snr)),
            "cfo_hz": plain(cfo * radio["rate_hz"] / (2 * np.pi)),
            "sco_ppm": plain(1e6 * sco),
        },
        "weights": {
            "snr_db": plain(db(1 / expected - 1)) if 0 < expected < 1 else None,
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
                "nmse_expected_db": _expected_db(weights.expected_nmse[i]),
            }
            for i, (spec, plan) in enumerate(zip(specs, plans, strict=True))
        ],
        "channel_uses": channel_uses(burst.header, manifest, specs, burst.fmt),
        "radio": {**radio, "versions": versions()},
        "timing": timing,
        "warnings": warnings,
    }


def average_of(weights: ReceivedWeights) -> list[dict] | None:
    """Model, widths, kind of part and weight of each of the networks whose outputs are averaged; None for one."""
    if weights.second is None:
        return None
    return [
        {
            "model": each.card.architecture,
            "widths": list(each.card.widths) or None,
            "part": each.part.kind,
            "weight": share,
        }
        for each, share in ((weights, weights.share), (weights.second, 1 - weights.share))
    ]


def add_evaluation(report: dict, found: Evaluation) -> None:
    """Put what the evaluation found into a report."""
    report["accuracy"], report["metrics"] = found.accuracy, _plain_metrics(found.metrics)


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
        "control": frames * (control_slots(header, fmt)),
    }


def write_json(path: str | os.PathLike, report: dict) -> None:
    """Write the report, whole or not at all."""
    write_whole(path, (json.dumps(report, indent=2, allow_nan=False) + "\n").encode())


def combined_snr_db(report: dict) -> float:
    """The SNR per payload symbol after the cycles were combined, inf where there was no noise to measure."""
    snr_db, cycles = report["sync"]["snr_db"], report["frames"]["cycles"]
    return math.inf if snr_db is None else snr_db + float(db(max(cycles, 1)))


def summary(report: dict) -> str:
    """The report as a few lines of text."""
    frames, sync, weights = report["frames"], report["sync"], report["weights"]
    sent, got = report["accuracy_sent"], report["accuracy"]
    lines = [
        f"{report['model']}: {frames['received']} of {frames['expected']} frames, {frames['cycles']} cycle(s), "
        f"{level_of(sync)}, CFO {formatted(sync['cfo_hz'], '+.0f')} Hz, clock {formatted(sync['sco_ppm'], '+.1f')} ppm",
    ]
    if report["part"] == "digital":
        lines.append("weights: digital, all arrived")
    else:
        arrived = weights["snr_db"] is not None
        lines.append(f"weights at {weights['snr_db']:.1f} dB" if arrived else "weights: nothing arrived")
    if weights["nmse_db"] is not None:
        lines[-1] += f", true NMSE {weights['nmse_db']:.2f} dB"
    if report["average"]:
        both = " and ".join(f"{each['weight']:.2f} of the {each['part']} one" for each in report["average"])
        lines.append(f"answers: {both}")
    if got is not None:
        lines.append(f"accuracy {100 * got:.2f} %" + ("" if sent is None else f", sent with {100 * sent:.2f} %"))
    metrics_sent = report["metrics_sent"] or {}
    for name, value in (report["metrics"] or {}).items():
        sent = metrics_sent.get(name)
        lines.append(f"{name} {_shown(value)}" + ("" if sent is None else f", sent with {_shown(sent)}"))
    return "\n".join(lines + [f"warning: {text}" for text in report["warnings"]])


def level_of(sync: dict) -> str:
    """The SNR in a report's `sync`, which has none where the pilots of all frames contradict their preambles."""
    return "no signal" if sync["snr_db"] is None else f"{sync['snr_db']:.1f} dB per symbol"


def formatted(value: float | None, form: str) -> str:
    """A number of a report as text; "-" where it has none."""
    return "-" if value is None else format(value, form)


def plain(value) -> float | None:
    """The value as a number that JSON has; None for one that is not finite."""
    return float(value) if np.isfinite(float(value)) else None


def true_errors(vectors: list[np.ndarray], truth: list[np.ndarray] | None) -> list[np.ndarray] | None:
    """Squared error and power (2,) of each tensor, from estimated and true weights, vectors (numel,) float32."""
    return None if truth is None else [_errors(w_hat, w) for w_hat, w in zip(vectors, truth, strict=True)]


def _errors(w_hat, w) -> np.ndarray:
    """Squared error and power of one tensor, centred and normalised to unit power first; 0 for a constant tensor."""
    w = w.astype(np.float64)
    power = np.mean((w - w.mean()) ** 2)
    return np.array([0.0, 0.0]) if power == 0 else np.array([np.sum((w_hat - w) ** 2) / power, w.size])


def _nmse_db(error_and_power) -> float | None:
    error, power = error_and_power
    return None if power == 0 else plain(max(db(error / power), -200.0))


def _shown(value: float | None) -> str:
    return "not a finite number" if value is None else f"{value:.5g}"


def _plain_metrics(metrics: Mapping[str, float] | None) -> dict[str, float | None] | None:
    """Values in as few digits as tell them apart, None where not finite; None without metrics."""
    return {name: plain(str(value)) for name, value in metrics.items()} if metrics else None


def _expected_db(nmse: float | None) -> float | None:
    return None if nmse is None or nmse <= 0 else plain(db(nmse))
