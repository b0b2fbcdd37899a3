"""Analog against digital at equal payload and power: a grid of trials in simulation, on Ray.

    python sim/sweep.py --out out/sweep
    python sim/experiments/figures.py --trials out/sweep/trials.parquet --out out/sweep

Two experiments. known: every scheme is planned for the channel's SNR, for budgets of b, b/2 and b/4 payload symbols; b
holds every weight of the architecture once. mismatch: planned for 10 dB and received at 0 to 20 dB, static and in slow
fading. First each plan's network is selected (`grid.plans`), then the trials are run (`grid.trial`). Both are stored in
the folder of --out when finished, and a stopped run continues from there. The same options and seeds give the same
rows for any number of workers.

In every cell the first --whole-link trials run the whole link; the others use the faster simulations that the column
`way` names: equivalent noise for analog, the measured waterfalls of the code for digital, both for a hybrid.
"""

import dataclasses
import itertools
import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.dsp.host.options import add_options, config_from, option
from airnet_sdr.sim.experiments.grid.plans import SCHEMES, Place, Plan, reference_uses
from airnet_sdr.sim.experiments.grid.trial import KEY, SCHEMA, Trial, networks_of, run_trial
from airnet_sdr.sim.experiments.library.config import ExperimentConfig
from airnet_sdr.sim.experiments.library.images import load_held_out_images
from airnet_sdr.sim.experiments.library.networks import folder_of
from airnet_sdr.sim.experiments.library.store import Store
from airnet_sdr.sim.experiments.library.workers import Workers

TRIALS_A_TASK = 4
FAST = {"analog": "equivalent", "hybrid": "equivalent", "digital": "table", "bound": "bound"}


QUESTIONS = ("known", "mismatch")


@dataclass(frozen=True)
class GridConfig(ExperimentConfig):
    """The cells of the grid, the trials of each, the workers, and the output folder."""

    link_seeds: int = option(3, "trials of a static cell", 1, metavar="K")
    fading_seeds: int = option(8, "trials of a cell in fading", 1, metavar="K")
    whole_link: int = option(1, "number of these trials over the whole link", 0, metavar="K")
    out: Path = option(Path("out/sweep"), "output folder; finished rows are kept", metavar="DIR")
    arch: tuple[str, ...] = option(("fashion", "cifar"), "architectures")
    schemes: tuple[str, ...] = option(SCHEMES, "schemes to compare", choices=SCHEMES)
    questions: tuple[str, ...] = option(QUESTIONS, "see above", choices=QUESTIONS)
    snr_db: tuple[float, ...] = option(tuple(range(-5, 26, 5)), "known: SNR of plan and channel", metavar="D")
    budgets: tuple[int, ...] = option((1, 2, 4), "known: budgets of b/K symbols", 1, metavar="K")
    plan_snr_db: tuple[float, ...] = option((10,), "mismatch: SNR of the plan", metavar="D")
    met_snr_db: tuple[float, ...] = option(tuple(range(0, 21, 2)), "mismatch: SNR of the static channel", metavar="D")
    fading_snr_db: tuple[float, ...] = option(
        tuple(range(0, 21, 5)), "mismatch: mean SNR of the fading channel", metavar="D"
    )
    workers: int = option(2, "processes", 1)
    ray_address: str | None = option(None, "address of a Ray cluster (default: one on this machine)", metavar="ADDRESS")

    @property
    def place(self) -> Place:
        """Folders of networks and images, for the workers."""
        return Place(self.networks.resolve(), self.data_dir, self.images)


def plans_and_trials(config: GridConfig) -> list[Trial]:
    """The trials of the grid, without cells that lack networks or images."""
    grid = []
    for arch, seed in itertools.product(config.arch, config.training_seeds):
        if not _can_run(config.place, arch, seed):
            continue
        uses = reference_uses(arch)
        for scheme in config.schemes:
            if scheme == "hybrid" and not folder_of(config.networks, arch, scheme, seed).is_dir():
                continue
            if "known" in config.questions:
                for divisor, snr_db in itertools.product(config.budgets, config.snr_db):
                    plan = Plan(arch, scheme, seed, uses // divisor, snr_db)
                    grid += _cell(plan, "static", snr_db, config)
            if "mismatch" in config.questions:
                for plan_snr_db in config.plan_snr_db:
                    plan = Plan(arch, scheme, seed, uses, plan_snr_db)
                    for channel, met in (("static", config.met_snr_db), ("fading", config.fading_snr_db)):
                        grid += [trial for snr_db in met for trial in _cell(plan, channel, snr_db, config)]
    if not grid:
        raise InputError(
            f"no networks in {config.networks} for {', '.join(config.arch)}; train them with models/train.py"
        )
    return list(dict.fromkeys(grid))


def _cell(plan: Plan, channel: str, snr_db: float, config: GridConfig) -> list[Trial]:
    """The trials of one plan on one channel. The bound is the same for every seed of a static link."""
    num = config.link_seeds if channel == "static" else config.fading_seeds
    if plan.scheme == "bound" and channel == "static":
        num = 1
    fast = FAST[plan.scheme]
    ways = ["link" if seed < config.whole_link and fast != "bound" else fast for seed in range(num)]
    return [Trial(plan, channel, way, snr_db, seed) for seed, way in enumerate(ways)]


def _can_run(place: Place, arch: str, seed: int) -> bool:
    """Whether this architecture and seed have a network, and images to evaluate it."""
    if not folder_of(place.networks, arch, "clean", seed).is_dir():
        return False
    try:
        load_held_out_images(arch, 1, place.data_dir)
    except InputError as error:
        Console(stderr=True).print(f"[yellow]{arch} is left out: {error}[/]", highlight=False, soft_wrap=True)
        return False
    return True


def select_network(plan: Plan, place: Place) -> str | None:
    """The network selected for a plan."""
    return networks_of(place, plan.arch, plan.training_seed).select_network(plan)


def run_trials(batch: list[Trial], network: str | None, place: Place) -> list[dict]:
    """The rows of trials of one plan."""
    return [run_trial(trial, network, place) for trial in batch]


def sweep(config: GridConfig, command: str) -> None:
    """Select networks, run the trials without stored rows, then write one table of all rows."""
    grid = plans_and_trials(config)
    store = Store(config.out, SCHEMA, KEY)
    settings = json.dumps({"networks": str(config.networks), "images": config.images}, indent=1) + "\n"
    _check_settings(config.out / "settings.json", settings)
    done = {store.key_of(row) for row in store.rows()}
    left = [trial for trial in grid if trial.key not in done]
    (config.out / "command.txt").write_text(command + "\n")
    with _progress() as bar, Workers(config.workers, config.ray_address) as workers:
        choices = _select_networks(config, grid, left, workers, bar)
        task = bar.add_task("trials", total=len(grid), completed=len(grid) - len(left))
        for _, rows in workers.map(run_trials, _batches(left, choices, config.place)):
            store.add(rows)
            bar.advance(task, len(rows))
    rows = store.merge()
    print(f"{len(rows)} trials in {store.table}, {len(left)} of them new")


def _select_networks(config: GridConfig, grid: list[Trial], left: list[Trial], workers: Workers, bar: Progress):
    """The network of each plan, by the plan's name; each selection is stored in choices.json."""
    path = config.out / "choices.json"
    choices: dict[str, str | None] = json.loads(path.read_text()) if path.is_file() else {}
    plans, wanted = list(dict.fromkeys(trial.plan for trial in grid)), {trial.plan for trial in left}
    open_plans = [plan for plan in plans if plan in wanted and _name(plan) not in choices]
    task = bar.add_task("choices", total=len(plans), completed=len(plans) - len(open_plans))
    for (plan, _), network in workers.map(select_network, ((plan, config.place) for plan in open_plans)):
        choices[_name(plan)] = network
        write_whole(path, (json.dumps(choices, indent=1, sort_keys=True) + "\n").encode())
        bar.advance(task)
    return choices


def _batches(left: list[Trial], choices: dict[str, str | None], place: Place) -> list[tuple]:
    """The arguments of `run_trials` for each task of a worker."""
    batches = []
    for plan, group in itertools.groupby(left, lambda trial: trial.plan):
        of_plan = list(group)
        parts = (of_plan[i : i + TRIALS_A_TASK] for i in range(0, len(of_plan), TRIALS_A_TASK))
        batches += [(part, choices[_name(plan)], place) for part in parts]
    return batches


def _check_settings(path: Path, settings: str) -> None:
    """Refuse to mix rows of different networks or images."""
    if path.is_file() and path.read_text() != settings:
        raise InputError(f"{path} belongs to another sweep ({' '.join(path.read_text().split())}); name another --out")
    path.write_text(settings)


def _name(plan: Plan) -> str:
    return " ".join(str(value) for value in dataclasses.astuple(plan))


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), transient=False
    )


def main(argv=None) -> int:
    """Parse and sweep."""
    argv = sys.argv[1:] if argv is None else argv
    parser = CommandParser(prog="sweep", description=__doc__)
    add_options(parser, GridConfig)
    options = parser.options(argv)
    command = shlex.join(["python", "sim/sweep.py", *argv])
    return run_command(parser, lambda: sweep(config_from(GridConfig, options), command))
