"""Analog against digital at equal payload and power: a grid of trials in simulation, on Ray.

    python sim/sweep.py --out out/sweep
    python sim/experiments/figures.py --trials out/sweep/trials.parquet --out out/sweep
    python sim/sweep.py --architecture FILE.py:NAME --model W.safetensors --questions known --out out/mine

Two experiments. known: every scheme is planned for the channel's SNR, for budgets of b, b/2 and b/4 payload symbols; b
holds every weight of the architecture once. mismatch: planned for 10 dB and received at 0 to 20 dB, static and in slow
fading. First each plan's network is selected (`grid.plans`), then the trials are run (`grid.trial`). Both are stored in
the folder of --out when finished, and a stopped run continues from there. The same options and seeds give the same
rows for any number of workers.

With --model one network is sent: as analog symbols, and as bits, quantised; both by sensitivity.json beside it where
there is one, or by size where that loses less on training examples held back. Otherwise the networks are those of a
folder such as models/zoo, for an architecture of your own in DIR/NAME/METHOD/seed-N. Then the figures are drawn at
once.

In every cell the first --whole-link trials run the whole link; the others use the faster simulations that the column
`way` names: equivalent noise for analog, the measured waterfalls of the code for digital, both for a hybrid.
"""

import dataclasses
import itertools
import json
import shlex
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.dsp.host.options import add_options, config_from, option
from airnet_sdr.dsp.host.workers import Workers
from airnet_sdr.models.checkpoint import load
from airnet_sdr.models.register import resolve_architecture
from airnet_sdr.sim.experiments.grid.plans import SCHEMES, Plan, reference_uses, single_uses
from airnet_sdr.sim.experiments.grid.trial import KEY, SCHEMA, Trial, networks_of, run_trial
from airnet_sdr.sim.experiments.library.config import ExperimentConfig
from airnet_sdr.sim.experiments.library.networks import folder_of
from airnet_sdr.sim.experiments.library.panels import draw_figures
from airnet_sdr.sim.experiments.library.place import Place
from airnet_sdr.sim.experiments.library.store import Store, check_settings

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
    model: Path | None = option(None, "the one network to send (default: those of --networks)", metavar="W.safetensors")
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

    def __post_init__(self):
        super().__post_init__()
        if self.model is not None and self.model.suffix != ".safetensors":
            raise InputError(f"`model` must be a file W.safetensors; got {str(self.model)!r}")

    @property
    def place(self) -> Place:
        """The networks and the data, for the workers."""
        file, colon, name = (self.architecture or "").rpartition(":")
        architecture = f"{Path(file).resolve()}:{name}" if colon else self.architecture
        return Place((self.model or self.networks).resolve(), self.data_dir, self.images, architecture)

    @property
    def archs(self) -> tuple[str, ...]:
        """The architectures of the grid."""
        own = resolve_architecture(self.architecture)
        if own is not None:
            return (own,)
        return self.arch if self.model is None else (load(self.model).arch,)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The training seeds; 0 stands for that of a single network."""
        return self.training_seeds if self.model is None else (0,)


def plans_and_trials(config: GridConfig) -> list[Trial]:
    """The trials of the grid, without cells that lack networks or images."""
    grid = []
    for arch, seed in itertools.product(config.archs, config.seeds):
        if not config.place.has(arch, seed):
            continue
        if config.model is None:
            uses = reference_uses(arch)
        else:
            levels = (*config.snr_db, *config.plan_snr_db)
            uses = single_uses(config.model, arch, levels, config.data_dir)
        for scheme in config.schemes:
            hybrids = folder_of(config.networks, arch, scheme, seed)
            if scheme == "hybrid" and (config.model is not None or not hybrids.is_dir()):
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
            f"no networks in {config.networks} for {', '.join(config.archs)}; train them with models/train.py"
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
    settings = {"networks": str(config.model or config.networks), "images": config.images}
    settings |= {} if config.model is None else {"crc": f"{zlib.crc32(config.model.read_bytes()):08x}"}
    check_settings(config.out, settings)
    done = {store.key_of(row) for row in store.rows()}
    left = [trial for trial in grid if trial.key not in done]
    (config.out / "command.txt").write_text(command + "\n")
    files, place = config.place.for_workers(config.ray_address, {trial.plan.arch for trial in grid})
    with _progress() as bar, Workers(config.workers, config.ray_address, files) as workers:
        choices = _select_networks(config, place, grid, left, workers, bar)
        task = bar.add_task("trials", total=len(grid), completed=len(grid) - len(left))
        for _, rows in workers.map(run_trials, _batches(left, choices, place)):
            store.add(rows)
            bar.advance(task, len(rows))
    rows = store.merge()
    print(f"{len(rows)} trials in {store.table}, {len(left)} of them new")
    if config.architecture is not None or config.model is not None:
        print(draw_figures(rows, config.out))


def _select_networks(
    config: GridConfig, place: Place, grid: list[Trial], left: list[Trial], workers: Workers, bar: Progress
) -> dict[str, str | None]:
    """The network of each plan, by the plan's name; each selection is stored in choices.json."""
    path = config.out / "choices.json"
    choices: dict[str, str | None] = json.loads(path.read_text()) if path.is_file() else {}
    plans, wanted = list(dict.fromkeys(trial.plan for trial in grid)), {trial.plan for trial in left}
    open_plans = [plan for plan in plans if plan in wanted and _name(plan) not in choices]
    task = bar.add_task("choices", total=len(plans), completed=len(plans) - len(open_plans))
    for (plan, _), network in workers.map(select_network, ((plan, place) for plan in open_plans)):
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
