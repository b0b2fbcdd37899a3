"""What each method adds: accuracy against SNR at one payload, methods added one at a time.

    python sim/experiments/methods.py --out out/methods

writes methods.json (every run), methods.png and a table of means and deviations over training and link seeds. A run
is one network sent once: `models.payload.protection` divides the budget of payload symbols, and each symbol arrives
in white noise, from which `rx.combine` estimates the weights (`sim.experiments.library.white_noise`). --link sends
the same bursts through the whole link of `sim.loopback` on an AWGN channel as well, and reports how far the two are
apart; their equality is what allows the fast way. Where a method has several networks, the one for a channel is
chosen on training images that no network was trained on, never on the test images.
"""

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
from airnet_sdr.models.data import load as load_data
from airnet_sdr.models.nets import DATASETS, num_weights
from airnet_sdr.models.shipped import ZOO
from airnet_sdr.sim.experiments.library.networks import HOLD_OUT, METHODS, Shelf
from airnet_sdr.sim.experiments.library.scoring import over_the_link
from airnet_sdr.sim.experiments.library.tables import DATA_NAMES, print_table, summarise


def run_all(args) -> list[dict]:
    """Every run that the options ask for, as rows."""
    images, labels = (array[: args.images] for array in load_data(DATASETS[args.arch], "test", args.data))
    held_out = tuple(array[-HOLD_OUT:][: args.images] for array in load_data(DATASETS[args.arch], "train", args.data))
    rows = []
    shelves = [Shelf(args.networks, seed, held_out, args.arch) for seed in args.training_seeds]
    cells = [
        (method, shelf, snr_db)
        for method in METHODS
        if method.name in args.methods
        for shelf in shelves
        for snr_db in args.snr_db
        if shelf.path(method.networks[-1]).is_file()
    ]
    if not cells:
        raise InputError(f"no network in {args.networks}; train them, see models/zoo/README.md")
    for method, shelf, snr_db in track(cells, "methods"):
        sent = shelf.send(method, snr_db, args.payload_uses)
        for seed in range(100 * shelf.seed, 100 * shelf.seed + args.link_seeds):
            row = {
                "method": method.name,
                "snr_db": snr_db,
                "training_seed": shelf.seed,
                "link_seed": seed,
                "network": sent.name,
                "weights": sum(tensor.size for tensor in sent.checkpoint.tensors.values()),
                "accuracy": shelf.score(sent, snr_db, seed, images, labels),
                "accuracy_sent": sent.checkpoint.accuracy,
            }
            if args.link:
                row["accuracy_link"] = shelf.score(sent, snr_db, seed, images, labels, over_the_link)
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


def main(argv=None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = CommandParser(prog="methods", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/methods"), help="folder for methods.json and methods.png")
    parser.add_argument("--networks", type=Path, default=ZOO, help="folder of DATASET/METHOD/seed-N")
    parser.add_argument("--snr-db", type=float, nargs="+", default=[-5, 0, 5, 10, 15, 20], metavar="D")
    parser.add_argument("--arch", choices=list(DATA_NAMES), default="fashion")
    names = [method.name for method in METHODS]
    parser.add_argument("--methods", nargs="+", choices=names, default=names, metavar="NAME", help="rows of the table")
    parser.add_argument("--payload-uses", type=int, metavar="N", help="default: one for each pair of weights unpruned")
    parser.add_argument("--training-seeds", type=int, nargs="+", default=[1, 2, 3], metavar="S")
    parser.add_argument("--link-seeds", type=int, default=5, metavar="K", help="how many")
    parser.add_argument("--images", type=int, help="evaluate on the first test images only")
    parser.add_argument("--link", action="store_true", help="send every run over the whole link as well")
    parser.add_argument("--data", metavar="DIR", help="where data sets are looked for first")
    args = parser.parse_args(argv)
    args.payload_uses = args.payload_uses or num_weights(args.arch) // 2

    def work():
        rows = run_all(args)
        command = shlex.join(["python", "sim/experiments/methods.py", *argv])
        args.out.mkdir(parents=True, exist_ok=True)
        content = {"command": command, "payload_uses": args.payload_uses, "rows": rows}
        write_whole(args.out / "methods.json", (json.dumps(content, indent=1) + "\n").encode())
        draw(args.out / "methods.png", rows, args.arch, args.payload_uses)
        print_table(rows)

    return run_command(parser, work)


if __name__ == "__main__":
    sys.exit(main())
