"""One transmission for receivers of every SNR: the comparison of analog, digital and mixed transmissions.

    python sim/sweep.py --question broadcast --out out/broadcast

writes broadcast.json: mean accuracy, 5 % quantile and worst case of every entrant under three laws of the receivers'
SNR, uniform from -5 to 20 dB and Rayleigh fading of mean 10 and 15 dB, flat and constant over a transmission. All have
the same payload symbols and power, b as in `grid.plans`. Plans are chosen for each law, data set and training seed by
the mean on held-out training images, with an analog part by both mean and worst case, where one is better than the best
digital one in both; the numbers are those on the test images. plans.json has the plans, known.json the same for single
SNRs that are known, feedback.json what digital transmission would have if receivers answered.

Outputs of networks are stored in the folder of --out when computed, and a run that was stopped continues with them.
With --floor-db receivers below an SNR have no network whatever was sent, as in a link whose frames end there.
"""

import dataclasses
import itertools
import json
import shlex
import sys
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.status import Status

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.files import make_folder, write_whole
from airnet_sdr.dsp.host.options import add_options, config_from, option
from airnet_sdr.dsp.host.workers import Workers
from airnet_sdr.sim.experiments.broadcast.case import Case
from airnet_sdr.sim.experiments.broadcast.laws import LAWS
from airnet_sdr.sim.experiments.broadcast.outputs import Outputs, Part, measure
from airnet_sdr.sim.experiments.broadcast.plans import Search
from airnet_sdr.sim.experiments.broadcast.tables import draw, known_table, lead_table, table
from airnet_sdr.sim.experiments.library.config import ExperimentConfig
from airnet_sdr.sim.experiments.library.place import Place
from airnet_sdr.sim.experiments.library.store import check_settings


@dataclasses.dataclass(frozen=True)
class BroadcastConfig(ExperimentConfig):
    """The data sets, and the output folder."""

    arch: tuple[str, ...] = option(("fashion", "cifar"), "architectures", choices=("fashion", "cifar"))
    out: Path = option(Path("out/broadcast"), "output folder; finished outputs are kept", metavar="DIR")
    workers: int = option(2, "processes", 1)
    ray_address: str | None = option(None, "address of a Ray cluster (default: one on this machine)", metavar="ADDRESS")
    replace: bool = option(False, "the best network that arrived answers, never the mean of two")
    floor_db: float | None = option(None, "no network arrives below this SNR (default: no such floor)", -30, 40)


def compare(config: BroadcastConfig, status: Status) -> tuple[list[dict], list[dict]]:
    """A row for each data set, training seed, law and entrant, with the curve and plan; and one for each way with
    feedback. ``status`` is kept."""
    torch.set_num_threads(1)
    here = Place(config.networks.resolve(), config.data_dir, config.images)
    pairs = [pair for pair in itertools.product(config.arch, config.training_seeds) if here.has(*pair)]
    cases = [Case(here, arch, seed, make_folder(config.out / f"{arch}-{seed}")) for arch, seed in pairs]
    files, place = here.for_workers(config.ray_address, {arch for arch, _ in pairs})
    check_settings(config.out, {"networks": str(config.networks), "images": config.images})
    if not cases:
        raise InputError(f"no networks in {here.networks} for {', '.join(config.arch)}; make some: models/train.py")
    floor_db = -np.inf if config.floor_db is None else config.floor_db
    rows: list[dict] = []
    with_feedback: list[dict] = []
    with Workers(config.workers, config.ray_address, files) as workers:
        store(workers, place, [(case, case.validation, part) for case in cases for part in case.candidates], status)
        for case in cases:
            search = Search(case.validation, case.budget, case.digital, floor_db, not config.replace)
            plans = case.plans(search, status)
            used = dict.fromkeys(part for _, plan in plans for part in plan.arrived(len(plan.layers)))
            store(workers, place, [(case, case.test, part) for part in (*case.digital, *used)], status)
            rows += [case.row(search, law, plan) for law, plan in plans]
            with_feedback += case.rows_with_feedback(search)
    return rows, with_feedback


def store(workers: Workers, place: Place, wanted: list[tuple[Case, Outputs, Part]], status: Status) -> None:
    """Have the outputs of parts measured that are not stored, and store each as it comes."""
    calls = {
        (place, case.arch, case.seed, part, outputs.split): outputs.path(part)
        for case, outputs, part in wanted
        if not outputs.path(part).is_file()
    }
    for number, (call, stored) in enumerate(workers.map(measure, calls), 1):
        write_whole(calls[call], stored)
        status.update(f"outputs: {number} of {len(calls)} …")


def summarise(rows: list[dict]) -> list[dict]:
    """Means over the training seeds, rounded to 0.01 percent."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row["dataset"], row["law"], row["entrant"], row["analog"]), []).append(row)
    return [
        {
            **dict(zip(("dataset", "law", "entrant", "analog"), key, strict=True)),
            **{name: round(float(np.mean([row[name] for row in group])), 2) for name in ("mean", "p05", "worst")},
            "training_seeds": len(group),
        }
        for key, group in groups.items()
    ]


def run(config: BroadcastConfig, command: str) -> None:
    """Compare, write broadcast.json, plans.json and figures, and print the tables."""
    with Console(stderr=True).status("one transmission …") as status:
        rows, with_feedback = compare(config, status)
    under_laws = [row for row in rows if row["law"] in LAWS]
    means, apart = summarise(under_laws), summarise(with_feedback)
    known = summarise([row for row in rows if row["law"] not in LAWS])
    for name, found in (("broadcast", means), ("known", known), ("feedback", apart)):
        write_whole(config.out / f"{name}.json", (json.dumps(found, indent=1) + "\n").encode())
    plans = json.dumps({"command": command, "rows": rows})
    write_whole(config.out / "plans.json", (plans.replace('{"dataset"', '\n{"dataset"') + "\n").encode())
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        draw(config.out / f"broadcast-{dataset}.png", under_laws, dataset, "rayleigh10")
        print("\n".join([*table(means, dataset), "with feedback:", *table(apart, dataset)]))
        print("\n".join(["SNR known:", *known_table(known, dataset)]))
    print("\n".join(lead_table(means)))


def main(argv=None) -> int:
    """Parse and compare."""
    argv = sys.argv[1:] if argv is None else argv
    parser = CommandParser(prog="sweep", description=__doc__)
    add_options(parser, BroadcastConfig)
    options = parser.options(argv)
    command = shlex.join(["python", "sim/sweep.py", "--question", "broadcast", *argv])
    return run_command(parser, lambda: run(config_from(BroadcastConfig, options), command))
