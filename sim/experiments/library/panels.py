"""Figures and tables of a grid's trials: the means of each scheme against SNR, by budget and by channel.

Means are over the trials of each training seed, then over the seeds. ± is half the 95 % interval of Student's t: for a
static channel over the seeds' means, since mostly the networks vary; in fading, whose gains vary far more, and for a
single training seed, over the trials.
"""

import textwrap
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from airnet_sdr.dsp.host.files import make_folder
from airnet_sdr.rx.drawing import line_style, save_figure
from airnet_sdr.sim.experiments.library.judge import ACCURACY
from airnet_sdr.sim.experiments.library.tables import DATA_NAMES, GUESSING

TITLE_WIDTH = 55  # characters above a panel
SCHEMES = ("analog", "hybrid", "digital", "bound")
LABELS = {
    "analog": "analog",
    "hybrid": "digital base, analog refinement",
    "digital": "digital, LDPC and QAM",
    "bound": "digital, error-free at capacity",
}


def score(row: dict) -> float:
    """Accuracy in percent, or the headline metric of the network's own; what was lost counts as not trained."""
    if row.get("metric") not in (None, ACCURACY):
        return row["score"] if row["arrived"] else row["score_lost"]
    guessing = row.get("score_lost")
    return 100 * (row["accuracy"] if row["arrived"] else GUESSING if guessing is None else guessing)


def mean_and_half_width(rows: list[dict]) -> tuple[float, float]:
    """Mean score and half the width of its 95 % interval, nan for a single trial."""
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        by_seed.setdefault(row["training_seed"], []).append(score(row))
    values = [float(np.mean(scores)) for scores in by_seed.values()]
    mean = float(np.mean(values))
    if len(values) == 1 or rows[0]["channel"] == "fading":
        values = [each for scores in by_seed.values() for each in scores]
    num = len(values)
    if num < 2:
        return mean, float("nan")
    return mean, float(student.ppf(0.975, num - 1) * np.std(values, ddof=1) / np.sqrt(num))


class Panel:
    """Means of the trials under some conditions, by scheme and channel SNR."""

    def __init__(self, rows: list[dict], **conditions):
        fitting = [
            row
            for row in rows
            if all(row[name] == value for name, value in conditions.items())
            and (row["scheme"] != "hybrid" or row["network"] is not None)  # few networks: budgets without one are gaps
        ]
        self.rows = fitting
        self.levels = sorted({row["snr_db"] for row in fitting})
        self.metric = next((row["metric"] for row in fitting if row.get("metric")), ACCURACY)
        self.schemes = [scheme for scheme in SCHEMES if any(row["scheme"] == scheme for row in fitting)]

    @property
    def is_percent(self) -> bool:
        """Whether scores are from 0 to 100."""
        return self.metric == ACCURACY or self.metric.endswith("%")

    def at(self, scheme: str, snr_db: float) -> tuple[float, float] | None:
        """Mean and half width; None without trials."""
        rows = [row for row in self.rows if row["scheme"] == scheme and row["snr_db"] == snr_db]
        return mean_and_half_width(rows) if rows else None

    def ahead(self, schemes: tuple[str, ...], snr_db: float) -> float | None:
        """Lead of the best of the schemes over digital, in points; None without trials."""
        found, digital = [self.at(scheme, snr_db) for scheme in schemes], self.at("digital", snr_db)
        means = [each[0] for each in found if each is not None]
        return max(means) - digital[0] if means and digital is not None else None

    def overall(self, scheme: str) -> float:
        """Unweighted mean over all SNRs."""
        return float(np.mean([self.at(scheme, snr_db)[0] for snr_db in self.levels if self.at(scheme, snr_db)]))

    def draw(self, axes, title: str) -> None:
        """Draw the mean of each scheme against SNR, with its interval."""
        for scheme in self.schemes:
            points = [(snr_db, *found) for snr_db in self.levels if (found := self.at(scheme, snr_db)) is not None]
            x, mean, half = np.array(points).T
            bars = np.nan_to_num([half, half])
            if self.is_percent:  # no bar below 0 or above 100 %
                bars = np.minimum(bars, [mean, 100 - mean])
            style = line_style(SCHEMES.index(scheme), len(SCHEMES))
            axes.errorbar(x, mean, bars, capsize=3, elinewidth=1, **style, label=LABELS[scheme])
        axes.set(xlabel="SNR per payload symbol, dB", title=title)
        axes.grid(alpha=0.3)

    def table(self) -> list[str]:
        """Markdown lines: a row for each scheme, a column for each SNR."""
        lines = ["| dB | " + " | ".join(f"{snr_db:g}" for snr_db in self.levels) + " |"]
        lines.append("|---" * (len(self.levels) + 1) + "|")
        for scheme in self.schemes:
            digits = 1 if self.is_percent else 4
            cells = [_cell(self.at(scheme, snr_db), digits) for snr_db in self.levels]
            lines.append(f"| {LABELS[scheme]} | " + " | ".join(cells) + " |")
        return lines


def known(rows: list[dict], arch: str) -> dict[str, Panel]:
    """Planned for the channel's SNR, by budget, largest first."""
    rows = [r for r in rows if r["arch"] == arch and r["channel"] == "static" and r["plan_snr_db"] == r["snr_db"]]
    # the mismatch's trials at the planned SNR have the largest budget, too, and add a level
    uses = sorted({row["payload_uses"] for row in rows}, reverse=True)
    return {_budget(budget, uses[0]): Panel(rows, payload_uses=budget) for budget in uses}


def mismatch(rows: list[dict], arch: str) -> dict[str, Panel]:
    """Planned for one SNR, received at others, by title."""
    rows = [row for row in rows if row["arch"] == arch]
    most = max((row["payload_uses"] for row in rows), default=0)
    found = {}
    planned = sorted({row["plan_snr_db"] for row in rows if row["channel"] == "fading"})
    for plan_snr_db in planned:
        met = {r["snr_db"] for r in rows if r["plan_snr_db"] == plan_snr_db and r["payload_uses"] == most}
        if len(met) > 1:
            for channel, name in (("static", "static"), ("fading", "slow Rayleigh fading")):
                panel = Panel(rows, payload_uses=most, plan_snr_db=plan_snr_db, channel=channel)
                found[f"planned for {plan_snr_db:g} dB, {name}"] = panel
    return found


def findings(by_budget: dict[str, Panel], by_channel: dict[str, Panel]) -> list[str]:
    """Summary of the comparison, in sentences."""
    lines = []
    for name, panel in by_budget.items():
        sides: dict[str, tuple[str, ...]] = {
            scheme: (scheme,) for scheme in ("analog", "hybrid") if scheme in panel.schemes
        }
        if len(sides) > 1:
            sides["the better of analog and hybrid"] = tuple(sides)
        for side, schemes in sides.items():
            ahead = {s: value for s in panel.levels if (value := panel.ahead(schemes, s)) is not None}
            if not ahead:
                continue
            low = {snr_db: value for snr_db, value in ahead.items() if snr_db <= 5}
            worst = min(low, key=low.get) if low else None
            wins = [f"{snr_db:g}" for snr_db, value in ahead.items() if value < 0]
            least = "" if worst is None else f"; at 5 dB or less at worst {low[worst]:+.1f} points ({worst:g} dB)"
            beaten = f"digital is ahead at {', '.join(wins)} dB" if wins else "digital is ahead at no SNR"
            lines.append(f"{name}, known SNR, {side}: {beaten}{least}")
    for name, panel in by_channel.items():
        if not {"analog", "digital"} <= set(panel.schemes):
            continue
        below = [s for s in panel.levels if s <= 8]
        gaps = [panel.at("analog", s)[0] - panel.at("digital", s)[0] for s in below]
        means = ", ".join(f"{scheme} {panel.overall(scheme):.1f} %" for scheme in panel.schemes)
        least = f"; at 8 dB or less analog is ahead by {min(gaps):.1f} points or more" if gaps else ""
        lines.append(f"{name}: mean over {panel.levels[0]:g} to {panel.levels[-1]:g} dB {means}{least}")
    return lines


def _cell(found, digits: int) -> str:
    if found is None:
        return ""
    mean, half = found
    return f"{mean:.{digits}f}" + ("" if np.isnan(half) else f" ± {half:.{digits}f}")


def _budget(uses: int, most: int) -> str:
    return "b" if uses == most else f"b/{round(most / uses)}"


def picture(path: Path, panels: dict[str, Panel], title: str) -> None:
    """Draw the panels side by side."""
    from matplotlib.figure import Figure  # half a second to import

    figure = Figure(figsize=(4.2 * len(panels), 3.9), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(panels), sharex=True, sharey=True))
    for each, (name, panel) in zip(axes, panels.items(), strict=True):
        panel.draw(each, name)
    metric = next(iter(panels.values())).metric
    axes[0].set_ylabel("top-1, %" if metric == ACCURACY else metric)
    axes[0].legend(fontsize=8)
    figure.suptitle(textwrap.fill(title, TITLE_WIDTH * len(panels)), fontsize=10)
    save_figure(figure, path)


def draw_figures(rows: list[dict], out: Path) -> str:
    """Draw all figures of the trials, write tables.md, and return its text."""
    make_folder(out)
    text = []
    for arch in sorted({row["arch"] for row in rows}, reverse=True):
        by_budget, by_channel = known(rows, arch), mismatch(rows, arch)
        for name, panels in (("known", by_budget), ("mismatch", by_channel)):
            if panels:
                picture(out / f"{name}-{arch}.png", panels, _title(name, arch, rows))
        for name, panel in {**by_budget, **by_channel}.items():
            text += [
                f"**{arch}, {name}**" + ("" if panel.metric == ACCURACY else f", {panel.metric}"),
                "",
                *panel.table(),
                "",
            ]
        if all(panel.metric == ACCURACY for panel in (*by_budget.values(), *by_channel.values())):
            text += [*(f"- {line}" for line in findings(by_budget, by_channel)), ""]
        text += [f"- {line}" for line in compare_ways(rows, arch)] + [""]
    (out / "tables.md").write_text("\n".join(text))
    return "\n".join(text)


def compare_ways(rows: list[dict], arch: str) -> list[str]:
    """The number of trials by way of simulation, and the difference of the fast ways from the whole link."""
    rows, lines = [row for row in rows if row["arch"] == arch], []
    for scheme in ("analog", "hybrid", "digital"):
        count = {
            way: sum(r["scheme"] == scheme and r["way"] == way for r in rows) for way in ("link", "equivalent", "table")
        }
        cells: dict[tuple, dict[str, list[float]]] = {}
        for row in rows:
            if row["scheme"] == scheme and row["channel"] == "static":
                cell = row["payload_uses"], row["plan_snr_db"], row["snr_db"], row["training_seed"]
                way = "link" if row["way"] == "link" else "fast"
                cells.setdefault(cell, {"link": [], "fast": []})[way].append(score(row))
        apart = [np.mean(c["link"]) - np.mean(c["fast"]) for c in cells.values() if c["link"] and c["fast"]]
        told = "" if not apart else f"; whole link less fast way, static cells: mean {np.mean(apart):+.2f} points"
        named = ", ".join(f"{number} {way}" for way, number in count.items() if number)
        lines.append(f"{scheme}: trials {named}{told}")
    return lines


def _title(name: str, arch: str, rows: list[dict]) -> str:
    dataset = DATA_NAMES.get(arch, arch)
    seeds = len({row["training_seed"] for row in rows if row["arch"] == arch})
    what = {"known": "planned for the SNR met", "mismatch": "planned for one SNR, met at another"}[name]
    return f"{dataset}, {what}; simulated, {seeds} training seed(s), 95 % intervals"
