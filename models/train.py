"""Train a network for the link, with weight noise over a range of SNR, and save it as safetensors.

    python models/train.py --model fashion --out out/fashion --seed 1
    python models/train.py --architecture FILE.py:NAME --out out/mine
    python models/train.py --recipe models/zoo/recipe.toml --only fashion-mnist/shipped

The first two write OUT/MODEL.safetensors, train.log and command.txt, and after every epoch state.safetensors, from
which --resume continues exactly, or for more --epochs: an epoch's random numbers follow from (seed, epoch), so the
state is weights, their average, momentum, widths and the epoch. Methods can be combined: --init, --prune-to, --teacher,
--nested (`models.trainer`), --bits (`models.entropy`). A network of your own is trained by the functions of its file
(`models.task`). A GPU is used if there is one (--device). --recipe runs what is missing of a file of trainings
(`models.recipe`).
"""

import dataclasses
import json
import math
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")
    from airnet_sdr.dsp.host import environment

    environment.begin()

import torch
from rich.progress import Progress
from torch import nn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.files import make_folder
from airnet_sdr.dsp.host.options import add_options, config_from
from airnet_sdr.models import prune
from airnet_sdr.models.batch_norm import measured_statistics, recompute_statistics
from airnet_sdr.models.batches import Examples
from airnet_sdr.models.checkpoint import Checkpoint, save
from airnet_sdr.models.distill import answers_of
from airnet_sdr.models.ensemble import Member, losses_under_noise, narrow, to_metadata
from airnet_sdr.models.entropy import BitTrainer
from airnet_sdr.models.evaluate import evaluate
from airnet_sdr.models.nets import DATASETS, FULL_WIDTHS, build
from airnet_sdr.models.noise import copied
from airnet_sdr.models.packing import exact_of, tensors_of
from airnet_sdr.models.recipe import UNFINISHED, RecipeConfig, run_recipe
from airnet_sdr.models.register import check_apart, resolve_architecture
from airnet_sdr.models.task import Task, task_of
from airnet_sdr.models.train_config import TrainConfig, add_nested_options
from airnet_sdr.models.trainer import Trainer

STATE = "state.safetensors"


@dataclasses.dataclass(frozen=True)
class Training:
    """A training under way: its trainer, its data set and examples, and the folder of its files."""

    trainer: Trainer
    dataset: str
    examples: Examples
    held_back: Examples
    out: Path
    data_dir: str | None

    @property
    def task(self) -> Task:
        """Data, loss and measures."""
        return self.trainer.task

    def prepared(self, module: nn.Module) -> nn.Module:
        """The module, its batch norm statistics measured on the training examples."""
        recompute_statistics(module, self.examples, self.task.run)
        return module

    def choose(self) -> None:
        """Have the trainer keep the best of its candidates, where it has some, on the examples held back."""
        if isinstance(self.trainer, BitTrainer):
            for candidate in self.trainer.candidates():
                module, _ = candidate
                self.trainer.keep(candidate, self.task.mean_loss(self.prepared(module), self.held_back))

    def scores(self, module: nn.Module) -> str:
        """Loss, and a classifier's accuracy, on the examples held back, as text."""
        top1 = self.task.top1(module, self.held_back)
        loss = f"loss {self.task.mean_loss(module, self.held_back):.4f}"
        return loss if top1 is None else f"accuracy {top1:.4f} {loss}"


def train(
    config: TrainConfig, out: Path, command: str, resume: bool = False, data_dir=None, dataset: str | None = None
) -> Checkpoint:
    """Train by `config` on `dataset` (None: the architecture's own) and write all files to the folder `out`.

    Returns the result. Raises InputError for an unknown architecture, or one without data or with too few.
    """
    dataset = dataset or DATASETS.get(config.model)
    if dataset is None:
        raise InputError(f"no data to train {config.model!r} on; give `dataset`, one of {', '.join(sorted(DATASETS))}")
    check_apart(config.model, config.teacher_architecture)
    out, task = make_folder(out), task_of(dataset)
    examples, held_back = task.split(config.hold_out, data_dir)
    if not len(held_back):
        raise InputError(f"the training data of {dataset} are too few to hold any back; give 10 or more")
    examples = examples.first(config.limit)
    config, tracing, remarks = resolve_widths(config, task, examples)
    trainer = (Trainer if config.bits is None else BitTrainer)(config, task, tracing)
    task.mean_loss(copied(trainer.module).cpu(), examples.first(2))  # do loss, outputs and labels fit?
    training = Training(trainer, dataset, examples, held_back, out, data_dir)
    answers = None
    if config.teacher is not None:
        answers = answers_of(config.teacher, task, examples, trainer.device, config.teacher_architecture)
    if resume:
        trainer.load_state(out / STATE)
    (out / "command.txt").write_text(command + "\n")
    num_steps = len(trainer.parts(torch.arange(len(examples))))
    with open(out / "train.log", "a" if resume else "w") as log, Progress() as bar:

        def note(line):
            print(line, file=log, flush=True)
            bar.console.print(line, highlight=False, soft_wrap=True, markup=False)

        for line in (command, f"{config}; torch {torch.__version__}, {torch.get_num_threads()} threads", *remarks):
            note(line)
        if config.nested and trainer.epoch == 0 < config.epochs:
            trainer.sort_channels(examples, answers)
        bar_task = bar.add_task(config.model, total=num_steps * config.epochs, completed=num_steps * trainer.epoch)
        while trainer.epoch < config.epochs:
            start = time.monotonic()
            loss = trainer.train_epoch(examples, answers, lambda: bar.advance(bar_task))
            if not math.isfinite(loss):
                raise InputError(f"the loss is not finite in epoch {trainer.epoch}; lower `learning_rate`")
            training.choose()
            trainer.save_state(out / STATE)
            note(
                f"epoch {trainer.epoch:3d}  loss {loss:.4f}  {progress_of(training)}  {time.monotonic() - start:.0f} s"
            )
        return finish(training, {"seed": str(config.seed), "command": command}, note)


def progress_of(training: Training) -> str:
    """What an epoch achieved, on examples held back: recipes are chosen on these, never on the test set."""
    trainer, config = training.trainer, training.trainer.config
    module = training.prepared(trainer.averaged())
    text = f"validation {training.scores(module)}"
    arrived = trainer.arrived(module, config.min_snr_db, torch.Generator().manual_seed(trainer.epoch))
    if arrived is not None:
        text += f", at {config.min_snr_db:g} dB {training.scores(training.prepared(arrived))}"
    if config.prune_to:
        text += f"  {sum(weight.numel() for weight in module.parameters())} weights"
    return text + trainer.status()


def finish(training: Training, metadata: dict[str, str], note: Callable[[str], None]) -> Checkpoint:
    """Write the result, then again with its accuracy and metrics on the test examples."""
    trainer, task = training.trainer, training.task
    config, path = trainer.config, training.out / f"{trainer.config.model}.safetensors"
    module = trainer.averaged()
    if config.half:
        module = module.half().float()  # all results are those of the stored network
    module = training.prepared(module)
    top1 = task.top1(module, training.held_back)
    if top1 is not None:
        metadata |= {"validation": f"{top1:.4f}"}
    metadata |= {**trainer.facts(), "validation_loss": f"{task.mean_loss(module, training.held_back):.6f}"}
    members = []
    for widths in (trainer.widths, *config.nested) if config.nested else ():
        member = build(config.model, widths)
        member.load_state_dict(narrow(module.state_dict(), config.model, widths), strict=False)
        training.prepared(member)
        score = evaluate(member, training.dataset, training.data_dir).accuracy
        members.append(Member(widths, score, losses_under_noise(member, task, training.held_back)))
    metadata |= to_metadata(members) if members else {}
    own = () if trainer.widths == FULL_WIDTHS.get(config.model, ()) else trainer.widths
    exact = {} if config.is_shipped else exact_of(module)
    exact = {name: each for name, each in exact.items() if name.rpartition(".")[2] != "num_batches_tracked"}
    checkpoint = Checkpoint(
        config.model, training.dataset, None, tensors_of(module), metadata, own, measured_statistics(module), exact
    )
    save(path, dataclasses.replace(checkpoint, metadata=metadata | {UNFINISHED: "the test"}), config.half)
    found = evaluate(module, training.dataset, training.data_dir)
    if found.metrics:
        metadata |= {"metrics": json.dumps(found.metrics)}
    checkpoint = dataclasses.replace(checkpoint, accuracy=found.accuracy, metadata=metadata)
    save(path, checkpoint, config.half)
    results = {"accuracy": found.accuracy, **(found.metrics or {})}
    shown = ", ".join(f"{name} {value:.4f}" for name, value in results.items() if value is not None)
    note(f"test {shown or 'not measured'}; wrote {path.name}")
    return checkpoint


def resolve_widths(
    config: TrainConfig, task: Task, examples: Examples
) -> tuple[TrainConfig, prune.Tracing | None, list[str]]:
    """The config with the widths of nested networks that were given by a share of the channels; how an own network is
    traced for pruning; and remarks on what cannot be pruned."""
    shared = [each for each in config.nested if _is_share(each)]
    if not shared and (config.model in FULL_WIDTHS or not config.prune_to):
        return config, None, []
    module, remarks = build(config.model, config.widths), []
    tracing = prune.Tracing(examples.take(torch.arange(min(2, len(examples)))), task.run)
    if config.model not in FULL_WIDTHS:
        tracing, stay = prune.prunable(module, tracing)
        remarks = [f"not pruned: {name}, since {reason}" for name, reason in stay.items()]
        if not tracing.layers:
            raise InputError(f"no channel of {config.model} can be pruned: {'; '.join(remarks)}")
    nested = tuple(
        prune.uniform_widths(config.model, module, each[0], tracing) if _is_share(each) else each
        for each in config.nested
    )
    return dataclasses.replace(config, nested=nested), tracing, remarks


def _is_share(widths: tuple[float, ...]) -> bool:
    return len(widths) == 1 and 0 < widths[0] < 1


def check_result(out: Path, model: str) -> None:
    """Raise InputError where a training of that model has left its result or its state."""
    for name, what in ((f"{model}.safetensors", "a result"), (STATE, "a stopped training")):
        if (out / name).is_file():
            raise InputError(
                f"{out} has {what}, {name}; give `resume` to go on, `force` to train anew, or another `out`"
            )


def add_run_options(parser) -> None:
    """Offer where a training finds its data and puts its files, and what it does with those that are there."""
    parser.add_argument(
        "--architecture", metavar="FILE.py:NAME", help="your own network, returned by NAME() (default: --model)"
    )
    parser.add_argument("--dataset", help="data set to train on (default: the architecture's own)")
    parser.add_argument("--out", help="output folder; needed, but for --recipe")
    parser.add_argument(
        "--resume", action="store_true", help="continue from OUT/state.safetensors, also for more --epochs"
    )
    parser.add_argument("--force", action="store_true", help="train anew where OUT has a result or a stopped training")
    parser.add_argument(
        "--data", dest="data_dir", metavar="DIR", help="folder searched first for the data set (default: none)"
    )


def main(argv=None) -> int:
    """Parse and train."""
    argv = sys.argv[1:] if argv is None else argv
    parser = CommandParser(prog="train", description=__doc__)
    add_options(parser, TrainConfig)
    add_nested_options(parser)
    add_run_options(parser)
    add_options(parser.add_argument_group("recipe"), RecipeConfig)
    options = parser.options(argv)
    command = shlex.join(["python", "models/train.py", *map(str, argv)])

    def work():
        if "recipe" in options:
            given = {field.name for field in dataclasses.fields(TrainConfig)} & options.keys()
            run_recipe(config_from(RecipeConfig, options), {name: options[name] for name in given})
            return
        if options["out"] is None:
            raise InputError("`out` is missing; name the folder for the result")
        own = {} if options["architecture"] is None else {"model": resolve_architecture(options["architecture"])}
        config = config_from(TrainConfig, options, **own)
        if not options["resume"] and not options["force"]:
            check_result(Path(options["out"]), config.model)
        train(config, options["out"], command, options["resume"], options["data_dir"], options["dataset"])

    def how_to_go_on():
        if "recipe" in options:
            return "the same command goes on"
        there = options["out"] is not None and (Path(options["out"]) / STATE).is_file()
        anew = [each for each in argv if each not in ("--resume", "--force")]
        return f"go on with: {shlex.join(['python', 'models/train.py', *anew, '--resume'])}" if there else ""

    return run_command(parser, work, how_to_go_on)


if __name__ == "__main__":
    sys.exit(main())
