"""Sensitivity of each tensor: the measured increase of the loss by noise on its weights.

    python models/sensitivity.py --model fashion

writes sensitivity.json beside the checkpoint. Damage is the increase of the mean cross-entropy on training images
when one tensor arrives at SNR s instead of without error, the others at a background SNR. At low SNR damages are not
additive, so several backgrounds are measured. Plans with a nearly clean background proved best: at -3 dB per symbol
88.2 % on 3,000 test images over 10 draws of weight noise, against 85.5 % with a background of -3 dB and 56.9 % without
UEP; at 0 dB 90.6 % with any background against 87.1 % without UEP.

The alternative without noise is the Hessian trace: for small errors of variance v in each of n weights the loss grows
by v/2 tr(H) (Dong et al., HAWQ-V2, 2020), so damage = 1/2 tr(H) / n |w - m|² / (1 + S), with tr(H) by
Hutchinson's estimator.
"""

import dataclasses
import functools
import json
import sys
from dataclasses import dataclass
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")
    from airnet_sdr.dsp.host import environment

    environment.set_defaults()

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.dsp.host.options import add_options, check_fields, config_from, option
from airnet_sdr.dsp.units import linear
from airnet_sdr.models.batch_norm import normalised_by_batch
from airnet_sdr.models.checkpoint import Checkpoint, load, locate
from airnet_sdr.models.data import load as load_data
from airnet_sdr.models.noise import receive_weights

SNR_GRID_DB = tuple(range(-10, 30, 5))
BACKGROUND_DB = (-5, 0, 5, 10, 20)
TEMPERATURES = tuple(np.geomspace(1 / 8, 8, 37).tolist())

ARRAYS = ("snr_grid_db", "background_db", "damages", "hessian")  # fields of a Sensitivity


@dataclass(frozen=True)
class Sensitivity:
    """Damages of tensors `names` (L,) over `snr_grid_db` (G,): `damages` (B, L, G), measured with the others at
    `background_db` (B,), and `hessian` (L, G), by the trace. `made` is the command that made the file."""

    names: tuple[str, ...]
    snr_grid_db: np.ndarray
    background_db: np.ndarray
    damages: np.ndarray
    hessian: np.ndarray
    made: str = ""

    def damage(self, names, snr_db: float = 20.0, method: str = "measured") -> np.ndarray:
        """(L, G) damage of each of `names` over the grid, the others at `snr_db`. `method` is "measured" or "hessian".

        Raises InputError if `names` are not the measured tensors.
        """
        if tuple(names) != self.names:
            raise InputError(
                f"the sensitivity is of tensors {', '.join(self.names)}, not of {', '.join(names)}; measure it again"
            )
        if method == "hessian":
            return self.hessian
        position = np.interp(snr_db, self.background_db, np.arange(len(self.background_db)))
        low = min(int(position), len(self.background_db) - 2)
        return (low + 1 - position) * self.damages[low] + (position - low) * self.damages[low + 1]


def calibrated_loss(module: nn.Module, tensors: dict[str, Tensor], images: Tensor, labels: Tensor) -> float:
    """Mean cross-entropy at the logits' best temperature, which noise changes and accuracy does not depend on."""
    logits = functional_call(module, tensors, images)
    return min(F.cross_entropy(gain * logits, labels).item() for gain in TEMPERATURES)


def mean_loss(module: nn.Module, tensors: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of `module` with `tensors` as its weights."""
    return F.cross_entropy(functional_call(module, tensors, images), labels)


@torch.no_grad()
def measure_damages(
    module: nn.Module, images: Tensor, labels: Tensor, seed: int = 0, num_draws: int = 3, progress=iter
) -> np.ndarray:
    """Damages (B, L, G), float64. One draw of noise is scaled to all SNRs, so that draws do not differ between them."""
    tensors = {name: weight.detach() for name, weight in module.named_parameters()}

    def arrived(name, snr_db, draw):
        rng = torch.Generator().manual_seed(1000 * (seed * num_draws + draw) + list(tensors).index(name))
        return receive_weights(tensors[name], float(linear(snr_db)), rng)

    damages = np.zeros((len(BACKGROUND_DB), len(tensors), len(SNR_GRID_DB)))
    cells = [
        (b, draw, layer)
        for b in range(len(BACKGROUND_DB))
        for draw in range(num_draws)
        for layer in range(len(tensors))
    ]
    for b, draw, layer in progress(cells):
        others = {name: arrived(name, BACKGROUND_DB[b], draw) for name in tensors}
        name = list(tensors)[layer]
        clean = calibrated_loss(module, {**others, name: tensors[name]}, images, labels)
        for g, snr_db in enumerate(SNR_GRID_DB):
            noisy = {**others, name: arrived(name, snr_db, draw)}
            damages[b, layer, g] += (calibrated_loss(module, noisy, images, labels) - clean) / num_draws
    return damages


def hessian_damage(module: nn.Module, images: Tensor, labels: Tensor, seed: int = 0, num_draws: int = 8) -> np.ndarray:
    """Damages (L, G) by the Hessian's trace, E[v' H v] = tr H for random signs v (Hutchinson, 1989)."""
    rng = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = dict(module.named_parameters())
    gradients = torch.autograd.grad(
        mean_loss(module, weights, images, labels), list(weights.values()), create_graph=True
    )
    traces = np.zeros(len(weights))
    for _ in range(num_draws):
        signs = [torch.randint(0, 2, weight.shape, generator=rng) * 2.0 - 1 for weight in weights.values()]
        products = torch.autograd.grad(gradients, list(weights.values()), signs, retain_graph=True)
        traces += [float((sign * product).sum()) / num_draws for sign, product in zip(signs, products, strict=True)]
    variances = np.array([weight.detach().double().var(correction=0).item() for weight in weights.values()])
    nmse = 1 / (1 + linear(np.array(SNR_GRID_DB)))
    return 0.5 * np.maximum(traces * variances, 0)[:, None] * nmse


def find_sensitivity(name_or_path) -> Sensitivity | None:
    """The sensitivity.json beside a shipped name or PATH.safetensors, or None."""
    path = locate(name_or_path).with_name("sensitivity.json")
    if not path.is_file():
        return None
    try:
        fields = json.loads(path.read_text())
        found = Sensitivity(
            names=tuple(fields["names"]),
            made=fields["made"],
            **{name: np.array(fields[name], dtype=np.float64) for name in ARRAYS},
        )
        shape = (len(found.names), len(found.snr_grid_db))
        if found.hessian.shape != shape or found.damages.shape != (len(found.background_db), *shape):
            raise ValueError(f"shapes {found.damages.shape} and {found.hessian.shape} do not fit {shape}")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is no sensitivity file ({error!r}); make it with python models/sensitivity.py"
        ) from error
    return found


def load_sensitivity(name_or_path) -> Sensitivity:
    """`find_sensitivity`, but InputError if the file is missing."""
    found = find_sensitivity(name_or_path)
    if found is None:
        raise InputError(
            f"no sensitivity.json beside {locate(name_or_path)}; make it with python models/sensitivity.py"
        )
    return found


def measure_checkpoint(
    checkpoint: Checkpoint, num_images: int, seed: int, num_draws: int, made: str, data_dir=None, progress=iter
) -> Sensitivity:
    """The sensitivity of a checkpoint on the first `num_images` training images of its data set."""
    images, labels = (array[:num_images] for array in load_data(checkpoint.dataset, "train", data_dir))
    module = checkpoint.module()
    with normalised_by_batch(module):  # as a receiver measures the statistics with the received weights
        damages, hessian = (
            measure_damages(module, images, labels, seed, num_draws, progress),
            hessian_damage(module, images, labels, seed),
        )
    return Sensitivity(
        tuple(checkpoint.tensors), np.array(SNR_GRID_DB), np.array(BACKGROUND_DB), damages, hessian, made
    )


@dataclass(frozen=True)
class SensitivityConfig:
    """The checkpoint whose tensors are measured, the images and the noise."""

    model: str = option("fashion", "a shipped model, or PATH.safetensors", metavar="NAME|PATH")
    images: int = option(2000, "number of training images", 1)
    draws: int = option(3, "number of noise draws", 1)
    seed: int = option(0, "seed of the noise", 0)
    data_dir: str | None = option(None, "folder searched first for the data set", flag="--data", metavar="DIR")

    def __post_init__(self):
        check_fields(self)


def write_sensitivity(config: SensitivityConfig, command: str) -> None:
    """Measure the damages and write them beside the checkpoint."""
    path = locate(config.model)
    bar = functools.partial(track, description="sensitivity")
    found = measure_checkpoint(load(path), config.images, config.seed, config.draws, command, config.data_dir, bar)
    content = {
        name: np.round(value, 6).tolist() if isinstance(value, np.ndarray) else value
        for name, value in dataclasses.asdict(found).items()
    }
    write_whole(path.with_name("sensitivity.json"), (json.dumps(content) + "\n").encode())


def main(argv=None) -> int:
    """Parse, measure and write."""
    argv = sys.argv[1:] if argv is None else argv
    parser = CommandParser(prog="sensitivity", description=__doc__)
    add_options(parser, SensitivityConfig)
    options = parser.options(argv)
    command = " ".join(["python models/sensitivity.py", *argv])
    return run_command(parser, lambda: write_sensitivity(config_from(SensitivityConfig, options), command))


if __name__ == "__main__":
    sys.exit(main())
