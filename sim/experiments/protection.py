"""Comparison of ways to divide one budget among a network's layers, at equal payload and energy.

    python sim/experiments/protection.py --out out/protection

sends the pruned networks of the table of methods and writes protection.json and a table of accuracy for each way:

- uniform: equal copies and power for every layer;
- one layer: equal copies, and the rest of the budget for one layer; the layer and the copies are selected on held-out
  training images;
- Hessian, measured: least expected damage (`dsp.uep`), from the Hessian's trace or from noise on one layer at a time
  (`models.sensitivity`), on training images;
- size: least sum of the layers' NMSE, without measurements.
"""

import dataclasses
import functools
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
from airnet_sdr.dsp.uep import Protection, plan_protection, uniform
from airnet_sdr.models.checkpoint import Checkpoint, load
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import tensor_specs
from airnet_sdr.models.payload.protection import protect
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.models.register import resolve_architecture
from airnet_sdr.models.sensitivity import measure_checkpoint
from airnet_sdr.models.sensitivity_file import Sensitivity
from airnet_sdr.sim.experiments.library.config import ExperimentConfig
from airnet_sdr.sim.experiments.library.judge import judge_by_loss, judge_by_test
from airnet_sdr.sim.experiments.library.networks import Shelf
from airnet_sdr.sim.experiments.library.scoring import Sent, score_in_white_noise
from airnet_sdr.sim.experiments.library.tables import print_table

ARCH = "fashion"
MAX_COPIES = 255  # that a manifest can carry
SENSITIVITY_IMAGES, SENSITIVITY_DRAWS = 1000, 2


@dataclasses.dataclass(frozen=True)
class ProtectionConfig(ExperimentConfig):
    """The protected network, the SNRs, the budget and the output folder."""

    out: Path = option(Path("out/protection"), "output folder", metavar="DIR")
    network: str = option("pruned4", "method of the networks to send")
    snr_db: tuple[float, ...] = option((-5, 0, 5), "SNR per payload symbol", metavar="D")
    payload_uses: int | None = option(None, "budget of symbols (default: one per pair of weights, unpruned)", 1)

    @property
    def budget(self) -> int:
        """Payload symbols per run."""
        return self.payload_uses or sum(num_pairs(spec.numel) for spec in tensor_specs(build(self.name)))

    @property
    def name(self) -> str:
        """The architecture's name."""
        return resolve_architecture(self.architecture) or ARCH


def one_layer(num_symbols, budget: int) -> list[Protection]:
    """Protections that give one layer the rest of the budget after equal copies of the others."""
    found = []
    for layer, num in enumerate(num_symbols):
        for others in range(1, budget // int(num_symbols.sum()) + 1):
            copies = np.full(len(num_symbols), others)
            copies[layer] += min((budget - int(copies @ num_symbols)) // num, MAX_COPIES - others)
            found.append(Protection(copies, np.ones(len(num_symbols))))
    return found


def divide_budget(
    checkpoint: Checkpoint, sensitivity: Sensitivity, snr_db: float, budget: int
) -> dict[str, list[Protection]]:
    """The protections of every way by name; from several the caller selects the best.

    Raises InputError if ``budget`` payload symbols do not hold the network once.
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


def measure_protections(config: ProtectionConfig) -> list[dict]:
    """A row for every way to divide the budget, SNR, training and link seed."""
    test = judge_by_test(config.name, config.images, config.data_dir)
    judge = judge_by_loss(config.name, config.images, config.data_dir)
    cells = []
    for seed in config.training_seeds:
        shelf = Shelf(config.networks, seed, judge, config.name)
        checkpoint = load(shelf.path(config.network), config.name)
        bar = functools.partial(track, description=f"importance of {config.network}, seed {seed}")
        made = measure_checkpoint(checkpoint, SENSITIVITY_IMAGES, seed, SENSITIVITY_DRAWS, "", config.data_dir, bar)
        cells += [
            (shelf, checkpoint, snr_db, name, tried)
            for snr_db in config.snr_db
            for name, tried in divide_budget(checkpoint, made, snr_db, config.budget).items()
        ]
    rows = []
    for shelf, checkpoint, snr_db, name, tried in track(cells, "protection"):
        best = shelf.select_plan([Sent(config.network, checkpoint, protection) for protection in tried], snr_db)
        for seed in range(config.link_seeds):
            rows.append(
                {
                    "method": name,
                    "snr_db": snr_db,
                    "training_seed": shelf.seed,
                    "link_seed": seed,
                    "network": best.name,
                    "copies": best.protection.copies.tolist(),
                    "power": np.round(best.protection.power, 3).tolist(),
                    "accuracy": score_in_white_noise(best, snr_db, seed, test),
                    "accuracy_sent": checkpoint.accuracy,
                }
            )
    return rows


def tabulate(config: ProtectionConfig, command: str) -> None:
    """Measure, write protection.json, print the table."""
    rows = measure_protections(config)
    content = {"command": command, "payload_uses": config.budget, "rows": rows}
    write_whole(config.out / "protection.json", (json.dumps(content, indent=1) + "\n").encode())
    print_table(rows)


def main(argv=None) -> int:
    """Parse, measure, write and print."""
    argv = sys.argv[1:] if argv is None else argv
    parser = CommandParser(prog="protection", description=__doc__)
    add_options(parser, ProtectionConfig)
    options = parser.options(argv)
    command = shlex.join(["python", "sim/experiments/protection.py", *argv])
    return run_command(parser, lambda: tabulate(config_from(ProtectionConfig, options), command))


if __name__ == "__main__":
    sys.exit(main())
