"""Tables, sentences and figures of the comparison, from its means and curves."""

from pathlib import Path

import numpy as np

from airnet_sdr.sim.experiments.broadcast.laws import KNOWN, LAWS, SNR_DB

NAMES = {"fashion-mnist": "Fashion-MNIST", "cifar10-jpeg": "CIFAR-10 (JPEG)"}
LAW_NAMES = {
    "uniform": "uniform, −5 to 20 dB",
    "rayleigh10": "Rayleigh, mean 10 dB",
    "rayleigh15": "Rayleigh, mean 15 dB",
}
NUMBERS = ("mean", "p05", "worst")
CURVE_DB = SNR_DB[::4]  # of the stored curves
DRAWN_DB = (-15.0, 25.0)


def leads(rows: list[dict]) -> dict[tuple[str, str], dict]:
    """By data set and law: the best entrants with and without an analog part, and the difference of each number."""
    found = {}
    for dataset, law in dict.fromkeys((row["dataset"], row["law"]) for row in rows):
        of = [row for row in rows if (row["dataset"], row["law"]) == (dataset, law)]
        best = [
            max((row for row in of if row["analog"] == kind), key=lambda row: row["mean"]) for kind in (True, False)
        ]
        found[dataset, law] = {
            "analog": best[0]["entrant"],
            "digital": best[1]["entrant"],
            **{name: round(best[0][name] - best[1][name], 2) for name in NUMBERS},
        }
    return found


def lead_table(rows: list[dict]) -> list[str]:
    """Markdown lines: the best transmission with an analog part less the best without, points."""
    lines = ["| data set | law | with analog | without | mean | 5 % quantile | worst |", "|---" * 7 + "|"]
    for (dataset, law), lead in leads(rows).items():
        numbers = " | ".join(f"{lead[name]:+.1f}".replace("-", "−") for name in NUMBERS[1:])
        mean = f"{lead['mean']:+.2f}".replace("-", "−")
        names = f"{NAMES[dataset]} | {LAW_NAMES[law]} | {lead['analog']} | {lead['digital']}"
        lines.append(f"| {names} | {mean} | {numbers} |")
    return lines


def table(rows: list[dict], dataset: str) -> list[str]:
    """Markdown lines: a row for each entrant, mean, 5 % quantile and worst case under each law, percent."""
    lines = ["| | " + " | ".join(LAW_NAMES[law] for law in LAWS) + " |", "|---" * (1 + len(LAWS)) + "|"]
    for entrant in dict.fromkeys(row["entrant"] for row in rows if row["dataset"] == dataset):
        cells = []
        for law in LAWS:
            (row,) = [r for r in rows if (r["dataset"], r["law"], r["entrant"]) == (dataset, law, entrant)]
            cells.append(f"{row['mean']:.2f} ({row['p05']:.1f}, {row['worst']:.1f})")
        lines.append(f"| {entrant} | " + " | ".join(cells) + " |")
    return lines


def known_table(rows: list[dict], dataset: str) -> list[str]:
    """Markdown lines: a row for each entrant, its mean accuracy at each SNR that is known when it is planned."""
    heads = [f"{snr_db:g} dB".replace("-", "−") for snr_db in KNOWN]
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (1 + len(KNOWN)) + "|"]
    for entrant in dict.fromkeys(row["entrant"] for row in rows if row["dataset"] == dataset):
        means = {r["law"]: r["mean"] for r in rows if (r["dataset"], r["entrant"]) == (dataset, entrant)}
        lines.append(f"| {entrant} | " + " | ".join(f"{means[law.name]:.2f}" for law in KNOWN.values()) + " |")
    return lines


def draw(path: Path, rows: list[dict], dataset: str, law: str) -> None:
    """Accuracy against the receiver's SNR of the best entrants with and without analog, and of single ones."""
    from matplotlib.figure import Figure  # half a second to import

    of = [row for row in rows if (row["dataset"], row["law"]) == (dataset, law)]
    means = {entrant: np.mean([row["mean"] for row in of if row["entrant"] == entrant])
             for entrant in dict.fromkeys(row["entrant"] for row in of)}  # fmt: skip
    analog = {row["entrant"]: row["analog"] for row in of}
    best = [max((name for name in means if analog[name] == kind), key=means.__getitem__) for kind in (True, False)]
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    styles = {
        best[0]: ("tab:blue", "-"),
        best[1]: ("tab:red", "-"),
        "analog": ("tab:blue", ":"),
        "digital": ("tab:red", ":"),
    }
    inside = (CURVE_DB >= DRAWN_DB[0]) & (CURVE_DB <= DRAWN_DB[1])
    for name, (color, style) in styles.items():
        curve = np.mean([row["curve"] for row in of if row["entrant"] == name], axis=0)
        label = f"{name}: mean {means[name]:.1f} %"
        axes.plot(CURVE_DB[inside], curve[inside], style, color=color, lw=1.5, label=label)
    axes.set(
        xlabel="the receiver's SNR per payload symbol, dB",
        ylabel="top-1, %",
    )
    axes.set_title(f"{NAMES[dataset]}: one transmission, planned for {LAW_NAMES[law]}; simulated", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)


def headline(rows: list[dict], floored: list[dict]) -> str:
    """The leads under Rayleigh fading of mean 10 dB and the uniform law in a sentence, the first with a floor, too."""
    found, above = leads(rows), leads(floored)

    def points(dataset, law, of=found):
        return f"{of[dataset, law]['mean']:+.2f}".replace("-", "−")

    fashion, cifar = NAMES
    return (
        f"in Rayleigh fading of mean 10 dB by {points(fashion, 'rayleigh10')} points on {NAMES[fashion]} and "
        f"{points(cifar, 'rayleigh10')} on {NAMES[cifar]}, {points(fashion, 'rayleigh10', above)} and "
        f"{points(cifar, 'rayleigh10', above)} if frames end at −7 dB; if all SNRs from −5 to 20 dB are equally "
        f"likely, by {points(fashion, 'uniform')} and {points(cifar, 'uniform')}"
    )
