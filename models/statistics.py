"""Batch norm's statistics without inputs at the receiver: predicted from made-up inputs.

Noise on the weights moves each channel's log variance and its normalised mean, mean/deviation. Most of that move is
seen on any inputs. So sender and receiver pass the same *made-up inputs*, drawn from a fixed seed, through the network:
the sender as it sends it, the receiver as it arrived. They are smooth random fields, or dead leaves, overlapping discs
and boxes, which are more like pictures (Lee, Mumford, Huang: Occlusion models for natural images, IJCV 2001). What real
inputs differ by is sent,

    a = log v - log v_made,    b = m/√v - m_made/√v_made,

two numbers a channel, and the receiver adds them to what it finds on the made-up inputs. v is the variance plus the
layer's eps, by whose root batch norm divides: b stays small where the variance alone is next to nothing. That the
made-up inputs resemble the real ones in mean and deviation is enough: the noise itself is seen on both alike. Without
them a and b are the statistics themselves, which fit weights without noise alone; so are those of layers that are not
batch norm's.
"""

import copy
import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from airnet_sdr.dsp.errors import LinkError
from airnet_sdr.models.batch_norm import call, measurable, recompute_statistics, statistics_of
from airnet_sdr.models.batches import Examples

NUM_MADE = 250  # inputs: one batch
NUM_INPUTS = 5000  # real ones, of a sender that measures
MOST_NUMBERS = 1 << 24  # of all real inputs, or of the made-up ones: large inputs are fewer
MOST_ACTIVATIONS = 1 << 27  # numbers of the largest output of a layer for all made-up inputs: half a gigabyte
MOST_UNSEEN = 1 << 24  # of one for one input, where shapes alone do not tell it
NUM_TRIED, SMALL_INPUT = 2, 1 << 15  # inputs that tell it, two, as some networks squeeze; numbers of a small one
GRID = 5  # random numbers along each spatial axis
WHITE = 0.1  # share of the power of fields
NUM_LEAVES, LEAF_SIZES = 30, (0.05, 0.8)  # of an input; of its width, inversely as frequent as their squares
LEAF_ALIKE, LEAF_WHITE = 0.9, 0.02  # correlation of its channels, share of white noise
LEAST_EPS = 1e-12
_SEED = 20210524


@dataclasses.dataclass(frozen=True)
class MadeUp:
    """Shape, dtype, mean and deviation of inputs: what made-up ones need to know of real ones; and their kind."""

    shape: tuple[int, ...]
    is_bytes: bool
    mean: float
    std: float
    leaves: bool = False

    @property
    def possible(self) -> bool:
        """Whether such inputs can be drawn."""
        finite = np.isfinite([self.mean, self.std]).all() and self.std >= 0
        return bool(finite and 1 <= len(self.shape) <= 4 and 1 <= math.prod(self.shape) <= MOST_NUMBERS / 8)

    @property
    def is_colour(self) -> bool:
        """Whether they may be pictures in colour."""
        return len(self.shape) == 3 and self.shape[0] == 3

    @property
    def most(self) -> int:
        """Inputs that are drawn for a network of small activations."""
        return few(NUM_MADE, math.prod(self.shape))

    @property
    def dtype(self) -> torch.dtype:
        """That of the inputs."""
        return torch.uint8 if self.is_bytes else torch.float32

    def draw(self, num: int | None = None) -> Tensor:
        """``num`` (None: `most`) inputs (N, ...): `fields`, or `leaves`.

        The first axis is that of channels, up to three others are spatial.
        """
        num, rng = self.most if num is None else num, np.random.default_rng(_SEED)
        drawn = (leaves if self.leaves else fields)(num, self.shape, rng) * self.std + self.mean
        return drawn.clamp(0, 255).to(torch.uint8) if self.is_bytes else drawn


def fields(num: int, shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    """Normal random numbers (num, *shape): smooth ones, from a coarse grid interpolated along the axes of space, with a
    share of white ones, so that no filter's output vanishes."""
    channels, *space = shape
    field = _normal(rng, num, channels, *(min(GRID, size) for size in space))
    if not space:
        return field
    mode = ("linear", "bilinear", "trilinear")[len(space) - 1]
    field = F.interpolate(field, size=tuple(space), mode=mode, align_corners=False)
    return math.sqrt(1 - WHITE) * field + math.sqrt(WHITE) * _normal(rng, num, *shape)


def leaves(num: int, shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    """Dead leaves (num, *shape), of mean 0 and variance 1: boxes and discs of all sizes, each of one colour, one upon
    the other, with a share of white noise."""
    channels, *space = shape
    places = [
        torch.arange(size).reshape([-1 if i == axis else 1 for i in range(len(space))]) / size
        for axis, size in enumerate(space)
    ]
    alone = (num, 1) + (1,) * len(space)
    least, most = (1 / size for size in LEAF_SIZES)
    drawn = torch.zeros(num, *shape)
    for i in range(NUM_LEAVES):
        size = 1 / (most + _uniform(rng, *alone) * (least - most))
        # from the centre in sizes, those of the axes apart by e^±0.4
        away = [(place - _uniform(rng, *alone)) / (size * torch.exp(0.4 * _normal(rng, *alone))) for place in places]
        if i % 2:
            covered = functools.reduce(torch.add, [each.square() for each in away]) < 0.25
        else:
            covered = functools.reduce(torch.logical_and, [each.abs() < 0.5 for each in away])
        common, own = _normal(rng, *alone), _normal(rng, num, channels, *alone[2:])
        colour = math.sqrt(LEAF_ALIKE) * common + math.sqrt(1 - LEAF_ALIKE) * own
        torch.where(covered, colour, drawn, out=drawn)
    drawn = math.sqrt(1 - LEAF_WHITE) * drawn + math.sqrt(LEAF_WHITE) * _normal(rng, num, *shape)
    return drawn / drawn.std()


def _normal(rng: np.random.Generator, *shape: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))


def _uniform(rng: np.random.Generator, *shape: int) -> Tensor:
    return torch.from_numpy(rng.random(shape, dtype=np.float32))


def made_up(inputs) -> MadeUp | None:
    """The made-up inputs that stand for real ones (N, ...), None for inputs that they cannot stand for."""
    if not isinstance(inputs, Tensor) or not 2 <= inputs.ndim <= 5:
        return None
    if inputs.dtype != torch.uint8 and not inputs.is_floating_point():
        return None
    values = inputs.double()
    found = MadeUp(tuple(inputs.shape[1:]), inputs.dtype == torch.uint8, float(values.mean()), float(values.std()))
    return found if found.possible else None


def few(num: int, numel: int) -> int:
    """At most ``num`` inputs of ``numel`` numbers, so many that all together are MOST_NUMBERS or fewer."""
    return max(1, min(num, MOST_NUMBERS // max(numel, 1)))


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Log of variance plus eps, and normalised mean, of all channels (2, num_channels) float64, layer after layer."""

    values: np.ndarray

    @classmethod
    def of(cls, module: nn.Module) -> "Statistics":
        """The running statistics of a module."""
        state, names = module.state_dict(), statistics_of(module)
        arrays = [state[name].detach().cpu().double().numpy().reshape(-1) for name in names]
        if not arrays:
            return cls(np.zeros((2, 0)))
        means, totals = np.concatenate(arrays[::2]), np.concatenate(arrays[1::2]) + _eps_of(module)
        return cls(np.stack([np.log(totals), means / np.sqrt(totals)]))

    def load(self, module: nn.Module) -> None:
        """Make them the running statistics of ``module``, in place."""
        eps, state, names = _eps_of(module), module.state_dict(), statistics_of(module)
        totals = np.maximum(np.exp(np.minimum(self.values[0], 60)), eps)
        means, bounds = self.values[1] * np.sqrt(totals), np.cumsum(channels_of(module))[:-1]
        pairs = zip(np.split(means, bounds), np.split(totals - eps, bounds), strict=True)
        parts = [part for pair in pairs for part in pair]
        loaded = {
            name: torch.from_numpy(part.astype(np.float32)).reshape(state[name].shape)
            for name, part in zip(names, parts, strict=True)
        }
        module.load_state_dict(loaded, strict=False)


def channels_of(module: nn.Module) -> list[int]:
    """Channels of each layer that has running statistics."""
    state = module.state_dict()
    return [state[name].numel() for name in statistics_of(module)[::2]]


def _eps_of(module: nn.Module) -> np.ndarray:
    """The eps of each channel's layer, float64 (num_channels,): LEAST_EPS or more, and that of layers without one."""
    layers = dict(module.named_modules(remove_duplicate=False))
    own = [getattr(layers.get(name.rpartition(".")[0]), "eps", None) for name in statistics_of(module)[::2]]
    eps = [max(each, LEAST_EPS) if isinstance(each, float) else LEAST_EPS for each in own]
    return np.repeat(np.array(eps, float), channels_of(module))


def measured_channels(module: nn.Module) -> np.ndarray:
    """Of each channel whether its statistics are measured, bool (num_channels,), or stay as they are."""
    moved = measurable(module)
    found = [
        np.full(num, name in moved) for name, num in zip(statistics_of(module)[::2], channels_of(module), strict=True)
    ]
    return np.concatenate([np.zeros(0, bool), *found])


def predicted(module: nn.Module, made: MadeUp, difference: np.ndarray | None = None) -> np.ndarray:
    """The statistics of ``module`` on made-up inputs (2, num_channels), 0 of those that are not measured.

    These are what they are in the module, or become the ``difference`` that came for them. Changes the module's.
    """
    is_measured = measured_channels(module)
    if difference is not None and not is_measured.all():
        Statistics(np.where(is_measured, Statistics.of(module).values, difference)).load(module)
    if not is_measured.any():
        return np.zeros((2, is_measured.size))
    inputs = made.draw(num_bearable(module, made))
    return np.where(is_measured, measure(module, inputs).values, 0.0)


def load_predicted(module: nn.Module, difference: np.ndarray, made: MadeUp | None) -> None:
    """Make what a sender's ``difference`` (2, num_channels) predicts the running statistics of ``module``, in place."""
    values = difference.astype(float)
    Statistics(values if made is None else values + predicted(module, made, values)).load(module)


def num_bearable(module: nn.Module, made: MadeUp) -> int:
    """Made-up inputs that the module is measured on, the same at both ends: `MadeUp.most`, or fewer, so that the
    largest output of a layer has at most MOST_ACTIVATIONS numbers for all; LinkError if it has more for one.

    It is found with NUM_TRIED inputs, of large ones by a copy of the module without memory. One that does more than its
    layers may not run there, and gets real ones.
    """
    inputs, counter = torch.zeros(NUM_TRIED, *made.shape, dtype=made.dtype), _Largest(MOST_ACTIVATIONS)
    is_large = math.prod(made.shape) > SMALL_INPUT  # for others this is quicker than what the first such copy imports
    if not (is_large and _takes(lambda: _without_memory(module), inputs.to("meta"), counter)):
        counter.most = MOST_UNSEEN
        counter.check()
        _takes(lambda: module, inputs, counter)
    return max(1, min(made.most, MOST_ACTIVATIONS // max(counter.numel, 1)))


@dataclasses.dataclass
class _Largest:
    """A forward hook of all layers that finds the largest output, its numbers for one input, at most ``most``."""

    most: int
    numel: int = 0

    def __call__(self, layer: nn.Module, inputs: tuple, output: object) -> None:
        """Count a layer's output, or several."""
        outputs = output if isinstance(output, (tuple, list)) else (output,)
        sizes = [-(-each.numel() // NUM_TRIED) for each in outputs if isinstance(each, Tensor)]
        self.numel = max([self.numel, *sizes])
        self.check()

    def check(self) -> None:
        """Raise LinkError if the largest output is too large."""
        if self.numel > self.most:
            raise LinkError(f"a layer has {self.numel} activations for one input, {self.most} is the most")


@torch.no_grad()
def _takes(build: Callable[[], nn.Module], inputs: Tensor, counter: _Largest) -> bool:
    """Whether the module that is built takes the inputs, its layers' outputs counted.

    A module may raise anything; where the inputs are wrong, it does so again when it is measured.
    """
    hooks: list = []
    try:
        module = build()
        hooks, was_training = [layer.register_forward_hook(counter) for layer in module.modules()], module.training
        with inputs.device:
            call(module.eval(), inputs)
        module.train(was_training)
    except LinkError:
        raise
    except Exception:
        return False
    finally:
        for hook in hooks:
            hook.remove()
    return True


def _without_memory(module: nn.Module) -> nn.Module:
    """A copy of the module whose parameters and buffers are shapes alone."""
    shapes: dict[int, object] = {id(buffer): buffer.to("meta") for buffer in module.buffers()}
    for weight in module.parameters():
        shapes[id(weight)] = nn.Parameter(weight.detach().to("meta"), weight.requires_grad)
    return copy.deepcopy(module, shapes)


def measure(module: nn.Module, inputs: Tensor | Examples, run: Callable = call) -> Statistics:
    """The statistics of ``module`` on unlabelled inputs, passed through it by ``run``; they become its running ones."""
    recompute_statistics(module, inputs, run)
    return Statistics.of(module)
