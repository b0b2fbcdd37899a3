"""Train a network for the link, with weight noise over a range of SNR, and save it as safetensors.

    python models/train.py --model fashion --out out/fashion --seed 1

writes OUT/MODEL.safetensors, train.log and command.txt, and after every epoch state.safetensors, from which --resume
continues exactly: an epoch's random numbers follow from (seed, epoch), so the state is weights, their average,
momentum, widths and the epoch. Methods can be combined: --init, --prune-to, --teacher, --nested (`models.trainer`),
--bits (`models.entropy`). A GPU is used if there is one. The shipped `fashion` was trained in two stages, the second
with --init from the first: 29 minutes in all on two cores; models/zoo/fashion-mnist/shipped/seed-1 has both commands
and their logs.
"""

import argparse
import math
import sys
import time
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")
    from airnet_sdr.dsp.host import environment

    environment.set_defaults()

import torch
from rich.progress import Progress

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.options import add_options, config_from
from airnet_sdr.models.batch_norm import measured_statistics, recompute_statistics
from airnet_sdr.models.checkpoint import Checkpoint, save
from airnet_sdr.models.data import load
from airnet_sdr.models.distill import teacher_logits
from airnet_sdr.models.ensemble import Member, accuracies_under_noise, narrow, to_metadata
from airnet_sdr.models.entropy import BitTrainer
from airnet_sdr.models.evaluate import logits, top1
from airnet_sdr.models.nets import DATASETS, FULL_WIDTHS, build
from airnet_sdr.models.packing import tensors_of
from airnet_sdr.models.register import resolve_architecture
from airnet_sdr.models.train_config import TrainConfig
from airnet_sdr.models.trainer import Trainer


def train(
    config: TrainConfig, out: Path, command: str, resume: bool = False, data_dir=None, dataset: str | None = None
) -> Checkpoint:
    """Train by `config` on `dataset` (None: the architecture's own) and write all files to the folder `out`.

    Returns the averaged weights. Raises InputError for an unknown architecture, or one without data.
    """
    dataset = dataset or DATASETS.get(config.model)
    if dataset is None:
        raise InputError(f"no data to train {config.model!r} on; give `dataset`, one of {', '.join(sorted(DATASETS))}")
    images, labels = load(dataset, "train", data_dir)
    kept = len(images) - min(config.hold_out, len(images) // 10)
    held_out = images[kept:], labels[kept:]
    images, labels = images[:kept][: config.limit], labels[:kept][: config.limit]
    test_set = load(dataset, "test", data_dir)
    trainer, state = (Trainer if config.bits is None else BitTrainer)(config), out / "state.safetensors"
    taught = None if config.teacher is None else teacher_logits(config.teacher, images).to(trainer.device)
    images, labels = images.to(trainer.device), labels.to(trainer.device)
    if resume:
        trainer.load_state(state)
    out.mkdir(parents=True, exist_ok=True)
    (out / "command.txt").write_text(command + "\n")
    num_steps = math.ceil(len(images) / config.batch_size)
    with open(out / "train.log", "a" if resume else "w") as log, Progress() as bar:

        def note(line):
            print(line, file=log, flush=True)
            bar.console.print(line, highlight=False, soft_wrap=True)

        note(command)
        note(f"{config}; torch {torch.__version__}, {torch.get_num_threads()} threads")
        if config.nested and trainer.epoch == 0 < config.epochs:
            trainer.sort_channels(images, labels, taught)
        task = bar.add_task(config.model, total=num_steps * config.epochs, completed=num_steps * trainer.epoch)
        while trainer.epoch < config.epochs:
            start = time.monotonic()
            loss = trainer.train_epoch(images, labels, taught, lambda: bar.advance(task))
            if not math.isfinite(loss):
                raise InputError(f"the loss is not finite in epoch {trainer.epoch}; lower `learning_rate`")
            trainer.save_state(state)
            # The last average is the result; recipes are chosen on these images, never on the test set.
            module = trainer.averaged()
            recompute_statistics(module, images.cpu())
            scores = f"{top1(logits(module, held_out[0]), held_out[1]):.4f}"
            arrived = trainer.arrived(module, config.min_snr_db, torch.Generator().manual_seed(trainer.epoch))
            if arrived is not None:
                recompute_statistics(arrived, images.cpu())
                scores += f", at {config.min_snr_db:g} dB {top1(logits(arrived, held_out[0]), held_out[1]):.4f}"
            size = f"  {sum(weight.numel() for weight in module.parameters())} weights" if config.prune_to else ""
            size += trainer.status()
            note(
                f"epoch {trainer.epoch:3d}  loss {loss:.4f}  validation accuracy {scores}{size}  "
                f"{time.monotonic() - start:.0f} s"
            )
        checkpoint = finished(
            trainer, dataset, images.cpu(), held_out, test_set, {"seed": str(config.seed), "command": command}
        )
        save(out / f"{config.model}.safetensors", checkpoint, config.half)
        note(f"test accuracy {checkpoint.accuracy:.4f}; wrote {config.model}.safetensors")
    return checkpoint


def finished(trainer: Trainer, dataset: str, images, held_out, test_set, metadata: dict[str, str]) -> Checkpoint:
    """The result of a training: the averaged weights, their accuracy, and that of each member.

    Batch norm statistics are measured on `images`.
    """
    arch, widths, module = trainer.config.model, trainer.widths, trainer.averaged()
    if trainer.config.half:
        module = module.half().float()  # all results are those of the stored network
    recompute_statistics(module, images)
    members = []
    for each in (widths, *trainer.config.nested) if trainer.config.nested else ():
        member = build(arch, each)
        member.load_state_dict(narrow(module.state_dict(), arch, each), strict=False)
        recompute_statistics(member, images)
        score = top1(logits(member, test_set[0]), test_set[1])
        members.append(Member(each, score, accuracies_under_noise(member, *held_out)))
    if members:
        metadata = {**metadata, **to_metadata(members)}
    metadata = {**metadata, **trainer.facts(), "validation": f"{top1(logits(module, held_out[0]), held_out[1]):.4f}"}
    score = top1(logits(module, test_set[0]), test_set[1])
    own = () if widths == FULL_WIDTHS.get(arch, ()) else widths
    return Checkpoint(arch, dataset, score, tensors_of(module), metadata, own, measured_statistics(module))


def widths_from(text: str) -> tuple[int, ...]:
    """Widths from the command line: integers separated by commas."""
    return tuple(int(width) for width in text.split(","))


def range_from(text: str) -> tuple[float, ...]:
    """A range from the command line: two numbers separated by a comma."""
    return tuple(float(number) for number in text.split(","))


def add_nested_options(parser) -> None:
    """Offer the widths of networks and the SNRs of nested ones, lists separated by commas."""
    nothing = argparse.SUPPRESS
    parser.add_argument(
        "--widths", type=widths_from, default=nothing, metavar="W,W...",
        help="widths of the network, also for one that grows from --init (default: full widths)",
    )  # fmt: skip
    parser.add_argument(
        "--nested", type=widths_from, action="append", default=nothing, metavar="W,W...",
        help="also train a nested network of these widths; repeatable; the largest grows from an --init of such widths",
    )  # fmt: skip
    parser.add_argument(
        "--nested-snr-db", type=range_from, action="append", default=nothing, metavar="LEAST,MOST",
        help="range of weight SNR for each --nested, in the same order (default: as for the largest)",
    )  # fmt: skip


def main(argv=None) -> int:
    """Parse and train."""
    argv = sys.argv[1:] if argv is None else argv
    parser = CommandParser(prog="train", description=__doc__)
    add_options(parser, TrainConfig)
    add_nested_options(parser)
    parser.add_argument("--architecture", metavar="FILE.py:NAME", help="your own network, returned by NAME()")
    parser.add_argument("--dataset", help="data set to train on (default: the architecture's own)")
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--resume", action="store_true", help="continue from OUT/state.safetensors")
    parser.add_argument("--data", dest="data_dir", metavar="DIR", help="folder searched first for the data set")
    options = parser.options(argv)
    command = " ".join(["python models/train.py", *argv])

    def work():
        own = {} if options["architecture"] is None else {"model": resolve_architecture(options["architecture"])}
        config = config_from(TrainConfig, options, **own)
        train(config, options["out"], command, options["resume"], options["data_dir"], options["dataset"])

    return run_command(parser, work)


if __name__ == "__main__":
    sys.exit(main())
