"""Ablation table: accuracy against SNR at one payload, methods added one at a time.

    python sim/experiments/methods.py --out out/methods

writes methods.json (every run), methods.png and a table of means and deviations over training and link seeds. A run
sends one network once: `models.payload.protection` divides the budget of payload symbols, white noise is added to each
symbol (`sim.experiments.library.white_noise`), and `rx.combine` estimates the weights. --link also sends the same
bursts through the whole link of `sim.loopback` on an AWGN channel and reports the difference, which justifies the fast
way. If a method has several networks, one is selected for each channel by the loss on training examples held back,
never on the test examples. Until all runs are done, unfinished.json keeps those that are, and the same command into the
same folder goes on from there. With --architecture FILE.py:NAME the networks are your own, in DIR/NAME/METHOD/seed-N,
and judged by the first metric of your `evaluate`.
"""

import dataclasses
import json
import shlex
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2] / "src")
    from airnet_sdr.dsp.host import environment

    environment.begin()

import numpy as np
from rich.progress import track

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.dsp.host.options import add_options, config_from, option
from airnet_sdr.dsp.symbols import num_pairs
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import tensor_specs
from airnet_sdr.models.register import resolve_architecture
from airnet_sdr.rx.drawing import line_style, save_figure
from airnet_sdr.sim.experiments.library.config import ExperimentConfig
from airnet_sdr.sim.experiments.library.judge import judge_by_loss, judge_by_test, untrained
from airnet_sdr.sim.experiments.library.networks import METHODS, Shelf
from airnet_sdr.sim.experiments.library.scoring import score_over_link
from airnet_sdr.sim.experiments.library.tables import DATA_NAMES, print_table, scale_of, summarise

APART_DB = 0.12  # between the lines of a picture
NEAR_POINTS = 12  # of accuracy, for the panel in which the best lines are told apart
METHOD_NAMES = tuple(method.name for method in METHODS)


@dataclasses.dataclass(frozen=True)
class MethodsConfig(ExperimentConfig):
    """The rows and columns of the table, and the output folder."""

    out: Path = option(Path("out/methods"), "output folder", metavar="DIR")
    arch: str = option("fashion", "architecture of the networks", choices=tuple(DATA_NAMES))
    methods: tuple[str, ...] = option(METHOD_NAMES, "rows of the table (default: all)", choices=METHOD_NAMES)
    snr_db: tuple[float, ...] = option((-5, 0, 5, 10, 15, 20), "SNR per payload symbol", metavar="D")
    payload_uses: int | None = option(None, "budget of symbols (default: one per pair of weights, unpruned)", 1)
    link: bool = option(False, "send every run over the whole link as well")
    batch_norm: str = option(
        "sent",
        "batch norm's statistics in the test: the sender's, or measured on the test inputs",
        choices=("sent", "measured"),
    )

    @property
    def budget(self) -> int:
        """Payload symbols per run."""
        return self.payload_uses or sum(num_pairs(spec.numel) for spec in tensor_specs(build(self.name)))

    @property
    def name(self) -> str:
        """The architecture's name."""
        return resolve_architecture(self.architecture) or self.arch


def measure_methods(config: MethodsConfig, rows: "Unfinished") -> list[dict]:
    """Rows for every method, SNR, training and link seed, with those found before. InputError without networks."""
    test = judge_by_test(config.name, config.images, config.data_dir, config.batch_norm == "measured")
    judge = judge_by_loss(config.name, config.images, config.data_dir)
    shelves = [Shelf(config.networks, seed, judge, config.name) for seed in config.training_seeds]
    cells = [
        (method, shelf, snr_db)
        for method in METHODS
        if method.name in config.methods
        for shelf in shelves
        for snr_db in config.snr_db
        if shelf.path(method.networks[-1]).is_file()
    ]
    if not cells:
        raise InputError(f"no network in {config.networks}; train them, see models/zoo/README.md")
    own = untrained(config.name, test) if test.task.is_own else None
    for method, shelf, snr_db in track(cells, "methods"):
        cell = {"method": method.name, "snr_db": snr_db, "training_seed": shelf.seed}
        if cell in rows:
            continue
        sent = shelf.plan_best(method, snr_db, config.budget)
        found = []
        for seed in range(100 * shelf.seed, 100 * shelf.seed + config.link_seeds):
            row = cell | {
                "link_seed": seed,
                "network": sent.name,
                "weights": sum(tensor.size for tensor in sent.checkpoint.tensors.values()),
                "accuracy": shelf.score(sent, snr_db, seed, test),
                "accuracy_sent": sent.checkpoint.accuracy,
            }
            if config.link:
                row["accuracy_link"] = shelf.score(sent, snr_db, seed, test, score_over_link)
            if own is not None:
                row |= {"metric": own[0], "lost": own[1]}
                row["accuracy_sent"] = next(iter(sent.checkpoint.metrics.values()), sent.checkpoint.accuracy)
            found.append(row)
        rows.add(found)
    return rows.found


class Unfinished:
    """The rows found so far, kept in the output folder; those of other options are begun anew."""

    def __init__(self, config: MethodsConfig):
        self.path = config.out / "unfinished.json"
        self.settings = json.loads(json.dumps(dataclasses.asdict(config) | {"out": None}, default=str))
        self.found: list[dict] = []
        if self.path.is_file():
            kept = json.loads(self.path.read_text())
            self.found = kept["rows"] if kept["settings"] == self.settings else []

    def __contains__(self, cell: dict) -> bool:
        return any(cell.items() <= row.items() for row in self.found)

    def add(self, rows: list[dict]) -> None:
        """Keep the rows of one more cell."""
        self.found += rows
        write_whole(self.path, json.dumps({"settings": self.settings, "rows": self.found}).encode())

    def end(self) -> None:
        """All is written elsewhere."""
        self.path.unlink(missing_ok=True)


def draw(path: Path, rows: list[dict], arch: str, payload_uses: int) -> None:
    """Accuracy against SNR, a line with its deviation for each method: the whole range, and its upper end.

    Metrics of the network's own have one panel.
    """
    from matplotlib.figure import Figure  # half a second to import

    metric, scale = scale_of(rows)
    is_accuracy = scale == 100
    figure = Figure(figsize=(11 if is_accuracy else 6, 4.8), layout="constrained")
    whole, *others = figure.subplots(1, 2 if is_accuracy else 1, squeeze=False)[0]
    methods = summarise(rows)
    best = scale * max(mean for by_snr in methods.values() for mean, _, _ in by_snr.values())
    for index, (method, by_snr) in enumerate(methods.items()):
        levels = np.array(sorted(by_snr))
        mean, deviation = (scale * np.array([by_snr[s][i] for s in levels]) for i in (0, 1))
        apart = APART_DB * (index - (len(methods) - 1) / 2)  # so that the deviations do not hide one another
        for axes in (whole, *others):
            style = line_style(index, len(methods))
            axes.errorbar(levels + apart, mean, deviation, capsize=2, elinewidth=1, **style, label=method)
    for near in others:
        near.set(ylim=(best - NEAR_POINTS, best + 1), title=f"the same, the upper {NEAR_POINTS} points")
        whole.set(ylim=(0, 100), title="all")
    whole.set_ylabel(metric)
    for axes in (whole, *others):
        axes.set_xlabel("SNR per payload symbol, dB")
        axes.grid(alpha=0.3)
    whole.legend(fontsize="small", loc="lower right")
    figure.suptitle(f"{DATA_NAMES.get(arch, arch)}, {payload_uses:,} payload symbols in white noise; simulated")
    save_figure(figure, path)


def tabulate(config: MethodsConfig, command: str) -> None:
    """Measure, write methods.json and methods.png, print the table."""
    unfinished = Unfinished(config)
    rows = measure_methods(config, unfinished)
    content = {"command": command, "payload_uses": config.budget, "rows": rows}
    write_whole(config.out / "methods.json", (json.dumps(content, indent=1) + "\n").encode())
    draw(config.out / "methods.png", rows, config.name, config.budget)
    unfinished.end()
    print_table(rows)


def main(argv=None) -> int:
    """Parse, measure, write and print."""
    argv = sys.argv[1:] if argv is None else argv
    parser = CommandParser(prog="methods", description=__doc__)
    add_options(parser, MethodsConfig)
    options = parser.options(argv)
    command = shlex.join(["python", "sim/experiments/methods.py", *argv])
    return run_command(parser, lambda: tabulate(config_from(MethodsConfig, options), command))


if __name__ == "__main__":
    sys.exit(main())
