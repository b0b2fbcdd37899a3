"""Compare reports: a table of what differs, and a picture: `python rx/compare.py A.json B.json --picture P.png`.

Accuracy or metrics, and the error of the weights, are always in the table; of everything else, options and results of
the whole reports, only what differs. Times, dates and the outputs' names are left out.
"""

import json
import os
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")

from rich.console import Console
from rich.table import Table

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.files import check_outputs
from airnet_sdr.rx.drawing import NEUTRAL, PALETTE, line_style, picture_format, save_figure

ALWAYS = ("accuracy", "accuracy_sent", "metrics", "metrics_sent", "weights.nmse_db")
NEVER = (
    "timing", "layers", "schema", "radio.versions", "radio.lost_samples", "run.date", "run.command",
    "run.options.report", "run.options.picture", "run.options.save",
)  # fmt: skip
MOST_REPORTS = 12
MOST_BYTES = 64 << 20  # of a report
MOST_CHARACTERS = 60  # of a cell
ROW_HEIGHT = 0.2  # inches


def load_report(path: str | os.PathLike) -> dict:
    """A receiver's report. InputError if the file is none."""
    try:
        if os.path.getsize(path) > MOST_BYTES:
            raise InputError(f"{path} has more than {MOST_BYTES >> 20} MiB and is no report")
        report = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({type(error).__name__}); give a report written by --report") from error
    wanted = {"schema": int, "model": str, "weights": dict, "layers": list, "sync": dict}
    if not isinstance(report, dict) or not all(isinstance(report.get(key), kind) for key, kind in wanted.items()):
        raise InputError(f"{path} is no receiver's report; it must have {', '.join(wanted)}")
    for layer in report["layers"]:
        if not isinstance(layer, dict) or not isinstance(layer.get("name"), str):
            raise InputError(f"{path} is no receiver's report: a layer has no name")
    return report


def flattened(value, name: str = "") -> dict[str, object]:
    """The leaves of nested dicts by their dotted names, without those of `NEVER`; lists are leaves."""
    if name in NEVER:
        return {}
    if not isinstance(value, dict):
        return {name: value}
    found: dict[str, object] = {}
    for key, each in value.items():
        found |= flattened(each, f"{name}.{key}" if name else str(key))
    return found


def differences(reports: list[dict]) -> dict[str, list]:
    """By the dotted name of a field, its value in each report (None: missing): results always, the rest if different.

    >>> differences([{"accuracy": 0.9, "scheme": "analog"}, {"accuracy": 0.8, "scheme": "analog"}])
    {'accuracy': [0.9, 0.8]}
    """
    flat = [flattened(report) for report in reports]
    names = list(dict.fromkeys(name for each in flat for name in each))
    rows = {name: [each.get(name) for each in flat] for name in names}
    first = [n for n in rows if n.startswith(ALWAYS) and any(value is not None for value in rows[n])]
    rest = [n for n in rows if n not in first and any(value != rows[n][0] for value in rows[n])]
    return {name: rows[name] for name in [*first, *rest]}


def labels_of(paths: list[str]) -> list[str]:
    """Short names of files that tell them apart."""
    for parts in (1, 2, 3):
        labels = ["/".join(Path(path).with_suffix("").parts[-parts:]) for path in paths]
        if len(set(labels)) == len(paths):
            return labels
    return [str(path) for path in paths]


def table_of(rows: dict[str, list], labels: list[str]) -> Table:
    """The differences as a table, a column for each report."""
    table = Table(title="what differs, accuracy and errors first")
    for label in ("", *labels):
        table.add_column(label, overflow="fold")
    for name, values in rows.items():
        table.add_row(name, *map(_cell, values))
    return table


def _cell(value) -> str:
    text = "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"


def scores_of(reports: list[dict]) -> tuple[str, list[tuple[float | None, float | None]]]:
    """The headline that the reports share, and its value as sent and as received in each: accuracy in percent, or the
    first metric of the user's own."""
    name = next((name for report in reports for name in report.get("metrics") or {}), None)
    if name is None:
        pairs = [(report.get("accuracy_sent"), report.get("accuracy")) for report in reports]
        return "top-1 accuracy (%)", [tuple(None if each is None else 100 * each for each in pair) for pair in pairs]
    return name, [tuple((report.get(key) or {}).get(name) for key in ("metrics_sent", "metrics")) for report in reports]


def draw(path: str | os.PathLike, reports: list[dict], labels: list[str]) -> None:
    """Headline as sent and as received, and the error of each layer: one row, one line for each report."""
    from matplotlib.figure import Figure  # half a second to import

    from airnet_sdr.rx.picture import channel_of, layer_rows

    rows = [{row["name"]: row["nmse_db"] for row in layer_rows(report["layers"])} for report in reports]
    names = list(dict.fromkeys(name for row in rows for name in row))
    heights = (1 + 0.45 * len(reports), max(2.0, ROW_HEIGHT * len(names)))
    figure = Figure(figsize=(10, 1.6 + sum(heights)), layout="constrained")
    scores, layers = figure.subplots(2, 1, height_ratios=heights)
    _draw_scores(scores, reports, labels)
    for index, (row, label) in enumerate(zip(rows, labels, strict=True)):
        known = [(row[name], place) for place, name in enumerate(names) if row.get(name) is not None]
        layers.plot(*zip(*known, strict=True) if known else ((), ()), **line_style(index, len(rows)), label=label)
    size = "small" if len(names) <= 30 else "x-small"
    layers.set_yticks(range(len(names)), names, fontsize=size, parse_math=False)
    layers.set(ylim=(len(names) - 0.4, -0.6), xlabel="weight NMSE (dB); layers without known error have no mark")
    layers.grid(alpha=0.3)
    figure.legend(*layers.get_legend_handles_labels(), loc="outside lower center", ncols=min(3, len(labels)))
    models = " and ".join(dict.fromkeys(report["model"] for report in reports))
    channels = dict.fromkeys(map(channel_of, reports))
    air = next(iter(channels)) if len(channels) == 1 else f"{len(channels)} channels"
    figure.suptitle(f"{models}, over {air}", parse_math=False)
    save_figure(figure, path)


def _draw_scores(axes, reports: list[dict], labels: list[str]) -> None:
    headline, pairs = scores_of(reports)
    for place, (sent, received) in enumerate(pairs):
        if received is not None:
            axes.barh(place, received, height=0.55, color=PALETTE[place % len(PALETTE)])
        if sent is not None:
            axes.plot([sent, sent], [place - 0.4, place + 0.4], color=NEUTRAL, lw=2, zorder=3)
    scores = [_score(report, headline, received) for report, (_, received) in zip(reports, pairs, strict=True)]
    shown = [f"{label}: {score}" for label, score in zip(labels, scores, strict=True)]
    axes.set_yticks(range(len(labels)), shown, fontsize="small", parse_math=False)
    axes.set(ylim=(len(labels) - 0.4, -0.6), xlabel=f"{headline} as received; grey line: as sent")
    if headline.endswith("(%)"):
        axes.set_xlim(0, 100)


def _score(report: dict, headline: str, received: float | None) -> str:
    """The headline as received, or why there is none."""
    if received is not None:
        return _cell(received)
    evaluated = report.get("accuracy") is not None or report.get("metrics")
    return f"has no {headline}" if evaluated else "not evaluated"


def compare(paths: list[str], picture: str | None) -> None:
    """Print the table and draw the picture."""
    if not 2 <= len(paths) <= MOST_REPORTS:  # noqa: PLR2004
        raise InputError(f"give 2 to {MOST_REPORTS} reports; got {len(paths)}")
    check_outputs([picture], paths)
    if picture is not None:
        picture_format(picture)
    reports, labels = [load_report(path) for path in paths], labels_of(paths)
    Console(highlight=False, markup=False).print(table_of(differences(reports), labels))
    if picture is not None:
        draw(picture, reports, labels)


def main(argv=None) -> int:
    """Parse and compare."""
    parser = CommandParser(prog="compare", description=__doc__)
    parser.add_argument("reports", nargs="+", metavar="R.json", help="reports of the receiver")
    parser.add_argument("--picture", metavar="P.png", help="also draw them, as PNG, PDF or SVG by the suffix")
    options = parser.options(argv)
    return run_command(parser, lambda: compare(options["reports"], options["picture"]))


if __name__ == "__main__":
    sys.exit(main())
