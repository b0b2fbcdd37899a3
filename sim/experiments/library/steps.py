"""The steps of an attenuation sweep: means of trials and comparison with theory, as files, table and figure."""

import csv
import io
import json
from pathlib import Path

import numpy as np
from rich.table import Table

from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.dsp.host.machine import machine
from airnet_sdr.dsp.theory import lmmse_nmse
from airnet_sdr.dsp.units import db, linear
from airnet_sdr.rx.drawing import NEUTRAL, PALETTE, save_figure

MEASURED = ("snr_db", "nmse_db", "theory_db", "accuracy", "gain_db", "cfo_hz")


def theory_nmse(layers: list[dict], snr_db: float, counts: list[int]) -> float:
    """NMSE over all weights of linear MMSE, symbols arriving at snr_db, frame i received counts[i] times.

    A tensor of p times the mean power, sent once, has mean_i 1/(1 + n_i·p·S), as its symbols are spread over all
    frames; one sent k times, its copies in different frames, 1/(1 + k·n·p·S) with the mean n.
    """
    error = 0.0
    for layer in layers:
        snr = linear(snr_db + layer["power_db"])
        times = np.array(counts) if layer["copies"] == 1 else layer["copies"] * np.mean(counts)
        error += layer["numel"] * float(np.mean(lmmse_nmse(snr, times)))
    return error / sum(layer["numel"] for layer in layers)


def summarise_steps(trials: list[dict]) -> list[dict]:
    """Of each step: numbers of trials and receptions, mean and deviation of measurements, comparison with theory."""
    steps = []
    for attenuation_db in sorted({row["attenuation_db"] for row in trials}):
        rows = [row for row in trials if row["attenuation_db"] == attenuation_db]
        step = {
            "attenuation_db": attenuation_db,
            "trials": len(rows),
            "received": sum("error" not in row for row in rows),
            "frames_lost": sum(row.get("frames_lost", 0) for row in rows),
        }
        for name in MEASURED:
            values = [row[name] for row in rows if row.get(name) is not None]
            step[name] = float(np.mean(values)) if values else None
            step[f"{name}_deviation"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
        known = step["nmse_db"] is not None and step["theory_db"] is not None
        step["over_theory_db"] = step["nmse_db"] - step["theory_db"] if known else None
        steps.append(step)
    best = max((s["snr_db"] + s["attenuation_db"] for s in steps if s["snr_db"] is not None), default=None)
    for step in steps:
        step["short_db"] = None if step["snr_db"] is None else best - step["snr_db"] - step["attenuation_db"]
    return steps


def steps_table(steps: list[dict]) -> Table:
    """One line a step."""
    shown = Table(
        title="over boards: mean ± deviation of each step; SNR per payload symbol, as the receiver measured it"
    )
    for name in ("attenuation", "gain", "SNR", "short", "NMSE", "theory", "accuracy", "received", "frames lost"):
        shown.add_column(name, justify="right")
    for s in steps:
        shown.add_row(
            f"{s['attenuation_db']:g} dB",
            _shown(s, "gain_db", "dB", digits=0),
            _shown(s, "snr_db", "dB"),
            "" if s["short_db"] is None else f"{s['short_db']:.2f} dB",
            _shown(s, "nmse_db", "dB"),
            "" if s["theory_db"] is None else f"{s['theory_db']:.2f} dB",
            _shown(s, "accuracy", "%", 100),
            f"{s['received']} of {s['trials']}",
            str(s["frames_lost"]),
        )
    return shown


def _shown(step, name, unit, factor=1, digits=2):
    value, deviation = step[name], step[f"{name}_deviation"]
    if value is None:
        return ""
    spread = "" if deviation is None else f" ± {factor * deviation:.{digits}f}"
    return f"{factor * value:.{digits}f}{spread} {unit}"


def draw_steps(path: Path, steps: list[dict], accuracy_sent: float | None, title: str) -> None:
    """Error of the weights and accuracy against the measured SNR."""
    from matplotlib.figure import Figure  # half a second to import

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    error, accuracy = figure.subplots(1, 2)
    shown = [s for s in steps if s["snr_db"] is not None]
    snr_db = np.array([s["snr_db"] for s in shown])
    spread = [s["snr_db_deviation"] or 0 for s in shown]
    for axes, name, factor in ((error, "nmse_db", 1), (accuracy, "accuracy", 100)):
        known = [i for i, s in enumerate(shown) if s[name] is not None]
        values = [factor * shown[i][name] for i in known]
        deviations = [factor * (shown[i][f"{name}_deviation"] or 0) for i in known]
        axes.errorbar(
            snr_db[known], values, deviations, [spread[i] for i in known], fmt="o", ms=4, capsize=3, color=PALETTE[0],
            label="measured",
        )  # fmt: skip
    if shown:
        grid = np.linspace(snr_db.min(), snr_db.max(), 200)
        error.plot(grid, db(lmmse_nmse(linear(grid))), lw=1, color=NEUTRAL, label="1/(1 + S)")
    rows = [s for s in shown if s["theory_db"] is not None]
    label = "theory, as often as frames were received"
    error.plot([s["snr_db"] for s in rows], [s["theory_db"] for s in rows], "x", color="black", label=label)
    if accuracy_sent is not None:
        accuracy.axhline(100 * accuracy_sent, ls="--", lw=1, color=NEUTRAL, label="as sent")
    error.set(xlabel="SNR per payload symbol, dB", ylabel="weight NMSE, dB")
    accuracy.set(xlabel="SNR per payload symbol, dB", ylabel="top-1, %")
    for axes in (error, accuracy):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    save_figure(figure, path)


def write_steps(out: Path, command: str, trials: list[dict], boards: dict, complete: bool) -> list[dict]:
    """Write the files; returns the steps' means."""
    steps = summarise_steps(trials)
    content = {
        "command": command,
        "complete": complete,
        "machine": machine(),
        "boards": boards,
        "steps": steps,
        "trials": trials,
    }
    write_whole(out / "attenuation.json", (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    text = io.StringIO()
    columns = dict.fromkeys(name for row in trials for name in row)
    writer = csv.DictWriter(text, list(columns))
    writer.writeheader()
    writer.writerows({**row, "warnings": "; ".join(row.get("warnings", []))} for row in trials)
    write_whole(out / "attenuation.csv", text.getvalue().encode())
    sent = next((row["accuracy_sent"] for row in trials if row.get("accuracy_sent") is not None), None)
    names = sorted({board["device"] for board in boards.values()})
    draw_steps(out / "attenuation.png", steps, sent, ", ".join(names))
    return steps
