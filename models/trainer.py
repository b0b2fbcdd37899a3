"""One training run: the training step under the link's weight noise, and the state to resume from.

The methods combine: weight noise as the link makes it (`models.noise`), gradual pruning under it (`models.prune`),
distillation (`models.distill`), and nested networks (`models.ensemble`). Data and loss are those of the task
(`models.task`).
"""

import dataclasses
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models import prune
from airnet_sdr.models.batch_norm import without_statistics
from airnet_sdr.models.batches import Batch, Examples, parts_of, to_device
from airnet_sdr.models.checkpoint import load_mean
from airnet_sdr.models.distill import Answers
from airnet_sdr.models.ensemble import from_metadata, grow, narrow, reorder
from airnet_sdr.models.fixed import fixed_of
from airnet_sdr.models.nets import DATASETS, FULL_WIDTHS, build
from airnet_sdr.models.noise import copied, energies, noisy, receive_tensors, straight_through
from airnet_sdr.models.objective import Objective
from airnet_sdr.models.state import read_state, write_state
from airnet_sdr.models.task import Task, own_code, task_of
from airnet_sdr.models.train_config import MOMENTA, TrainConfig, learning_rate, new_optimiser

PRUNE_STEPS = 40  # between prunings, or an epoch of fewer


class Trainer:
    """Weights, averaged weights and momentum of one run, and its training step.

    task : data and loss; None: the architecture's own
    tracing : how the network is traced for pruning; None: as a shipped architecture
    """

    def __init__(self, config: TrainConfig, task: Task | None = None, tracing: prune.Tracing | None = None):
        torch.manual_seed(config.seed)  # the initial weights
        self.config, self.epoch, self.device = config, 0, config.torch_device
        self.task = task or task_of(DATASETS[config.model])
        self.tracing = tracing and dataclasses.replace(tracing, example=to_device(tracing.example, self.device))
        self.init_metadata: dict[str, str] = {}  # of the initial checkpoint
        self.ordered = False  # whether the channels of each layer are sorted for the members
        self.num_batches = 0  # of an epoch
        if config.init is None:
            self._adopt(build(config.model, config.widths), config.widths)
        else:
            checkpoint = load_mean(config.init, config.model).as_architecture(config.model)
            module, widths = checkpoint.module(), checkpoint.widths
            within = {member.widths for member in from_metadata(checkpoint.metadata, checkpoint.arch)}
            self.ordered = widths in config.nested or within >= set(config.nested)
            if widths in config.nested:
                widths = config.widths or FULL_WIDTHS[config.model]
                module = grow(dict(module.named_parameters()), config.model, widths)
            self._adopt(module, widths)
            self.init_metadata = checkpoint.metadata
        self.num_at_start = sum(weight.numel() for weight in self.weights.values())
        self.gradients: dict[str, Tensor] | None = None

    def _adopt(self, module: nn.Module, widths: tuple[int, ...], average=None, momentum=None) -> None:
        """Continue with this network, of `widths`."""
        self.widths = widths or FULL_WIDTHS.get(self.config.model, ())
        # a fixed memory layout, since noise is drawn in its order; code of the user's own may count on the usual one
        layout = torch.channels_last if self.config.is_shipped else torch.contiguous_format
        self.module = module.to(self.device, memory_format=layout)
        self.weights = {name: each for name, each in self.module.named_parameters() if _is_weight(each)}
        self.objective = Objective(self.module, self.task, self.config)
        self.average = {name: tensor.detach().clone() for name, tensor in (average or self._tensors()).items()}
        self.optimiser = new_optimiser(self.config, self.weights.values())
        for kind, tensors in (momentum or {}).items():
            for name, value in tensors.items():
                self.optimiser.state[self.weights[name]][kind] = value
        if momentum and self.config.optimiser == "adamw":
            for name in momentum["exp_avg"]:
                self.optimiser.state[self.weights[name]]["step"] = torch.tensor(float(self.num_steps))
        # the members have no memory of their own: their weights are slices
        config, own = self.config, (self.config.min_snr_db, self.config.max_snr_db)
        ranges = config.nested_snr_db or (own,) * len(config.nested)
        within = [Objective(self._member(widths), self.task, config) for widths in config.nested]
        self.members = [(None, self.objective, own), *zip(config.nested, within, ranges, strict=True)]

    def _member(self, widths: tuple[int, ...]) -> nn.Module:
        """A nested network, of a user's own architecture with its buffers, otherwise without memory."""
        module = without_statistics(build(self.config.model, widths))
        if self.config.is_shipped:
            return module.to("meta")
        module.load_state_dict(narrow(self.module.state_dict(), self.config.model, widths), strict=False)
        return module.to(self.device)

    def _tensors(self) -> dict[str, Tensor]:
        """The averaged tensors: weights and batch norm statistics."""
        state, fixed = self.module.state_dict(), fixed_of(self.module)
        return {name: each.detach() for name, each in state.items() if _is_weight(each) and name not in fixed}

    def _momentum(self) -> dict[str, dict[str, Tensor]]:
        """The optimiser's tensors by kind and by weight; a weight that no loss depends on has none."""
        states = {name: self.optimiser.state.get(weight, {}) for name, weight in self.weights.items()}
        return {
            kind: {name: state[kind] for name, state in states.items() if kind in state}
            for kind in MOMENTA[self.config.optimiser]
        }

    def train_epoch(self, examples: Examples, answers: Answers | None = None, advance=lambda: None) -> float:
        """One pass over the training examples in random order; returns the mean loss. `answers` are the teacher's."""
        config, seed = self.config, self.config.seed * 1_000_003 + self.epoch
        rng = torch.Generator(self.device).manual_seed(seed)
        own_rng = rng if rng.device.type == "cpu" else torch.Generator().manual_seed(seed)
        self._trace(examples)
        self.module.train()
        batches = self.parts(torch.randperm(len(examples), generator=rng, device=self.device))
        self.num_batches, total_loss = len(batches), 0.0
        for step, indices in enumerate(batches):
            progress = (self.epoch + step / len(batches)) / config.epochs
            for group in self.optimiser.param_groups:
                group["lr"] = learning_rate(config, progress)
            batch = self._augmented(examples.take(indices.cpu()), rng, own_rng)
            taught = None if answers is None else answers(indices, batch)
            total_loss += self.step(batch, rng, taught)
            if config.prune_to and (step + 1) % min(PRUNE_STEPS, len(batches)) == 0:
                self.prune(progress + 1 / (len(batches) * config.epochs))
            advance()
        self.epoch += 1
        return total_loss / len(batches)

    def parts(self, indices: Tensor) -> list[Tensor]:
        """The indices of examples by steps; those of a network of the user's own have no step of one left over."""
        return parts_of(indices, self.config.batch_size, joined=not self.config.is_shipped)

    @property
    def num_steps(self) -> int:
        """Steps of the epochs done."""
        return self.epoch * self.num_batches

    def _trace(self, examples: Examples) -> None:
        if self.tracing is None:
            batch = to_device(examples.take(torch.arange(1)), self.device)
            self.tracing = prune.Tracing(batch, self.task.run)

    def _augmented(self, batch: Batch, rng: torch.Generator, own_rng: torch.Generator) -> Batch:
        """The batch as the user's `augment`, on the CPU, then the recipe's augmentation of images makes it."""
        if self.task.augment is not None:
            with own_code(f"augment of {self.task.name}"):
                batch = self.task.augment(batch, own_rng)
        batch, augmentation = to_device(batch, self.device), self.config.augmentation
        if not augmentation:
            return batch
        if not isinstance(batch, (tuple, list)) or not isinstance(batch[0], Tensor) or batch[0].ndim != 4:
            raise InputError("`max_shift`, `mirror` and `cutout` are for images (N, C, H, W), the first of a batch")
        return (augmentation(batch[0], rng), *batch[1:])

    def step(self, batch: Batch, rng: torch.Generator, taught: list[Tensor] | None = None) -> float:
        """One SGD step: the gradient of the loss with noisy weights, at a random SNR, applied to the clean weights."""
        self.optimiser.zero_grad()
        loss = self.backward(batch, rng, taught)
        if self.config.prune_to:
            self._gather()
        self.optimiser.step()
        for name, tensor in self._tensors().items():
            self.average[name].lerp_(tensor, 1 / self.config.average_steps)
        return loss

    def backward(self, batch: Batch, rng: torch.Generator, taught: list[Tensor] | None = None) -> float:
        """Accumulate the gradient in the weights; returns the mean loss.

        For nested networks, the sum of the gradients of the largest, the smallest and one between, each at an SNR from
        its own range: the SNRs at which it is sent. (With the mean, weight decay would dominate the weights that only
        the largest has.)
        """
        config = self.config
        chosen = list(range(len(self.members)))
        if len(chosen) > config.nested_step:
            always = [0] if config.nested_step == 2 else [0, chosen.pop()]
            drawn = torch.randint(1, len(chosen), (), generator=rng, device=self.device)
            chosen = [*always, int(drawn)]
        total = 0.0
        for index in chosen:
            widths, objective, snr_db = self.members[index]
            weights = self.weights if widths is None else narrow(self.weights, config.model, widths)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=config.bf16):
                loss = objective.at(self._arrived(weights, snr_db, rng), batch, taught)
            with own_code(f"the gradient of {config.model}"):
                loss.backward()
            total += loss.item() / len(chosen)
        return total

    def _gather(self) -> None:
        """Add the gradients to their sum since the last pruning."""
        new = {n: torch.zeros_like(w) if w.grad is None else w.grad.clone() for n, w in self.module.named_parameters()}
        self.gradients = new if self.gradients is None else {n: g + new[n] for n, g in self.gradients.items()}

    def sort_channels(self, examples: Examples, answers: Answers | None = None, num_batches: int = 40) -> None:
        """Sort the channels by saliency, once, so that the members have the best channels.

        Only those of the shipped architectures, which are plain chains of layers.
        """
        if self.ordered or self.config.model not in FULL_WIDTHS:
            return
        rng = torch.Generator(self.device).manual_seed(self.config.seed)
        self._trace(examples)
        batches = torch.randperm(len(examples), generator=rng, device=self.device).split(self.config.batch_size)
        self.optimiser.zero_grad()
        for indices in batches[:num_batches]:
            batch = to_device(examples.take(indices.cpu()), self.device)
            self.backward(batch, rng, None if answers is None else answers(indices, batch))
        self._gather()
        reorder(self.module, prune.saliency(self.module, self.gradients, self.tracing))
        self._adopt(self.module, self.widths)

    def _arrived(self, weights: dict[str, Tensor], snr_db, rng: torch.Generator) -> dict[str, Tensor]:
        """The weights as received at an SNR between the two given, with the gradient of the clean weights."""
        config, (least, most) = self.config, snr_db
        if most == math.inf:
            return weights
        draw, uneven = torch.rand(2, generator=rng, device=self.device).tolist()
        snr = 10 ** ((least + (most - least) * draw) / 10)
        exponent = config.min_uep + (config.uep - config.min_uep) * uneven
        shares = energies({name: weight.numel() for name, weight in weights.items()}, exponent)
        with torch.no_grad():
            received = receive_tensors(weights, {name: snr * share for name, share in shares.items()}, rng)
        return {name: straight_through(weight, received[name]) for name, weight in weights.items()}

    def prune(self, progress: float) -> None:
        """Prune the least salient channels to the schedule's number of weights at `progress` (0 to 1)."""
        config = self.config
        done = min(progress / config.prune_share, 1.0)
        budget = round(self.num_at_start * (config.prune_to / self.num_at_start) ** done)
        if sum(weight.numel() for weight in self.weights.values()) > budget:
            channels = prune.select_channels(self.module, self.gradients, budget, self.tracing)

            def pruned(tensors):
                return prune.remove(self._holding(tensors), channels, self.tracing)

            module = pruned(self.weights)
            average = {n: t for n, t in pruned(self.average).state_dict().items() if n in self.average}
            momentum = {
                kind: {n: p.detach() for n, p in pruned(tensors).named_parameters() if n in tensors}
                for kind, tensors in self._momentum().items()
            }
            self._adopt(module, prune.network_widths(config.model, module), average, momentum)
        self.gradients = None

    def _holding(self, tensors: dict[str, Tensor]) -> nn.Module:
        """A copy of the network with these parameters."""
        module = copied(self.module)  # with the batch norm statistics of the current weights
        module.load_state_dict(tensors, strict=False)
        return module

    def averaged(self) -> nn.Module:
        """A network with the averaged weights: the result."""
        return self._holding(self.average).cpu()

    def arrived(self, module: nn.Module, snr_db: float, rng: torch.Generator) -> nn.Module | None:
        """The result as received, every weight at one SNR; None for training without noise."""
        return None if self.config.max_snr_db == math.inf else noisy(module, 10 ** (snr_db / 10), rng)

    def save_state(self, path: Path) -> None:
        """Write the state from which `load_state` continues exactly."""
        tensors = {"now": self.module.state_dict(), "average": self.average, **self._momentum()}
        facts = {"epoch": self.epoch, "widths": self.widths, "start": self.num_at_start, "batches": self.num_batches}
        write_state(path, self.config, {**tensors, "extra": self.extra_state()}, facts)

    def load_state(self, path: Path) -> None:
        """Continue from `path`. Raises InputError if it is missing, damaged or of another recipe."""
        stored, facts = read_state(path, self.config)
        widths = tuple(facts["widths"])
        module = build(self.config.model, widths)
        # copied into the original memory layout: another order of summation would change the rounding
        empty = {name: torch.empty_like(tensor) for name, tensor in module.state_dict().items()}
        average, *momenta = (
            {name: empty[name].clone().copy_(tensor).to(self.device) for name, tensor in stored.get(kind, {}).items()}
            for kind in ("average", *MOMENTA[self.config.optimiser])
        )
        module.load_state_dict(stored["now"])
        self.epoch, self.num_at_start, self.num_batches = facts["epoch"], facts["start"], facts["batches"]
        self._adopt(module, widths, average, dict(zip(MOMENTA[self.config.optimiser], momenta, strict=True)))
        self.load_extra_state(stored.get("extra", {}))

    def extra_state(self) -> dict[str, Tensor]:
        """Further state of a method, by name."""
        return {}

    def load_extra_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `extra_state`."""

    def status(self) -> str:
        """A method's status text for the log, after an epoch."""
        return ""

    def facts(self) -> dict[str, str]:
        """A method's metadata of the result."""
        return {}


def _is_weight(tensor: Tensor) -> bool:
    """Whether it takes noise and averages: whole numbers do not, nor does nothing."""
    return tensor.numel() > 0 and (tensor.is_floating_point() or tensor.is_complex())
