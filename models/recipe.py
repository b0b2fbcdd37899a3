"""Recipes: a TOML file of trainings and what each needs, of which those that are missing are run, on Ray.

    out = "out/mine"                      # folder of the results

    [defaults]                            # options of all: fields of `TrainConfig`, and architecture, dataset
    architecture = "mine.py:network"
    epochs = 20

    [training.clean]
    max_snr_db = inf

    [training."noise-{seed}"]
    seeds = [1, 2, 3]                     # one training for each, its name, needs and output with the seed put in
    init = "clean"                        # a training of this file, or a checkpoint; several in a list
    teacher = ["clean"]
    output = "noise/seed-{seed}.safetensors"  # in the folder; otherwise NAME/MODEL.safetensors

A training writes its log and its state to the folder's NAME/, and last its output. What has its output is done, what
was stopped goes on from its state. `reuse` names a folder of outputs made before, which stand for those missing here.
"""

import dataclasses
import graphlib
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from safetensors import SafetensorError, safe_open

from airnet_sdr.dsp.errors import InputError, one_line
from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.dsp.host.options import check_fields, option
from airnet_sdr.dsp.host.workers import Workers
from airnet_sdr.models.train_config import TrainConfig

OWN = ("architecture", "dataset", "output", "seeds")  # options of a training beside those of `TrainConfig`
NEEDS = ("init", "teacher")
UNFINISHED = "unfinished"  # metadata of a result that was saved before its test


@dataclasses.dataclass(frozen=True)
class RecipeConfig:
    """The file of trainings, which of them to run, and where."""

    recipe: Path = option(None, "run the trainings of this file that are missing (default: none)", metavar="FILE.toml")
    only: tuple[str, ...] = option((), "these trainings or outputs, and what they need (default: all)", metavar="NAME")
    reuse: Path | None = option(None, "folder of outputs that need not be made again (default: none)", metavar="DIR")
    recipe_out: Path | None = option(None, "folder of the results (default: the file's `out`)", metavar="DIR")
    recipe_data: str | None = option(None, "folder searched first for data sets (default: none)", metavar="DIR")
    workers: int = option(1, "trainings at once", 1)
    ray_address: str | None = option(None, "address of a Ray cluster (default: one on this machine)", metavar="ADDRESS")

    def __post_init__(self):
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class Training:
    """A training of a recipe: its name, the options of `TrainConfig`, and its own: architecture, dataset, output."""

    name: str
    options: dict[str, Any]
    output: str
    architecture: str | None = None
    dataset: str | None = None

    @property
    def needs(self) -> list[str]:
        """The trainings or checkpoints from which it starts or learns."""
        found = []
        for name in NEEDS:
            value = self.options.get(name, [])
            found += [value] if isinstance(value, str) else list(value)
        return found


def read_recipe(path: Path) -> tuple[Path, dict[str, Training]]:
    """The folder of the results, and the trainings by name. Raises InputError naming the fault."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path} cannot be read as TOML: {one_line(error)}") from error
    odd = sorted(content.keys() - {"out", "defaults", "training"})
    if odd or not isinstance(content.get("training"), dict) or not content["training"]:
        raise InputError(f"{path} must have out, defaults and trainings as [training.NAME]; got {odd or 'no training'}")
    found: dict[str, Training] = {}
    for pattern, own in content["training"].items():
        options = {**content.get("defaults", {}), **own}
        for seed in options.get("seeds", [None]):
            training = _training(path, pattern, options, seed)
            if training.name in found:
                raise InputError(f"{path} has two trainings {training.name!r}; a name with seeds needs {{seed}}")
            found[training.name] = training
    return Path(content.get("out", "out")), found


def _training(path: Path, pattern: str, options: dict, seed: int | None) -> Training:
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    odd = sorted(options.keys() - known - set(OWN))
    if odd:
        raise InputError(f"{path}: {pattern} has no option {odd[0]!r}; the options are those of TrainConfig")

    def put(value):
        if isinstance(value, list):
            return [put(each) for each in value]
        return value.replace("{seed}", str(seed)) if isinstance(value, str) and seed is not None else value

    options = {name: put(value) for name, value in options.items()} | ({} if seed is None else {"seed": seed})
    own = {name: options.pop(name, None) for name in OWN}
    name, architecture = put(pattern), own["architecture"]
    model = options.get("model", "fashion") if architecture is None else architecture.rpartition(":")[2]
    return Training(name, options, own["output"] or f"{name}/{model}.safetensors", architecture, own["dataset"])


def missing(
    trainings: dict[str, Training], only: Iterable[str], is_there: Callable[[str, bool], bool]
) -> dict[str, set[str]]:
    """The trainings to run, and those among them that each waits for, by name.

    only : names or outputs, with or without .safetensors, or folders of them; none: all
    is_there : whether a training's output is there, and, if the flag is set, may be one made before
    Raises InputError for a name that is in no training, or trainings that need each other.
    """
    targets = set(trainings)
    if only:
        targets = set()
        for each in only:
            found = {name for name, training in trainings.items() if _is_named(training, each)}
            if not found:
                raise InputError(f"no training is called {each!r}; there are: {', '.join(list(trainings)[:8])}, …")
            targets |= found
    graph: dict[str, set[str]] = {}
    left = [name for name in targets if not is_there(name, False)]
    while left:
        name = left.pop()
        if name not in graph:
            needs = {each for each in trainings[name].needs if each in trainings}
            graph[name] = {each for each in needs if not is_there(each, each not in targets)}
            left += graph[name]
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        raise InputError(f"trainings need each other: {' -> '.join(error.args[1])}; break the circle") from error
    return graph


def _is_named(training: Training, text: str) -> bool:
    places = {training.name, training.output, training.output.removesuffix(".safetensors")}
    return any(place == text or place.startswith(text.rstrip("/") + "/") for place in places)


def is_finished(path: Path) -> bool:
    """Whether this is the file of a training that came to its end. Raises InputError for no safetensors file."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, "np") as file:
            return UNFINISHED not in (file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} is no result of a training ({error}); remove it") from error


def run_recipe(config: RecipeConfig, over: Mapping[str, Any] = {}) -> None:  # noqa: B006
    """Run the trainings that are missing, each when what it needs is there; options ``over`` go over those of all."""
    out, trainings = read_recipe(config.recipe)
    trainings = {name: dataclasses.replace(each, options={**each.options, **over}) for name, each in trainings.items()}
    out = (config.recipe_out or out).resolve()

    def place(name: str) -> Path:
        """The output of a training: in the folder, or made before."""
        output = trainings[name].output
        before = None if config.reuse is None else config.reuse.resolve() / output
        return before if before is not None and before.is_file() and not (out / output).is_file() else out / output

    def is_there(name: str, before: bool) -> bool:
        return is_finished(place(name) if before else out / trainings[name].output)

    graph = missing(trainings, config.only, is_there)
    print(f"{len(trainings)} trainings, {len(graph)} of them to run, in {out}", flush=True)
    if not graph:
        return
    calls = {}
    for name, waits_for in graph.items():
        places = {each: str(out / trainings[each].output if each in waits_for else place(each)) for each in trainings}
        calls[name] = (trainings[name], places, out, f"{config.recipe}", config.recipe_data)
    console = Console()
    with Workers(config.workers, config.ray_address) as workers:
        for number, (name, line) in enumerate(workers.map_graph(run_training, calls, graph), 1):
            console.print(f"{number} of {len(graph)}: {name}: {line}", highlight=False, soft_wrap=True, markup=False)


def run_training(training: Training, places: dict[str, str], out: Path, recipe: str, data_dir: str | None) -> str:
    """Run one training, from its state if it was stopped; returns the last line of its log.

    places : the outputs of all trainings by name
    """
    from airnet_sdr.models.register import resolve_architecture
    from airnet_sdr.models.train import STATE, train  # here, as it imports this module

    folder, options = out / training.name, dict(training.options)
    for name in NEEDS:
        if name in options:
            named = [options[name]] if isinstance(options[name], str) else options[name]
            options[name] = ",".join(places.get(each, each) for each in named)
    if training.architecture is not None:
        options["model"] = resolve_architecture(training.architecture)
    config = TrainConfig(**options)
    command = f"python models/train.py --recipe {recipe} --only {training.name}"
    resume = (folder / STATE).is_file()
    train(config, folder, command, resume, data_dir, training.dataset)
    made, output = folder / f"{config.model}.safetensors", out / training.output
    if made != output:
        write_whole(output, made.read_bytes())
    return (folder / "train.log").read_text().splitlines()[-1]
