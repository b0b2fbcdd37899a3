"""Training for a number of bits: every step quantises the weights, and the loss contains a price for their entropy.

Each tensor has a uniform step D. The network computes with D·round(w/D). Its gradient passes to w unchanged (Bengio,
Léonard and Courville, Estimating or propagating gradients through stochastic neurons, 2013) and to D as
round(w/D) − w/D per weight (Esser et al., Learned step size quantization, 2020). The loss is

    task + price · R,   R = sum over weights of the code length at w/D,

where the code length of level k is −log2 of its current share in the tensor, interpolated linearly between levels
(entropy-constrained quantisation: Chou, Lookabaugh and Gray, IEEE Trans. ASSP 37(1), 1989). Weights move to frequent
levels, mostly to 0, and steps grow where that costs little. A controller sets the price so that the entropy follows a
target, which falls from the initial entropy to the requested bits. The coder's context models need fewer bits than this
entropy; the ratio is measured after every epoch.

Weights near the middle between two levels go to and fro until the end of a training (Nagel et al., Overcoming
oscillations in quantization-aware training, 2022), so that of a few bits a weight neither the averaged weights nor the
last ones need be the best. With `best` every epoch's are measured on the examples held back, and the best ones kept.

For a hybrid (`refine`) the network computes with D·round(w/D) + r, where r is the residual w − D·round(w/D) received at
a random SNR (`models.noise`); the gradients are the same, and the network learns to use r.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from airnet_sdr.models.batches import Batch, Examples
from airnet_sdr.models.digital import compress
from airnet_sdr.models.digital.quantise import MAX_LEVEL, Quantised, dequantise, step_value, steps_of
from airnet_sdr.models.digital.scheme import on_grid, quantise_to_fit
from airnet_sdr.models.distill import Answers
from airnet_sdr.models.noise import copied, receive_weights, straight_through
from airnet_sdr.models.packing import load_vectors, tensors_of, to_vectors
from airnet_sdr.models.prune import Tracing
from airnet_sdr.models.task import Task
from airnet_sdr.models.train_config import TrainConfig, learning_rate
from airnet_sdr.models.trainer import Trainer

FIRST_STEP = 0.5  # of a tensor's RMS
STEP_RATE = 0.004  # octaves by which a step changes at most in a training step
FIRST_PRICE = 1e-6  # of a bit
INTEGRAL, PROPORTIONAL = 0.005, 8.0  # gains of the price's controller, per octave of entropy above the target
SHARE = 0.5  # share of the training over which the target falls
KEPT, LOSS, STEPS = "kept.", "its loss", "its steps"  # names in the state; parameters' have no blanks
PARTS, REACH = 8, 3  # a hybrid's weights lie on eighths of a step, and at most three from their levels


class Quantiser:
    """The steps of a network's tensors, in octaves, and the price per bit: the state of training for bits."""

    def __init__(self, weights: dict[str, Tensor], steps: list[float] | None = None):
        if steps is None:
            steps = [
                FIRST_STEP * max(weight.detach().square().mean().sqrt().item(), 1e-12) for weight in weights.values()
            ]
        device = next(iter(weights.values())).device
        self.log_steps = torch.tensor(steps, device=device).log2().requires_grad_()  # (tensors,)
        self.price = self.price_now = FIRST_PRICE
        self.saved = 1.0  # the coder's bits over the entropy
        with torch.no_grad():
            self.bits_at_start = float(self(weights)[1])

    def __call__(self, weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The quantised weights, their entropy in bits, and its differentiable counterpart R."""
        quantised, entropy, smooth = {}, torch.zeros(()), torch.zeros(())
        for (name, weight), step in zip(weights.items(), 2**self.log_steps, strict=True):
            scaled = weight / step
            levels = scaled.detach().round().clamp(-MAX_LEVEL, MAX_LEVEL)
            quantised[name] = step * straight_through(scaled, levels)
            top = int(levels.abs().max()) + 1
            counts = torch.bincount((levels + top).long().flatten(), minlength=2 * top + 1)
            lengths = math.log2(weight.numel() + top + 0.5) - (counts + 0.5).log2()
            entropy = entropy + counts.float() @ lengths.detach()
            below = scaled.detach().clamp(-top, top - 1e-3).floor()
            at = (below + top).long()
            smooth = smooth + (lengths[at] + (scaled - below) * (lengths[at + 1] - lengths[at])).sum()
        return quantised, entropy, smooth

    def control(self, entropy: float, num_bits: int, progress: float, rate: float) -> None:
        """Move the steps by their gradients' signs, ``rate`` times STEP_RATE, and set the price for the next step.

        ``progress`` (0 to 1) of the training determines the target entropy.
        """
        done = min(progress / SHARE, 1.0)
        target = self.bits_at_start * (num_bits / self.saved / self.bits_at_start) ** done
        with torch.no_grad():
            self.log_steps -= STEP_RATE * rate * self.log_steps.grad.sign()
        self.log_steps.grad = None
        above = max(-0.5, min(math.log2(entropy / target), 0.5))
        self.price *= 2 ** (INTEGRAL * above)
        self.price_now = self.price * 2 ** (PROPORTIONAL * above)

    @property
    def steps(self) -> list[float]:
        """The step of every tensor."""
        return (2**self.log_steps).tolist()

    def state(self) -> dict[str, Tensor]:
        """The state from which `load_state` continues exactly."""
        numbers = torch.tensor([self.price, self.price_now, self.saved, self.bits_at_start], dtype=torch.float64)
        return {"log_steps": self.log_steps.detach(), "numbers": numbers}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        self.log_steps = state["log_steps"].to(self.log_steps.device).requires_grad_()
        self.price, self.price_now, self.saved, self.bits_at_start = state["numbers"].tolist()


class BitTrainer(Trainer):
    """`Trainer` for a network compressed to ``config.bits``, without weight noise.

    With ``config.refine`` it trains a hybrid: the quantisation residual arrives as analog symbols, in noise, and the
    network computes with the sum.
    """

    def __init__(self, config: TrainConfig, task: Task | None = None, tracing: Tracing | None = None):
        super().__init__(config, task, tracing)
        self.quantiser = Quantiser(self.weights, steps_of(self.init_metadata))
        self.kept: dict[str, Tensor] = {}  # of `best`: the weights by name, LOSS, and STEPS as codes
        self._done = 0

    def train_epoch(self, examples: Examples, answers: Answers | None = None, advance=lambda: None) -> float:
        """Train an epoch, then adapt the price of a bit to the size that was asked for."""
        self._done = 0
        loss = super().train_epoch(examples, answers, advance)
        with torch.no_grad():
            entropy = float(self.quantiser(self.weights)[1])
        coded = compress.encode(on_grid(list(tensors_of(self.module).values()), self.quantiser.steps))
        self.quantiser.saved = 8 * len(coded) / entropy
        return loss

    def backward(self, batch: Batch, rng: torch.Generator, taught: list[Tensor] | None = None) -> float:
        """Accumulate the gradient of the loss including the price of the bits; returns the loss without the price."""
        config, quantiser = self.config, self.quantiser
        weights, entropy, smooth = quantiser(self.weights)
        if config.refine:
            left = {name: (self.weights[name] - weight).detach() for name, weight in weights.items()}
            left = self._arrived(left, (config.min_snr_db, config.max_snr_db), rng)
            weights = {name: weight + left[name] for name, weight in weights.items()}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.bf16):
            loss = self.objective.at(weights, batch, taught)
        (loss + quantiser.price_now * smooth).backward()
        progress = (self.epoch + self._done / self.num_batches) / config.epochs
        quantiser.control(float(entropy), config.bits, progress, learning_rate(config, progress) / config.learning_rate)
        self._done += 1
        return loss.item()

    def averaged(self) -> nn.Module:
        """The result of the training: the averaged weights, quantised to fit the bits, or the best network kept.

        For a hybrid the weights keep their residuals, limited so that quantisation finds the same levels again, on a
        grid that fits a byte.
        """
        if self._is_kept:
            return self._holding(self.kept).cpu()
        module = super().averaged()
        if not self.config.refine:
            return self._quantised(module)[0]
        levels, kept = self.fitted(module), []
        for weights, tensor in zip(to_vectors(tensors_of(module)), levels, strict=True):
            base, part = dequantise(tensor), step_value(tensor.step_code) / PARTS
            kept.append(base + np.float32(part) * np.rint((weights - base) / part).clip(-REACH, REACH))
        return load_vectors(module, kept)

    def candidates(self) -> list[tuple[nn.Module, Tensor]]:
        """With `best` the averaged weights and the present ones, both quantised to fit; and their steps' codes."""
        modules = (super().averaged(), copied(self.module).cpu()) if self.config.best else ()
        return [self._quantised(module) for module in modules]

    def _quantised(self, module: nn.Module) -> tuple[nn.Module, Tensor]:
        """The module with its weights on levels that fit the bits, in place, and the codes of their steps."""
        levels = self.fitted(module)
        codes = torch.tensor([tensor.step_code for tensor in levels])
        return load_vectors(module, [dequantise(tensor) for tensor in levels]), codes

    def keep(self, candidate: tuple[nn.Module, Tensor], loss: float) -> None:
        """Keep a candidate of the least loss so far, or the first one after a pruning."""
        if not self._is_kept or loss < self.kept[LOSS].item():
            module, codes = candidate
            weights = {name: tensor.detach().clone() for name, tensor in module.named_parameters()}
            self.kept = weights | {LOSS: torch.tensor(loss), STEPS: codes}

    @property
    def _is_kept(self) -> bool:
        """Whether there is a network of the present widths."""
        return all(name in self.kept and self.kept[name].shape == each.shape for name, each in self.weights.items())

    def arrived(self, module: nn.Module, snr_db: float, rng: torch.Generator) -> nn.Module | None:
        """A hybrid with its residual received at one SNR; None for a purely digital network, which arrives exactly."""
        if not self.config.refine:
            return None
        base = [dequantise(tensor) for tensor in self.fitted(module)]
        left = [torch.from_numpy(w - b) for w, b in zip(to_vectors(tensors_of(module)), base, strict=True)]
        noisy = [receive_weights(weights, 10 ** (snr_db / 10), rng).numpy() for weights in left]
        return load_vectors(copied(module), [b + r for b, r in zip(base, noisy, strict=True)])

    def fitted(self, module: nn.Module) -> list[Quantised]:
        """The module's tensors as levels that fit the bits."""
        return quantise_to_fit(list(tensors_of(module).values()), self.quantiser.steps, self.config.bits // 8)

    def status(self) -> str:
        """Size and price, for the line of an epoch."""
        with torch.no_grad():
            entropy = float(self.quantiser(self.weights)[1])
        return f"  {self.quantiser.saved * entropy:.0f} bits at a price of {self.quantiser.price:.1e}"

    def facts(self) -> dict[str, str]:
        """Metadata of the result: the compressed bits and the steps."""
        if self._is_kept:
            steps = [step_value(code) for code in self.kept[STEPS].tolist()]
            tensors = on_grid(list(tensors_of(self.averaged()).values()), steps)
        else:
            tensors = self.fitted(super().averaged())
        codes = ",".join(str(tensor.step_code) for tensor in tensors)
        parts = {"parts": str(PARTS)} if self.config.refine else {}
        return {"bits": str(8 * len(compress.encode(tensors))), "steps": codes, **parts}

    def extra_state(self) -> dict[str, Tensor]:
        """The quantiser's state, kept beside the weights where training is stopped."""
        return self.quantiser.state() | {f"{KEPT}{name}": tensor for name, tensor in self.kept.items()}

    def load_extra_state(self, state: dict[str, Tensor]) -> None:
        """Continue from an `extra_state`."""
        self.kept = {name.removeprefix(KEPT): each for name, each in state.items() if name.startswith(KEPT)}
        self.quantiser.load_state(state)
