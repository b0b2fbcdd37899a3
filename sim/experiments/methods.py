"""Ablation table: accuracy against SNR at one payload, methods added one at a time.

    python sim/experiments/methods.py --out out/methods

writes methods.json (every run), methods.png and a table of means and deviations over training and link seeds. A run
sends one network once: `models.payload.protection` divides the budget of payload symbols, white noise is added to each
symbol (`sim.experiments.library.white_noise`), and `rx.combine` estimates the weights. --link also sends the same
bursts through the whole link of `sim.loopback` on an AWGN channel and reports the difference, which justifies the fast
way. If a method has several networks, one is selected for each channel on held-out training images, never on the test
images.
"""

import dataclasses
import json
import shlex
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2] / "src")
    from airnet_sdr.dsp.host import environment

    environment.set_defaults()

import numpy as np
from rich.progress import track

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.dsp.host.options import add_options, config_from, option
from airnet_sdr.models.nets import num_weights
from airnet_sdr.sim.experiments.library.config import ExperimentConfig
from airnet_sdr.sim.experiments.library.images import load_held_out_images, load_test_images
from airnet_sdr.sim.experiments.library.networks import METHODS, Shelf
from airnet_sdr.sim.experiments.library.scoring import score_over_link
from airnet_sdr.sim.experiments.library.tables import DATA_NAMES, print_table, summarise

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

    @property
    def budget(self) -> int:
        """Payload symbols per run."""
        return self.payload_uses or num_weights(self.arch) // 2


def measure_methods(config: MethodsConfig) -> list[dict]:
    """A row for every method, SNR, training and link seed. InputError without networks."""
    test_set = load_test_images(config.arch, config.images, config.data_dir)
    held_out = load_held_out_images(config.arch, config.images, config.data_dir)
    shelves = [Shelf(config.networks, seed, held_out, config.arch) for seed in config.training_seeds]
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
    rows = []
    for method, shelf, snr_db in track(cells, "methods"):
        sent = shelf.plan_best(method, snr_db, config.budget)
        for seed in range(100 * shelf.seed, 100 * shelf.seed + config.link_seeds):
            row = {
                "method": method.name,
                "snr_db": snr_db,
                "training_seed": shelf.seed,
                "link_seed": seed,
                "network": sent.name,
                "weights": sum(tensor.size for tensor in sent.checkpoint.tensors.values()),
                "accuracy": shelf.score(sent, snr_db, seed, *test_set),
                "accuracy_sent": sent.checkpoint.accuracy,
            }
            if config.link:
                row["accuracy_link"] = shelf.score(sent, snr_db, seed, *test_set, score_over_link)
            rows.append(row)
    return rows


def draw(path: Path, rows: list[dict], arch: str, payload_uses: int) -> None:
    """Accuracy against SNR, a line with its deviation for each method."""
    from matplotlib.figure import Figure  # half a second to import

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for method, by_snr in summarise(rows).items():
        levels = sorted(by_snr)
        mean, deviation = (100 * np.array([by_snr[s][i] for s in levels]) for i in (0, 1))
        axes.errorbar(levels, mean, deviation, marker="o", ms=4, capsize=3, lw=1.2, label=method)
    axes.set(
        xlabel="SNR per payload symbol, dB",
        ylabel="top-1, %",
        title=f"{DATA_NAMES[arch]}, {payload_uses:,} payload symbols in white noise",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=130)


def tabulate(config: MethodsConfig, command: str) -> None:
    """Measure, write methods.json and methods.png, print the table."""
    rows = measure_methods(config)
    content = {"command": command, "payload_uses": config.budget, "rows": rows}
    write_whole(config.out / "methods.json", (json.dumps(content, indent=1) + "\n").encode())
    draw(config.out / "methods.png", rows, config.arch, config.budget)
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
