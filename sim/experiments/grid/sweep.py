"""Analog against digital at equal payload and power: a grid of trials in simulation, on Ray.

    python sim/sweep.py --out out/sweep
    python sim/experiments/figures.py --trials out/sweep/trials.parquet --out out/sweep

Two questions. known: every scheme is planned for the SNR that it meets, for budgets of b, b/2 and b/4 payload symbols;
b holds every weight of the architecture once. mismatch: planned for 10 dB and met at 0 to 20 dB, static and in slow
fading. First each plan's network is chosen (`grid.plans`), then the trials are run (`grid.trial`); both are kept as
they are finished, in the folder of --out, and a run that was stopped goes on from there. The same options and seeds
give the same rows, however many workers there are.

Of every cell the first --whole-link trials go through the whole link; the others take the fast ways, which the column
`way` names: equivalent noise for analog, the measured waterfalls of the code for digital, both for a hybrid.
"""

import dataclasses
import itertools
import json
import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.models.shipped import ZOO
from airnet_sdr.sim.experiments.grid import trial as trials
from airnet_sdr.sim.experiments.grid.plans import SCHEMES, Place, Plan, data, reference_uses
from airnet_sdr.sim.experiments.grid.trial import Trial, networks_of
from airnet_sdr.sim.experiments.library.networks import folder_of
from airnet_sdr.sim.experiments.library.store import Store
from airnet_sdr.sim.experiments.library.workers import Workers

TRIALS_A_TASK = 4
FAST = {"analog": "equivalent", "hybrid": "equivalent", "digital": "table", "bound": "bound"}


def plans_and_trials(args) -> list[Trial]:
    """The grid that the options describe, without what there are no networks for."""
    place = Place(args.networks, args.data, args.images)
    grid = []
    for arch, seed in itertools.product(args.arch, args.training_seeds):
        if not _there(place, arch, seed):
            continue
        uses = reference_uses(arch)
        for scheme in args.schemes:
            if scheme == "hybrid" and not folder_of(place.networks, arch, scheme, seed).is_dir():
                continue
            if "known" in args.questions:
                for divisor, snr_db in itertools.product(args.budgets, args.snr_db):
                    plan = Plan(arch, scheme, seed, uses // divisor, snr_db)
                    grid += _cell(plan, "static", snr_db, args)
            if "mismatch" in args.questions:
                for plan_snr_db in args.plan_snr_db:
                    plan = Plan(arch, scheme, seed, uses, plan_snr_db)
                    for channel, met in (("static", args.met_snr_db), ("fading", args.fading_snr_db)):
                        grid += [trial for snr_db in met for trial in _cell(plan, channel, snr_db, args)]
    if not grid:
        raise InputError(f"no networks in {args.networks} for {', '.join(args.arch)}; train them with models/train.py")
    return list(dict.fromkeys(grid))


def _cell(plan: Plan, channel: str, snr_db: float, args) -> list[Trial]:
    """The trials of one plan under one condition. The bound is the same for every seed of a static link."""
    num = args.link_seeds if channel == "static" else args.fading_seeds
    if plan.scheme == "bound" and channel == "static":
        num = 1
    fast = FAST[plan.scheme]
    ways = ["link" if seed < args.whole_link and fast != "bound" else fast for seed in range(num)]
    return [Trial(plan, channel, way, snr_db, seed) for seed, way in enumerate(ways)]


def _there(place: Place, arch: str, seed: int) -> bool:
    """Whether there is anything of this architecture and seed to send, and data to measure it on."""
    if not folder_of(place.networks, arch, "clean", seed).is_dir():
        return False
    try:
        data(arch, "train", place.data)
    except InputError as error:
        Console(stderr=True).print(f"[yellow]{arch} is left out: {error}[/]", highlight=False, soft_wrap=True)
        return False
    return True


def choose(plan: Plan, place: Place) -> str | None:
    """The network that a plan sends."""
    return networks_of(place, plan.arch, plan.training_seed).choose(plan)


def run_trials(batch: list[Trial], network: str | None, place: Place) -> list[dict]:
    """The rows of trials of one plan."""
    return [trials.run(trial, network, place) for trial in batch]


def sweep(args, command: str) -> None:
    """Choose, run and keep what is not there yet; then make one table of all."""
    grid = plans_and_trials(args)
    place = Place(args.networks.resolve(), args.data, args.images)
    store = Store(args.out, trials.SCHEMA, trials.KEY)
    settings = json.dumps({"networks": str(args.networks), "images": args.images}, indent=1) + "\n"
    _same_settings(args.out / "settings.json", settings)
    done = {store.key_of(row) for row in store.rows()}
    left = [trial for trial in grid if trial.key not in done]
    choices = _read_choices(args.out / "choices.json")
    (args.out / "command.txt").write_text(command + "\n")
    with _progress() as bar, Workers(args.workers, args.ray_address) as workers:
        plans = list(dict.fromkeys(trial.plan for trial in grid))
        task = bar.add_task("choices", total=len(plans))
        open_plans = [plan for plan in plans if _name(plan) not in choices and any(t.plan == plan for t in left)]
        bar.advance(task, len(plans) - len(open_plans))
        for plan, network in workers.map(choose, ((plan, place) for plan in open_plans)):
            choices[_name(plan[0])] = network
            write_whole(args.out / "choices.json", (json.dumps(choices, indent=1, sort_keys=True) + "\n").encode())
            bar.advance(task)
        task = bar.add_task("trials", total=len(grid), completed=len(grid) - len(left))
        batches = []
        for plan, of_plan in itertools.groupby(left, lambda trial: trial.plan):
            of_plan = list(of_plan)
            parts = (of_plan[i : i + TRIALS_A_TASK] for i in range(0, len(of_plan), TRIALS_A_TASK))
            batches += [(part, choices[_name(plan)], place) for part in parts]
        for _, rows in workers.map(run_trials, batches):
            store.add(rows)
            bar.advance(task, len(rows))
    rows = store.merge()
    print(f"{len(rows)} trials in {store.table}, {len(left)} of them new")


def _same_settings(path: Path, settings: str) -> None:
    """Rows of other networks or images must not get mixed."""
    if path.is_file() and path.read_text() != settings:
        raise InputError(f"{path} is of another sweep ({' '.join(path.read_text().split())}); name another --out")
    path.write_text(settings)


def _read_choices(path: Path) -> dict[str, str | None]:
    return json.loads(path.read_text()) if path.is_file() else {}


def _name(plan: Plan) -> str:
    return " ".join(str(value) for value in dataclasses.astuple(plan))


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), transient=False
    )


def main(argv=None) -> int:
    parser = CommandParser(prog="sweep", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/sweep"), help="folder; what is finished there stays")
    parser.add_argument("--arch", nargs="+", default=["fashion", "cifar"], metavar="NAME", help="architectures")
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, default=list(SCHEMES), metavar="SCHEME")
    parser.add_argument("--questions", nargs="+", choices=["known", "mismatch"], default=["known", "mismatch"])
    parser.add_argument("--networks", type=Path, default=ZOO, help="folder of DATASET/METHOD/seed-N")
    parser.add_argument("--snr-db", type=float, nargs="+", default=list(range(-5, 26, 5)), metavar="D", help="known")
    parser.add_argument("--budgets", type=int, nargs="+", default=[1, 2, 4], metavar="K", help="of b/K symbols; known")
    parser.add_argument("--plan-snr-db", type=float, nargs="+", default=[10], metavar="D", help="mismatch: planned")
    parser.add_argument(
        "--met-snr-db", type=float, nargs="+", default=list(range(0, 21, 2)), metavar="D", help="mismatch: met"
    )
    parser.add_argument(
        "--fading-snr-db", type=float, nargs="+", default=list(range(0, 21, 5)), metavar="D", help="mismatch: mean, met"
    )
    parser.add_argument("--training-seeds", type=int, nargs="+", default=[1, 2, 3], metavar="S")
    parser.add_argument("--link-seeds", type=int, default=3, metavar="K", help="trials of a static cell")
    parser.add_argument("--fading-seeds", type=int, default=8, metavar="K", help="trials of a cell in fading")
    parser.add_argument("--whole-link", type=int, default=1, metavar="K", help="of them over the whole link")
    parser.add_argument("--images", type=int, help="look at the first images only")
    parser.add_argument("--data", metavar="DIR", help="where data sets are looked for first")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes")
    parser.add_argument("--ray-address", metavar="ADDRESS", help="of a Ray cluster; without it, one on this machine")
    args = parser.parse_args(argv)
    args.snr_db, args.plan_snr_db = [float(v) for v in args.snr_db], [float(v) for v in args.plan_snr_db]
    args.met_snr_db, args.fading_snr_db = [float(v) for v in args.met_snr_db], [float(v) for v in args.fading_snr_db]
    if min(args.workers, args.link_seeds, args.fading_seeds, *args.budgets) < 1:
        parser.error("--workers, --link-seeds, --fading-seeds and --budgets must be at least 1")
    command = shlex.join(["python", "sim/sweep.py", *(sys.argv[1:] if argv is None else argv)])
    return run_command(parser, lambda: sweep(args, command))
