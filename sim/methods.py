"""What each method adds: accuracy against SNR at one payload, methods added one at a time.

    python sim/methods.py --out out/methods

writes methods.json (every run), methods.png and a table of means and deviations over training and link seeds. A run
is one network sent once: `tx.plan` divides the budget of payload symbols, and each symbol arrives in white noise, from
which `rx.pipeline` estimates the weights (`sim.white_noise`). --link sends the same bursts through the whole link of
`sim.loopback` on an AWGN channel as well, and reports how far the two are apart; their equality is what allows the
fast way. Where a method has several networks, the one for a channel is chosen on training images that no network was
trained on, never on the test images.
"""

import dataclasses
import functools
import json
import math
import shlex
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")
    from airnet_sdr.dsp.host import environment

    environment.set_defaults()

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.dsp.radio.scale import NOMINAL_POWER
from airnet_sdr.dsp.uep import Protection
from airnet_sdr.dsp.units import linear
from airnet_sdr.models.batch_norm import recompute
from airnet_sdr.models.checkpoint import ZOO, Checkpoint, load
from airnet_sdr.models.data import load as load_data
from airnet_sdr.models.evaluate import logits, top1
from airnet_sdr.models.nets import DATASETS, build, num_weights
from airnet_sdr.models.packing import load_vectors, tensor_specs, to_vectors
from airnet_sdr.rx.pipeline import BurstCombiner, Listener, rebuild
from airnet_sdr.sim.channel import Channel
from airnet_sdr.sim.channel_config import ChannelConfig
from airnet_sdr.sim.loopback import through_air
from airnet_sdr.sim.white_noise import WhiteNoise
from airnet_sdr.tx.pipeline import Burst, prepare
from airnet_sdr.tx.plan import PlanConfig, pick, protect

DATA_NAMES = {"fashion": "Fashion-MNIST", "cifar": "CIFAR-10 (JPEG)"}  # that there is a table of
RATE_HZ, FREQ_HZ = 2.5e6, 2.4e9
HOLD_OUT = 2500  # of the training images that no network was trained on
GUESS = 0.1  # the accuracy of guessing
MOST_DRAWS, DOUBT = 8, 3.0  # of a choice among networks
SMALL = ["low16", "low8", "pruned8", "low4", "pruned4"]
NORMALISED = ["norm16", "norm8"]  # with batch norm, where the others have none

load_once = functools.lru_cache(maxsize=64)(load)  # many plans send the same networks


@dataclasses.dataclass(frozen=True)
class Method:
    """A row of the table: its name, the networks it chooses from, UEP and curves.

    Networks are folders, less the training seed. Without the last there is no row; the others are tried where they are
    there.
    """

    name: str
    networks: tuple[str, ...]
    uep: str = "none"
    expansion: str = "none"


METHODS = (
    Method("plain analog", ("clean",)),
    Method("+ weight noise", ("clean", "noise")),
    Method("+ pruning and distillation", ("clean", "noise", *SMALL)),
    Method("+ expansion", ("clean", "noise", *SMALL), "none", "auto"),
    Method("+ unequal protection", ("clean", "noise", *SMALL), "size", "auto"),
    Method("+ batch norm", ("clean", "noise", *SMALL, *NORMALISED), "size", "auto"),
    Method("nested networks", ("nested",), "size", "auto"),
)


@dataclasses.dataclass(frozen=True)
class Sent:
    """A network on its way: the checkpoint that is sent, its protection, and where it came from."""

    name: str
    checkpoint: Checkpoint
    protection: Protection

    def burst(self, seed: int) -> Burst:
        """What goes on the air."""
        sent, vectors = self.checkpoint, to_vectors(self.checkpoint.tensors)
        what = sent.arch, sent.dataset, sent.accuracy
        return prepare(*what, vectors, self.protection, seed, widths=sent.widths)


class Shelf:
    """The networks of one architecture and training seed, and the images to choose by."""

    def __init__(self, folder: Path, seed: int, held_out, arch: str = "fashion"):
        self.folder, self.seed, self.held_out, self.arch = folder, seed, held_out, arch
        self._known: dict[tuple, float] = {}

    def path(self, network: str) -> Path:
        """Where the network is, which may be a variant of the architecture; it need not be there."""
        name = network if self.arch == "fashion" else f"{self.arch}-{network}"
        folder = self.folder / f"{name}-{self.seed}"
        return next(iter(sorted(folder.glob(f"{self.arch}*.safetensors"))), folder / f"{self.arch}.safetensors")

    def plan(self, network: str, method: Method, snr_db: float, payload_uses: int) -> Sent:
        """The network, protected for this channel."""
        config = PlanConfig(method.uep, 1, snr_db, payload_uses, expansion=method.expansion)
        checkpoint, config = pick(load_once(self.path(network)), config)
        num_symbols = sum((tensor.size + 1) // 2 for tensor in checkpoint.tensors.values())
        config = dataclasses.replace(config, copies=payload_uses // num_symbols)
        return Sent(f"{network}-{self.seed}", checkpoint, protect(checkpoint, config, None))

    def send(self, method: Method, snr_db: float, payload_uses: int) -> Sent:
        """Of the networks that `method` has, the one that does best on the images to choose by."""
        networks = [network for network in method.networks if self.path(network).is_file()]
        return self.best([self.plan(network, method, snr_db, payload_uses) for network in networks], snr_db)

    def best(self, plans: list[Sent], snr_db: float) -> Sent:
        """The plan that does best on the images to choose by; where there is one, nothing is measured.

        A race (Maron and Moore, Hoeffding races, 1994): all get two draws of the noise, then one more at a time those
        that may still be the best, within DOUBT deviations of the means from the one that leads.
        """
        racing = list(plans)
        for num_draws in range(2, MOST_DRAWS + 1):
            if len(racing) == 1:
                break
            draws = range(1000, 1000 + num_draws)
            scores = np.array([[self.score(sent, snr_db, k, *self.held_out) for k in draws] for sent in racing])
            means, deviation = scores.mean(axis=1), np.sqrt(scores.var(axis=1, ddof=1).mean() / num_draws)
            ranked = np.argsort(-means, kind="stable")
            racing = [racing[i] for i in ranked if means[i] >= means.max() - DOUBT * deviation]
        return racing[0]

    def score(self, sent: Sent, snr_db: float, seed: int, images, labels, how=None) -> float | None:
        """Accuracy by `equivalent` or another way, each thing measured once however many methods send it."""
        how, sends = how or equivalent, sent.protection
        key = (sent.name, sent.checkpoint.widths, sends.copies.tobytes(), sends.power.tobytes(), sends.curves)
        key += (snr_db, seed, how, images.data_ptr())
        if key not in self._known:
            self._known[key] = how(sent, snr_db, seed, images, labels)
        return self._known[key]


def equivalent(sent: Sent, snr_db: float, seed: int, images, labels, estimator: str = "linear") -> float:
    """Accuracy with the noise that the link would leave on the weights."""
    burst = sent.burst(seed)
    return accuracy_of(burst, WhiteNoise(burst, float(linear(snr_db)), seed), images, labels, estimator)


def over_the_link(
    sent: Sent, snr_db: float, seed: int, images, labels, air=ChannelConfig(), estimator: str = "linear"
) -> float | None:
    """Accuracy over the whole link, on an AWGN channel where no other is given; None when nothing was received."""
    burst = sent.burst(seed)
    received = heard(burst, snr_db, seed, air)
    return None if received is None else accuracy_of(burst, received, images, labels, estimator)


def heard(burst: Burst, snr_db: float, seed: int, air=ChannelConfig()) -> BurstCombiner | None:
    """A burst over the whole link; None when its manifest was not received."""
    listener = Listener()
    channel = Channel(dataclasses.replace(air, snr_db=snr_db), RATE_HZ, FREQ_HZ, seed, signal_power=NOMINAL_POWER)
    through_air(burst, 1, channel, listener)
    return None if listener.best is None or listener.best.manifest() is None else listener.best


def accuracy_of(burst: Burst, received, images, labels, estimator: str = "linear") -> float:
    """Accuracy of the network rebuilt from what was received, its batch norm measured on these images."""
    manifest = burst.manifest
    module = build(manifest.model, manifest.widths)
    weights = rebuild(received, manifest, [spec.numel for spec in tensor_specs(module)], estimator)
    return accuracy(load_vectors(module, weights.vectors), images, labels)


def accuracy(module, images, labels) -> float:
    """Top-1, batch norm's statistics measured on these images without their labels, as the receiver does."""
    recompute(module, images)
    return top1(logits(module, images), labels)


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
        raise InputError(f"no network in {args.networks}; train them, see models/zoo/methods/README.md")
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


def summarise(rows: list[dict], key: str = "accuracy") -> dict[str, dict[float, tuple[float, float, int]]]:
    """Mean, deviation and number of runs by method and SNR; a run that was not received counts as guessing."""
    table: dict = {}
    for row in rows:
        score = GUESS if row[key] is None else row[key]
        table.setdefault(row["method"], {}).setdefault(row["snr_db"], []).append(score)
    return {
        method: {
            snr_db: (float(np.mean(scores)), float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0, len(scores))
            for snr_db, scores in by_snr.items()
        }
        for method, by_snr in table.items()
    }


def print_table(rows: list[dict]) -> None:
    """Percent, mean ± deviation, and what the clean network has without noise."""
    console, summary = Console(), summarise(rows)
    levels = sorted({row["snr_db"] for row in rows})
    table = empty_table(
        "top-1 in percent, mean ± deviation over training and link seeds; SNR per payload symbol", levels
    )
    for method, by_snr in summary.items():
        cells = (f"{100 * by_snr[s][0]:.2f} ± {100 * by_snr[s][1]:.2f}" if s in by_snr else "" for s in levels)
        table.add_row(method, *cells)
    console.print(table)
    clean = {row["accuracy_sent"] for row in rows if row["method"] == METHODS[0].name}
    if clean:
        console.print(f"the plain network without noise: {100 * np.mean(list(clean)):.2f} %")
    if "accuracy_link" in rows[0]:
        console.print(apart(rows, levels))


def empty_table(title: str, levels: list[float]) -> Table:
    """A column for the method, then one for each SNR."""
    table = Table(title=title)
    table.add_column("method")
    for snr_db in levels:
        table.add_column(f"{snr_db:g} dB", justify="right")
    return table


def apart(rows: list[dict], levels: list[float]) -> Table:
    """The whole link less equivalent noise in points: mean of the runs, which draw their noises independently, and its
    standard error."""
    table = empty_table("whole link less equivalent noise, points ± standard error", levels)
    pairs = [
        row | {"apart": (GUESS if (sent := row["accuracy_link"]) is None else sent) - row["accuracy"]} for row in rows
    ]
    for method, by_snr in summarise(pairs, "apart").items():
        cells = ((100 * mean, 100 * deviation / math.sqrt(num)) for mean, deviation, num in (by_snr[s] for s in levels))
        table.add_row(method, *(f"{mean:+.2f} ± {error:.2f}" for mean, error in cells))
    return table


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
    parser.add_argument("--networks", type=Path, default=ZOO / "methods", help="folder of NETWORK-SEED/*.safetensors")
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
        command = shlex.join(["python", "sim/methods.py", *argv])
        args.out.mkdir(parents=True, exist_ok=True)
        content = {"command": command, "payload_uses": args.payload_uses, "rows": rows}
        write_whole(args.out / "methods.json", (json.dumps(content, indent=1) + "\n").encode())
        draw(args.out / "methods.png", rows, args.arch, args.payload_uses)
        print_table(rows)

    return run_command(parser, work)


if __name__ == "__main__":
    sys.exit(main())
