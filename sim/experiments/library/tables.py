"""Means and deviations over runs, printed by SNR, for the tables of methods and of protection."""

import math

import numpy as np
from rich.console import Console
from rich.table import Table

from airnet_sdr.sim.experiments.library.judge import ACCURACY
from airnet_sdr.sim.experiments.library.networks import METHODS

DATA_NAMES = {"fashion": "Fashion-MNIST", "cifar": "CIFAR-10 (JPEG)"}  # data sets with a table
GUESSING = 0.1  # accuracy of guessing


def summarise(rows: list[dict], key: str = "accuracy") -> dict[str, dict[float, tuple[float, float, int]]]:
    """Mean, deviation and number of runs by method and SNR; a lost run counts as guessing, or as not trained."""
    table: dict = {}
    for row in rows:
        score = row.get("lost", GUESSING) if row[key] is None else row[key]
        table.setdefault(row["method"], {}).setdefault(row["snr_db"], []).append(score)
    return {
        method: {
            snr_db: (float(np.mean(scores)), float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0, len(scores))
            for snr_db, scores in by_snr.items()
        }
        for method, by_snr in table.items()
    }


def scale_of(rows: list[dict]) -> tuple[str, float]:
    """The measure's name, and the factor of its values: percent for accuracy."""
    metric = rows[0].get("metric", ACCURACY)
    return ("top-1, %", 100.0) if metric == ACCURACY else (metric, 1.0)


def print_table(rows: list[dict]) -> None:
    """Print mean ± deviation, and what the clean network has without noise."""
    console, summary = Console(), summarise(rows)
    levels = sorted({row["snr_db"] for row in rows})
    metric, scale = scale_of(rows)
    table = empty_table(f"{metric}, mean ± deviation over training and link seeds; SNR per payload symbol", levels)
    for method, by_snr in summary.items():
        cells = (f"{scale * by_snr[s][0]:.4g} ± {scale * by_snr[s][1]:.2g}" if s in by_snr else "" for s in levels)
        table.add_row(method, *cells)
    console.print(table)
    clean = {row["accuracy_sent"] for row in rows if row["method"] == METHODS[0].name} - {None}
    if clean:
        console.print(f"{metric}, of the plain network without noise: {scale * np.mean(list(clean)):.4g}")
    if "accuracy_link" in rows[0]:
        console.print(compare_link(rows, levels))


def empty_table(title: str, levels: list[float]) -> Table:
    """A column for the method, then one for each SNR."""
    table = Table(title=title)
    table.add_column("method")
    for snr_db in levels:
        table.add_column(f"{snr_db:g} dB", justify="right")
    return table


def compare_link(rows: list[dict], levels: list[float]) -> Table:
    """The whole link less equivalent noise in points: mean of the runs, which draw their noises independently, and its
    standard error."""
    table = empty_table("whole link less equivalent noise, points ± standard error", levels)
    pairs = []
    for row in rows:
        over_link = GUESSING if row["accuracy_link"] is None else row["accuracy_link"]
        pairs.append(row | {"apart": over_link - row["accuracy"]})
    for method, by_snr in summarise(pairs, "apart").items():
        cells = ((100 * mean, 100 * deviation / math.sqrt(num)) for mean, deviation, num in (by_snr[s] for s in levels))
        table.add_row(method, *(f"{mean:+.2f} ± {error:.2f}" for mean, error in cells))
    return table
