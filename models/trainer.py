"""One training run: the training step under the link's weight noise, and the state to resume from.

The methods combine: weight noise as the link makes it (`models.noise`), gradual pruning under it (`models.prune`),
distillation (`models.distill`), and nested networks (`models.ensemble`).
"""

import copy
import math
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.models import prune
from airnet_sdr.models.augment import augment
from airnet_sdr.models.batch_norm import without_statistics
from airnet_sdr.models.checkpoint import load_mean
from airnet_sdr.models.distill import distillation_loss
from airnet_sdr.models.ensemble import from_metadata, grow, narrow, reorder
from airnet_sdr.models.nets import FULL_WIDTHS, build
from airnet_sdr.models.noise import energies, noisy, receive_tensors, straight_through
from airnet_sdr.models.train_config import TrainConfig, learning_rate

PRUNE_STEPS = 40  # between prunings


class Trainer:
    """Weights, averaged weights and momentum of one run, and its training step."""

    def __init__(self, config: TrainConfig):
        torch.manual_seed(config.seed)  # the initial weights
        self.config, self.epoch = config, 0
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.init_metadata: dict[str, str] = {}  # of the initial checkpoint
        self.ordered = False  # whether the channels of each layer are sorted for the members
        if config.init is None:
            self._adopt(build(config.model, config.widths), config.widths)
        else:
            checkpoint = load_mean(config.init).as_architecture(config.model)
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
        self.example: Tensor | None = None

    def _adopt(self, module: nn.Module, widths: tuple[int, ...], average=None, momentum=None) -> None:
        """Continue with this network, of `widths`."""
        self.widths = widths or FULL_WIDTHS.get(self.config.model, ())
        # a fixed memory layout, since noise is drawn in its order
        self.module = module.to(self.device, memory_format=torch.channels_last)
        self.weights = dict(self.module.named_parameters())
        self.average = {name: tensor.detach().clone() for name, tensor in (average or self._tensors()).items()}
        self.optimiser = torch.optim.SGD(
            self.weights.values(),
            momentum=self.config.momentum,
            nesterov=True,
            weight_decay=self.config.weight_decay,
            lr=self.config.learning_rate,
        )
        for name, value in (momentum or {}).items():
            self.optimiser.state[self.weights[name]]["momentum_buffer"] = value
        # the members have no memory of their own: their weights are slices
        config, own = self.config, (self.config.min_snr_db, self.config.max_snr_db)
        ranges = config.nested_snr_db or (own,) * len(config.nested)
        within = [without_statistics(build(config.model, widths).to("meta")) for widths in config.nested]
        self.members = [(None, self.module, own), *zip(config.nested, within, ranges, strict=True)]

    def _tensors(self) -> dict[str, Tensor]:
        """The averaged tensors: weights and batch norm statistics."""
        return {n: tensor.detach() for n, tensor in self.module.state_dict().items() if tensor.is_floating_point()}

    def _momentum(self) -> dict[str, Tensor]:
        return {name: self.optimiser.state[weight]["momentum_buffer"] for name, weight in self.weights.items()}

    def train_epoch(self, images: Tensor, labels: Tensor, answers: Tensor | None = None, advance=lambda: None) -> float:
        """One pass over the training set in random order; returns the mean loss. `answers` are the teacher's logits."""
        config = self.config
        rng = torch.Generator(self.device).manual_seed(config.seed * 1_000_003 + self.epoch)
        self.example, pictures = images[:1], images.ndim == 4 and images.dtype == torch.uint8
        batches = torch.randperm(len(images), generator=rng, device=self.device).split(config.batch_size)
        total_loss = 0.0
        for step, batch in enumerate(batches):
            progress = (self.epoch + step / len(batches)) / config.epochs
            for group in self.optimiser.param_groups:
                group["lr"] = learning_rate(config, progress)
            taught = None if answers is None else answers[batch]
            inputs = augment(images[batch], config.max_shift, rng, config.cutout) if pictures else images[batch]
            total_loss += self.step(inputs, labels[batch], rng, taught)
            if config.prune_to and (step + 1) % PRUNE_STEPS == 0:
                self.prune(progress + 1 / (len(batches) * config.epochs))
            advance()
        self.epoch += 1
        return total_loss / len(batches)

    def step(self, images: Tensor, labels: Tensor, rng: torch.Generator, taught: Tensor | None = None) -> float:
        """One SGD step: the gradient of the loss with noisy weights, at a random SNR, applied to the clean weights."""
        self.optimiser.zero_grad()
        loss = self.backward(images, labels, rng, taught)
        if self.config.prune_to:
            self._gather()
        self.optimiser.step()
        for name, tensor in self._tensors().items():
            self.average[name].lerp_(tensor, 1 / self.config.average_steps)
        return loss

    def backward(self, images: Tensor, labels: Tensor, rng: torch.Generator, taught: Tensor | None = None) -> float:
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
            widths, module, snr_db = self.members[index]
            weights = self.weights if widths is None else narrow(self.weights, config.model, widths)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=config.bf16):
                output = functional_call(module, self._arrived(weights, snr_db, rng), images).float()
            loss = self.task_loss(output, labels, taught)
            loss.backward()
            total += loss.item() / len(chosen)
        return total

    def task_loss(self, output: Tensor, labels: Tensor, taught: Tensor | None) -> Tensor:
        """The loss of the logits against the labels, and the teacher's logits if given."""
        config = self.config
        if taught is None:
            return F.cross_entropy(output, labels, label_smoothing=config.label_smoothing)
        return distillation_loss(output, taught, labels, config.temperature, config.teacher_share)

    def _gather(self) -> None:
        """Add the gradients to their sum since the last pruning."""
        new = {name: weight.grad.clone() for name, weight in self.weights.items()}
        self.gradients = new if self.gradients is None else {n: g + new[n] for n, g in self.gradients.items()}

    def sort_channels(
        self, images: Tensor, labels: Tensor, answers: Tensor | None = None, num_batches: int = 40
    ) -> None:
        """Sort the channels by saliency, once, so that the members have the best channels."""
        if self.ordered:
            return
        rng = torch.Generator(self.device).manual_seed(self.config.seed)
        self.example = images[:1]
        batches = torch.randperm(len(images), generator=rng, device=self.device).split(self.config.batch_size)
        self.optimiser.zero_grad()
        for batch in batches[:num_batches]:
            self.backward(images[batch], labels[batch], rng, None if answers is None else answers[batch])
        self._gather()
        reorder(self.module, prune.saliency(self.module, self.gradients, self.example))
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
            channels = prune.select_channels(config.model, self.module, self.gradients, budget, self.example)
            pruned = [
                prune.remove(self._holding(tensors), channels, self.example)
                for tensors in (self.weights, self.average, self._momentum())
            ]
            widths = tuple(layer.out_channels for layer in prune.convolutions(pruned[0]).values())
            average = {n: t for n, t in pruned[1].state_dict().items() if t.is_floating_point()}
            momentum = {n: p.detach() for n, p in pruned[2].named_parameters()}
            self._adopt(pruned[0], widths, average, momentum)
        self.gradients = None

    def _holding(self, tensors: dict[str, Tensor]) -> nn.Module:
        """A copy of the network with these parameters."""
        module = copy.deepcopy(self.module)  # with the batch norm statistics of the current weights
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
        tensors = {"now": self.module.state_dict(), "average": self.average, "momentum": self._momentum()}
        tensors["extra"] = self.extra_state()
        state = {f"{kind}.{n}": t.cpu().contiguous() for kind, held in tensors.items() for n, t in held.items()}
        facts = {"epoch": self.epoch, "widths": ",".join(map(str, self.widths)), "start": self.num_at_start}
        facts["config"] = repr(self.config)
        write_whole(path, serialise(state, {name: str(fact) for name, fact in facts.items()}))

    def load_state(self, path: Path) -> None:
        """Continue from `path`. Raises InputError if it is missing, damaged or of another recipe."""
        try:
            with safe_open(path, "pt") as state:
                facts = state.metadata()
                if facts["config"] != repr(self.config):
                    raise InputError(f"{path} was made by {facts['config']}; resume with the same options")
                stored: dict[str, dict[str, Tensor]] = {"now": {}, "average": {}, "momentum": {}, "extra": {}}
                for key in state.keys():  # noqa: SIM118 - a safetensors file is no dictionary
                    kind, name = key.split(".", 1)
                    stored[kind][name] = state.get_tensor(key)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path} is no state to resume from ({error}); start anew without --resume") from error
        widths = tuple(int(width) for width in facts["widths"].split(",") if width)
        module = build(self.config.model, widths)
        # copied into the original memory layout: another order of summation would change the rounding
        empty = {name: torch.empty_like(tensor) for name, tensor in module.state_dict().items()}
        average, momentum = (
            {name: empty[name].clone().copy_(tensor).to(self.device) for name, tensor in stored[kind].items()}
            for kind in ("average", "momentum")
        )
        module.load_state_dict(stored["now"])
        self._adopt(module, widths, average, momentum)
        self.load_extra_state(stored["extra"])
        self.epoch, self.num_at_start = int(facts["epoch"]), int(facts["start"])

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
