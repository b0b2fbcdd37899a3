"""Train a network for the link: weight noise over a range of SNR in every step, then one safetensors file.

    python models/train.py --model fashion --out out/fashion --seed 1

writes OUT/MODEL.safetensors, train.log and command.txt, and after every epoch state.safetensors, from which --resume
goes on exactly: an epoch's random numbers follow from (seed, epoch), so the state is weights, their average,
momentum and the epoch alone. The shipped `fashion` was trained twice, the second time from the first one's result with
--init: 29 minutes in all on two cores; models/zoo/fashion has both commands and their log.
"""

import copy
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from rich.progress import Progress
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch.func import functional_call
from torch.nn import functional as F

from dsp.errors import InputError
from dsp.radio.command import CommandParser, run_command
from models.checkpoint import Checkpoint, save, write_whole
from models.checkpoint import load as load_checkpoint
from models.data import load
from models.evaluate import logits, top1
from models.nets import ARCHITECTURES, build
from models.noise import receive_all, straight_through
from models.packing import tensors_of

DATASETS = {"fashion": "fashion-mnist", "fashion-teacher": "fashion-mnist"}


@dataclass(frozen=True)
class TrainConfig:
    """The recipe: SGD with Nesterov momentum under a one-cycle rate, weight noise, flips, shifts, averaged weights."""

    model: str = "fashion"
    seed: int = 1
    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 0.4
    weight_decay: float = 5e-4
    momentum: float = 0.9
    warm_up: float = 0.15  # share of the steps over which the rate rises
    label_smoothing: float = 0.05
    max_shift: int = 1  # pixels
    average_steps: int = 500  # time constant of the averaged weights, which are those kept
    min_snr_db: float = 0.0  # weight SNR after combining, drawn per step, uniform in dB
    max_snr_db: float = 30.0  # infinity: no noise
    init: str | None = None  # a checkpoint to go on from, with this recipe; none: random weights
    bf16: bool = False  # the network's arithmetic in bfloat16: twice as fast on processors that have it
    hold_out: int = 5000  # the last training images are kept for validation, and for nothing else
    limit: int | None = None  # train on the first images only


def learning_rate(config: TrainConfig, progress: float) -> float:
    """Up in a line over the warm-up, then down to nothing in half a cosine; `progress` runs from 0 to 1."""
    if progress < config.warm_up:
        return config.learning_rate * progress / config.warm_up
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - config.warm_up) / (1 - config.warm_up)))


def augment(images: torch.Tensor, max_shift: int, rng: torch.Generator) -> torch.Tensor:
    """Each image (N, C, H, W) shifted by up to `max_shift` pixels both ways, and mirrored half the time."""
    num, _, height, width = images.shape
    padded = F.pad(images, (max_shift,) * 4)
    top, left = torch.randint(0, 2 * max_shift + 1, (2, num, 1), generator=rng)
    rows, columns = top + torch.arange(height), left + torch.arange(width)  # (N, H), (N, W)
    mirrored = torch.rand(num, 1, generator=rng) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    return padded[torch.arange(num)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


class Trainer:
    """Weights, averaged weights and momentum of one run, and the step that moves them."""

    def __init__(self, config: TrainConfig):
        torch.manual_seed(config.seed)  # the initial weights
        self.config, self.epoch = config, 0
        self.module = build(config.model) if config.init is None else load_checkpoint(config.init).module()
        self.weights = dict(self.module.named_parameters())
        self.average = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self.optimiser = torch.optim.SGD(
            self.weights.values(),
            momentum=config.momentum,
            nesterov=True,
            weight_decay=config.weight_decay,
            lr=config.learning_rate,
        )

    def train_epoch(self, images: torch.Tensor, labels: torch.Tensor, advance=lambda: None) -> float:
        """One pass over the training set in random order; returns the mean loss."""
        config = self.config
        rng = torch.Generator().manual_seed(config.seed * 1_000_003 + self.epoch)
        batches = torch.randperm(len(images), generator=rng).split(config.batch_size)
        total_loss = 0.0
        for step, batch in enumerate(batches):
            progress = (self.epoch + step / len(batches)) / config.epochs
            for group in self.optimiser.param_groups:
                group["lr"] = learning_rate(config, progress)
            total_loss += self.step(augment(images[batch], config.max_shift, rng), labels[batch], rng)
            advance()
        self.epoch += 1
        return total_loss / len(batches)

    def step(self, images: torch.Tensor, labels: torch.Tensor, rng: torch.Generator) -> float:
        """The loss of the network as it would arrive at a random SNR, descended in the weights as sent."""
        config, arrived = self.config, self.weights
        if config.max_snr_db < math.inf:
            snr_db = config.min_snr_db + (config.max_snr_db - config.min_snr_db) * torch.rand((), generator=rng).item()
            with torch.no_grad():
                noisy = receive_all(self.weights, 10 ** (snr_db / 10), rng)
            arrived = {name: straight_through(weight, noisy[name]) for name, weight in self.weights.items()}
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
            output = functional_call(self.module, arrived, images)
        loss = F.cross_entropy(output.float(), labels, label_smoothing=config.label_smoothing)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        with torch.no_grad():
            for name, weight in self.weights.items():
                self.average[name].lerp_(weight, 1 / config.average_steps)
        return loss.item()

    def averaged(self) -> torch.nn.Module:
        """A network with the averaged weights, the ones that are kept."""
        module = copy.deepcopy(self.module)  # batch norm's statistics are those of the live weights
        module.load_state_dict(self.average, strict=False)
        return module

    def save_state(self, path: Path) -> None:
        state = {}
        for name, weight in self.weights.items():
            state["weights." + name] = weight.detach().contiguous()
            state["average." + name] = self.average[name].contiguous()
            state["momentum." + name] = self.optimiser.state[weight]["momentum_buffer"].contiguous()
        state |= {"buffer." + name: buffer.contiguous() for name, buffer in self.module.named_buffers()}
        write_whole(path, serialise(state, {"epoch": str(self.epoch), "config": repr(self.config)}))

    def load_state(self, path: Path) -> None:
        """Go on from `path`. Raises InputError when there is nothing there or it is another recipe's."""
        try:
            with safe_open(path, "pt") as state:
                if state.metadata()["config"] != repr(self.config):
                    raise InputError(f"{path} was made by {state.metadata()['config']}; resume with the same options")
                self.epoch = int(state.metadata()["epoch"])
                for name, weight in self.weights.items():
                    weight.data.copy_(state.get_tensor("weights." + name))
                    self.average[name].copy_(state.get_tensor("average." + name))
                    momentum = torch.empty_like(weight).copy_(state.get_tensor("momentum." + name))
                    self.optimiser.state[weight]["momentum_buffer"] = momentum
                for name, buffer in self.module.named_buffers():
                    buffer.copy_(state.get_tensor("buffer." + name))
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"{path} is no state to resume from ({error}); leave --resume out to start anew"
            ) from error


def train(config: TrainConfig, out: Path, command: str, resume: bool = False, data_dir=None) -> Checkpoint:
    """Train as `config` says; everything goes to the folder `out`. Returns the averaged weights."""
    dataset = DATASETS[config.model]
    images, labels = load(dataset, "train", data_dir)
    kept = len(images) - min(config.hold_out, len(images) // 10)
    held_out = images[kept:], labels[kept:]
    images, labels = images[:kept][: config.limit], labels[:kept][: config.limit]
    test_images, test_labels = load(dataset, "test", data_dir)
    trainer, state = Trainer(config), out / "state.safetensors"
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
        task = bar.add_task(config.model, total=num_steps * config.epochs, completed=num_steps * trainer.epoch)
        while trainer.epoch < config.epochs:
            start = time.monotonic()
            loss = trainer.train_epoch(images, labels, lambda: bar.advance(task))
            trainer.save_state(state)
            # The last average is kept whatever it scores; recipes are chosen on these images, never on the test set.
            score = top1(logits(trainer.averaged(), held_out[0]), held_out[1])
            note(
                f"epoch {trainer.epoch:3d}  loss {loss:.4f}  validation accuracy {score:.4f}  "
                f"{time.monotonic() - start:.0f} s"
            )
        module = trainer.averaged()
        score = top1(logits(module, test_images), test_labels)
        checkpoint = Checkpoint(
            config.model, dataset, score, tensors_of(module), {"seed": str(config.seed), "command": command}
        )
        save(out / f"{config.model}.safetensors", checkpoint)
        note(f"test accuracy {score:.4f}; wrote {config.model}.safetensors")
    return checkpoint


def main(argv=None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = CommandParser(prog="train", description=__doc__)
    parser.add_argument("--model", default="fashion", choices=sorted(ARCHITECTURES))
    parser.add_argument("--out", type=Path, required=True, help="folder for the result")
    parser.add_argument("--seed", type=int, default=TrainConfig.seed)
    parser.add_argument("--epochs", type=int, default=TrainConfig.epochs)
    parser.add_argument("--learning-rate", type=float, default=TrainConfig.learning_rate)
    parser.add_argument("--weight-decay", type=float, default=TrainConfig.weight_decay)
    parser.add_argument("--min-snr-db", type=float, default=TrainConfig.min_snr_db)
    parser.add_argument("--max-snr-db", type=float, default=TrainConfig.max_snr_db)
    parser.add_argument("--init", metavar="NAME|PATH", help="a checkpoint to go on from, with this recipe")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16 (weights stay float32)")
    parser.add_argument("--hold-out", type=int, default=TrainConfig.hold_out, help="last images kept for validation")
    parser.add_argument("--limit", type=int, help="train on the first images only")
    parser.add_argument("--resume", action="store_true", help="go on from OUT/state.safetensors")
    parser.add_argument("--data", help="folder of the data set")
    args = vars(parser.parse_args(argv))
    out, resume, data_dir = args.pop("out"), args.pop("resume"), args.pop("data")
    command = " ".join(["python models/train.py", *argv])

    def work():
        train(TrainConfig(**args), out, command, resume, data_dir)

    return run_command("train", work)


if __name__ == "__main__":
    sys.exit(main())
