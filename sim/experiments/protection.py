"""Ways to divide one budget among the layers of a network, by copies and power, at equal payload and energy.

    python sim/experiments/protection.py --out out/protection

sends the pruned networks of the table of methods and writes protection.json and a table of accuracy for each way:

- uniform: every layer as often, at the same power;
- one layer: every layer as often, and all that is left to one; which, and how often the others, is tried out on
  images that no network was trained on;
- Hessian, measured: least expected damage (`dsp.uep`), told by the Hessian's trace or by noise on one layer after the
  other (`models.sensitivity`), on training images;
- size: least error over all layers alike, which needs no measurement.
"""

import functools
import json
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
from airnet_sdr.dsp.symbols import num_pairs
from airnet_sdr.dsp.uep import Protection, plan_protection, uniform
from airnet_sdr.models.checkpoint import Checkpoint, load
from airnet_sdr.models.data import load as load_data
from airnet_sdr.models.nets import DATASETS, num_weights
from airnet_sdr.models.payload.protection import protect
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.models.sensitivity import Sensitivity, measure_checkpoint
from airnet_sdr.models.shipped import ZOO
from airnet_sdr.sim.experiments.library.networks import HOLD_OUT, Shelf
from airnet_sdr.sim.experiments.library.scoring import Sent, equivalent
from airnet_sdr.sim.experiments.library.tables import print_table

MAX_COPIES = 255  # that a manifest can tell


def one_layer(num_symbols, budget: int) -> list[Protection]:
    """Every layer in turn given all that some copies of the others leave of the budget."""
    found = []
    for layer, num in enumerate(num_symbols):
        for others in range(1, budget // int(num_symbols.sum()) + 1):
            copies = np.full(len(num_symbols), others)
            copies[layer] += min((budget - int(copies @ num_symbols)) // num, MAX_COPIES - others)
            found.append(Protection(copies, np.ones(len(num_symbols))))
    return found


def ways(checkpoint: Checkpoint, sensitivity: Sensitivity, snr_db: float, budget: int) -> dict[str, list[Protection]]:
    """Name and protections of every way; of several the one that does best is to be tried out.

    Raises InputError when ``budget`` payload symbols do not hold the network once.
    """
    num_symbols = np.array([num_pairs(tensor.size) for tensor in checkpoint.tensors.values()])
    if budget < num_symbols.sum():
        raise InputError(f"the network needs {num_symbols.sum()} payload symbols, the budget has {budget}; raise it")

    def least_damage(method):
        damage = sensitivity.damage(list(checkpoint.tensors), method=method)
        return [plan_protection(num_symbols, damage, sensitivity.snr_grid_db, snr_db, budget, MAX_COPIES)]

    by_size = PlanConfig("size", snr_db=snr_db, payload_uses=budget, expansion="none")
    return {
        "uniform": [uniform(num_symbols, budget // int(num_symbols.sum()))],
        "one layer": one_layer(num_symbols, budget),
        "Hessian": least_damage("hessian"),
        "measured": least_damage("measured"),
        "size": [protect(checkpoint, by_size, None)],
    }


def run_all(args) -> list[dict]:
    """Every run that the options ask for, as rows."""
    images, labels = (array[: args.images] for array in load_data(DATASETS["fashion"], "test", args.data))
    held_out = tuple(array[-HOLD_OUT:][: args.images] for array in load_data(DATASETS["fashion"], "train", args.data))
    cells = []
    for seed in args.training_seeds:
        shelf = Shelf(args.networks, seed, held_out)
        checkpoint = load(shelf.path(args.network))
        label = f"importance of {args.network}-{seed}"
        made = measure_checkpoint(checkpoint, 1000, seed, 2, "", args.data, functools.partial(track, description=label))
        cells += [
            (shelf, checkpoint, snr_db, name, tried)
            for snr_db in args.snr_db
            for name, tried in ways(checkpoint, made, snr_db, args.payload_uses).items()
        ]
    rows = []
    for shelf, checkpoint, snr_db, name, tried in track(cells, "protection"):
        sent = [Sent(args.network, checkpoint, protection) for protection in tried]
        best = shelf.best(sent, snr_db)
        for seed in range(args.link_seeds):
            rows.append(
                {
                    "method": name,
                    "snr_db": snr_db,
                    "training_seed": shelf.seed,
                    "link_seed": seed,
                    "network": best.name,
                    "copies": best.protection.copies.tolist(),
                    "power": np.round(best.protection.power, 3).tolist(),
                    "accuracy": equivalent(best, snr_db, seed, images, labels),
                    "accuracy_sent": checkpoint.accuracy,
                }
            )
    return rows


def main(argv=None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = CommandParser(prog="protection", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/protection"), help="folder for protection.json")
    parser.add_argument("--networks", type=Path, default=ZOO, help="folder of DATASET/METHOD/seed-N")
    parser.add_argument("--network", default="pruned4", help="which of them")
    parser.add_argument("--snr-db", type=float, nargs="+", default=[-5, 0, 5], metavar="D")
    parser.add_argument("--payload-uses", type=int, metavar="N", help="default: one for each pair of weights unpruned")
    parser.add_argument("--training-seeds", type=int, nargs="+", default=[1, 2, 3], metavar="S")
    parser.add_argument("--link-seeds", type=int, default=5, metavar="K", help="how many")
    parser.add_argument("--images", type=int, help="look at the first images only")
    parser.add_argument("--data", metavar="DIR", help="where data sets are looked for first")
    args = parser.parse_args(argv)
    args.payload_uses = args.payload_uses or num_weights("fashion") // 2

    def work():
        rows = run_all(args)
        args.out.mkdir(parents=True, exist_ok=True)
        command = " ".join(["python sim/experiments/protection.py", *argv])
        content = {"command": command, "payload_uses": args.payload_uses, "rows": rows}
        write_whole(args.out / "protection.json", (json.dumps(content, indent=1) + "\n").encode())
        print_table(rows)

    return run_command(parser, work)


if __name__ == "__main__":
    sys.exit(main())
