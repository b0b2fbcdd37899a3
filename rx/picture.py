"""The report as a picture: constellation, channel, error of each layer, accuracy or metrics sent and received."""

import os

import numpy as np
from matplotlib.figure import Figure

from airnet_sdr.dsp.units import db
from airnet_sdr.rx.combine import BurstCombiner
from airnet_sdr.rx.drawing import NEUTRAL, PALETTE, save_figure
from airnet_sdr.rx.report import formatted, level_of

MOST_ROWS = 80  # of the layers' panel; beyond, tensors of one part of the network share a row
ROW_HEIGHT = 0.155  # inches, enough for a line of small print
MOST_POINTS = 4000  # of the constellation
MOST_METRICS = 8
UNITS = {"db": "dB", "dbc": "dBc", "hz": "Hz", "ppm": "ppm", "deg": "°", "samples": "samples"}


def draw(path: str | os.PathLike, report: dict, burst: BurstCombiner) -> None:
    """Draw the report of one burst. InputError for a suffix that is no format of a picture."""
    rows = layer_rows(report["layers"])
    height = max(8.5, 1.6 + ROW_HEIGHT * len(rows))
    figure = Figure(figsize=(12, height), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.25))  # type: ignore[misc] # an array of two
    constellation, channel, quality = left.subplots(3, 1, height_ratios=(1.45, 0.8, 0.75))
    draw_constellation(constellation, report, burst)
    draw_channel(channel, report, burst)
    draw_quality(quality, report)
    draw_layers(right.subplots(), rows)
    figure.suptitle(title_of(report), parse_math=False)
    save_figure(figure, path)


def title_of(report: dict) -> str:
    """Network, scheme, channel and frames, in two lines."""
    frames = report["frames"]
    return (
        f"{report['model']}, {report['scheme']}, over {channel_of(report)}\n"
        f"{frames['received']} of {frames['expected']} frames, {frames['cycles']} cycle(s)"
    )


def channel_of(report: dict) -> str:
    """The air in a few words: the simulated one's impairments where the report has them, otherwise the radio."""
    channel = (report.get("run") or {}).get("channel")
    if channel is None:
        return str(report["radio"]["address"])
    shown = [_with_unit(name, value) for name, value in channel.items()]
    words = ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "")
    return f"simulated air: {words}" if words else "simulated air without impairments"


def layer_rows(layers: list[dict], most: int = MOST_ROWS) -> list[dict]:
    """The layers of a report as at most ``most`` rows where names allow it.

    Tensors whose names begin with the same parts, as `blocks.3.`, are put together: their weights are added, their
    errors averaged by the number of weights, and their copies and powers given as a range.
    """
    rows = [{**layer, "copies": (layer["copies"],) * 2, "power_db": (layer["power_db"],) * 2} for layer in layers]
    parts = max((layer["name"].count(".") for layer in layers), default=0)
    while len(rows) > most and parts > 0:
        groups: dict[str, list[dict]] = {}
        for row in rows:
            groups.setdefault(".".join(row["name"].split(".")[:parts]), []).append(row)
        rows = [_together(name, group) if len(group) > 1 else group[0] for name, group in groups.items()]
        parts -= 1
    return rows


def _together(name: str, rows: list[dict]) -> dict:
    known = [row for row in rows if row["nmse_db"] is not None]
    weights = [row["numel"] for row in known]
    error = np.average([10 ** (row["nmse_db"] / 10) for row in known], weights=weights) if known else None
    return {
        "name": name,
        "numel": sum(row["numel"] for row in rows),
        "copies": _range(row["copies"] for row in rows),
        "power_db": _range(row["power_db"] for row in rows),
        "nmse_db": None if error is None else float(db(error)),
    }


def _range(pairs) -> tuple[float, float]:
    lows, highs = zip(*pairs, strict=True)
    return min(lows), max(highs)


def draw_constellation(axes, report: dict, burst: BurstCombiner) -> None:
    """Equalised symbols of the last frame, payload and control."""
    frame = burst.latest
    for symbols, size, colour, alpha, label in (
        (frame.equalised[:MOST_POINTS], 1.5, PALETTE[0], 0.5, f"payload: weights, {report['scheme']}"),
        (frame.equalised_control, 3, PALETTE[1], 1, "control: QPSK"),
    ):
        axes.plot(symbols.real, symbols.imag, ".", ms=size, color=colour, alpha=alpha, label=label, rasterized=True)
    reach = 3.2
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="I", ylabel="Q")
    axes.set_title(f"last frame, {level_of(report['sync'])}", fontsize="medium")
    axes.legend(loc="upper right", fontsize="x-small", markerscale=3)


def draw_channel(axes, report: dict, burst: BurstCombiner) -> None:
    """Gain of the estimated channel over the band."""
    frame, fmt, sync = burst.latest, burst.fmt, report["sync"]
    gain = np.abs(frame.channel.h_hat) ** 2
    frequency = fmt.subcarriers * report["radio"]["rate_hz"] / fmt.fft_size / 1e3
    axes.plot(frequency, db(gain / np.mean(gain)), color=PALETTE[0], lw=1)
    low, high = axes.get_ylim()
    middle, reach = (low + high) / 2, max(high - low, 6) / 2  # a flat channel looks flat
    axes.set(xlabel="subcarrier (kHz)", ylabel="gain over mean (dB)", ylim=(middle - reach, middle + reach))
    cfo_khz = None if sync["cfo_hz"] is None else sync["cfo_hz"] / 1e3
    text = f"channel; CFO {formatted(cfo_khz, '+.2f')} kHz, clock {formatted(sync['sco_ppm'], '+.1f')} ppm"
    axes.set_title(text, fontsize="medium")
    axes.grid(alpha=0.3)


def draw_quality(axes, report: dict) -> None:
    """Accuracy as bars of 0 to 100 %, or the metrics of the user's own `evaluate` as a table."""
    metrics, sent = report.get("metrics"), report.get("metrics_sent") or {}
    if metrics:
        axes.axis("off")
        shown = [
            [name, _number(sent.get(name)), _number(value)] for name, value in list(metrics.items())[:MOST_METRICS]
        ]
        axes.table(shown, colLabels=["metric", "sent", "received"], loc="center", cellLoc="right")
        axes.set_title("as sent and as received", fontsize="medium")
        return
    bars = {"received": report["accuracy"], "sent": report["accuracy_sent"]}
    known = {name: 100 * value for name, value in bars.items() if value is not None}
    colours = {"sent": NEUTRAL, "received": PALETTE[0]}
    drawn = axes.barh(list(known), list(known.values()), color=[colours[name] for name in known], height=0.55)
    for bar, value in zip(drawn, known.values(), strict=True):  # inside a long bar, beside a short one
        inside = value > 50
        axes.annotate(
            f"{value:.2f} %", (value, bar.get_y() + bar.get_height() / 2), (-6 if inside else 6, 0),
            textcoords="offset points", va="center", ha="right" if inside else "left",
            color="white" if inside else "black",
        )  # fmt: skip
    axes.set(xlim=(0, 100), xlabel="top-1 accuracy (%)")
    axes.set_title("accuracy" if known else "not evaluated", fontsize="medium")


def draw_layers(axes, rows: list[dict]) -> None:
    """Error of each layer against the truth where it is known; copies and power at the right edge."""
    errors = [row["nmse_db"] for row in rows]
    known = [value for value in errors if value is not None]
    places = np.arange(len(rows))
    size = "small" if len(rows) <= 30 else "x-small" if len(rows) <= 60 else "xx-small"
    axes.barh(places, [0 if value is None else value for value in errors], color=PALETTE[2], height=0.7)
    axes.set_yticks(places, [row["name"] for row in rows], fontsize=size, parse_math=False)
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel="weight NMSE (dB)")
    axes.set_xlim(min([*known, -1]) * 1.05, max([*known, 0]) * 1.05 or 0)
    if known:
        for place in (i for i, value in enumerate(errors) if value is None):
            axes.annotate(
                "no error: constant ",
                (axes.get_xlim()[1], place),
                fontsize=size,
                va="center",
                ha="right",
                color=NEUTRAL,
            )
    axes.set_title("error of each layer" if known else "error of each layer: needs --truth", fontsize="medium")
    plans = axes.secondary_yaxis("right")
    plans.set_yticks(places, [_plan(row) for row in rows], fontsize=size)
    plans.set_ylabel("copies, power", fontsize=size)
    plans.tick_params(length=0)
    axes.grid(alpha=0.3, axis="x")
    axes.set_axisbelow(True)


def _plan(row: dict) -> str:
    copies, power = row["copies"], row["power_db"]
    times = f"×{copies[0]}" if copies[0] == copies[1] else f"×{copies[0]} to {copies[1]}"
    level = f"{power[0]:+.2f}" if power[0] == power[1] else f"{power[0]:+.1f} to {power[1]:+.1f}"
    return f"{times}, {level} dB"


def _with_unit(name: str, value) -> str:
    """A field of a channel, whose name ends in its unit: `cfo_hz` and 500 as "cfo 500 Hz"."""
    if isinstance(value, (list, tuple)):
        return f"{len(value)} {name}"
    what, _, unit = name.rpartition("_")
    what, unit = (what.replace("_", " "), UNITS[unit]) if unit in UNITS else (name, "")
    return f"{what} {value:g} {unit}".strip() if _is_number(value) else f"{what} {value}"


def _number(value) -> str:
    return "" if value is None else f"{value:.5g}"


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
