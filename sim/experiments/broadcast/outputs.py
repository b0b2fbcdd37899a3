"""Outputs of the parts of a transmission, on validation or test images, by received SNR: computed by workers, stored.

An analog part is a network, its payload symbols and the SNR that these are planned for: it is sent `DRAWS` times at
each of `Analog.met_db` in equivalent white noise (`sim.experiments.library.white_noise`). A hybrid is one whose
symbols are those of a digital base, which arrives whole or not, and of its refinement. A digital part is a
network in a number of bits, which arrives whole. Batch norm's statistics come from the sender as in layers of the tool
(`models.statistics`): of an analog part in symbols beside its weights, taken as their coarse steps give them, of a
digital one and a hybrid among the bits.
"""

import dataclasses
import functools
import io
import itertools
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from airnet_sdr.dsp.units import db, linear
from airnet_sdr.models.beside import State
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.data import load as load_data
from airnet_sdr.models.digital.rate import least_snr_db
from airnet_sdr.models.digital.scheme import compressed, weights_of
from airnet_sdr.models.evaluate import logits
from airnet_sdr.models.known_state import with_state
from airnet_sdr.models.nets import DATASETS
from airnet_sdr.models.packing import load_vectors, tensor_specs
from airnet_sdr.models.payload.analog import AnalogPayload, AnalogPlan
from airnet_sdr.models.payload.budget import symbols_once
from airnet_sdr.models.payload.digital import state_bytes
from airnet_sdr.models.payload.hybrid import plan_hybrid
from airnet_sdr.models.payload.protection import protect, select_member
from airnet_sdr.models.payload.state import LARGEST_STEP, StatePayload, uses_for
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.models.task import HOLD_OUT
from airnet_sdr.rx.combine import rebuild
from airnet_sdr.rx.restore import restore_statistics
from airnet_sdr.sim.experiments.grid.plans import noisy_hybrid
from airnet_sdr.sim.experiments.library.judge import judge_by_loss
from airnet_sdr.sim.experiments.library.networks import Shelf, load_once
from airnet_sdr.sim.experiments.library.place import Place
from airnet_sdr.sim.experiments.library.white_noise import WhiteNoise
from airnet_sdr.tx.burst import Burst, lay_out

OFFSETS_DB = np.array([-9, -7, -5.5, -4, -2.5, -1, 1, 3, 6, 10, 15, 22.0])  # of the SNRs met from that planned
DRAWS = {"held-out": 2, "test": 1}  # of the noise; the test has more images
WEIGHTS = (0.2, 0.35, 0.5, 0.65, 0.8)  # of the first of two networks whose logits are averaged
STATE_LEAST_DB = -6.5  # where a state planned for -5 dB arrives (`models.payload.state`)
STATE_DB = np.array([-np.inf, -8, -5, 0, 5, 10, 15, 20])  # planned SNRs from which on a state has fewer symbols


@dataclasses.dataclass(frozen=True, order=True)
class Analog:
    """An analog part, or a hybrid: the network's name in the zoo, its payload symbols, and the SNR that they are
    planned for."""

    network: str
    uses: int
    plan_db: float
    scheme: str = "analog"

    @property
    def met_db(self) -> np.ndarray:
        """The SNRs of its symbols at which its outputs are known."""
        return self.plan_db + OFFSETS_DB

    @property
    def name(self) -> str:
        """Of its stored outputs."""
        return f"{self.scheme}-{self.network.replace('/', '.')}-{self.uses}-{self.plan_db:g}"


@dataclasses.dataclass(frozen=True, order=True)
class Digital:
    """A digital part: the network's name in the zoo and, where it is quantised after training, its bits."""

    network: str
    bits: int | None = None

    @property
    def name(self) -> str:
        """Of its stored outputs."""
        return f"digital-{self.network.replace('/', '.')}" + ("" if self.bits is None else f"-{self.bits}")


Part = Analog | Digital


@dataclasses.dataclass(frozen=True)
class Stored:
    """Logits (SNRs met, draws, images, classes) float32, one SNR and draw for a digital part; its bits, 0 for an analog
    one; the symbols of its state beside it, planned for each of `STATE_DB`; and the SNR from which on a hybrid's base
    arrives."""

    logits: np.ndarray
    bits: int
    state_symbols: np.ndarray
    base_db: float = -np.inf


class Outputs:
    """The outputs of the parts of one data set and training seed on the examples of a split, stored in a folder."""

    def __init__(self, folder: Path, split: str, labels: np.ndarray):
        self.folder, self.split, self.labels = folder, split, labels

    def path(self, part: Part) -> Path:
        """The file of a part's outputs, which `measure` makes."""
        return self.folder / f"{part.name}-{self.split}.npz"

    @functools.lru_cache(maxsize=64)  # noqa: B019 - of the last objects
    def _of(self, part: Part) -> Stored:
        with np.load(self.path(part)) as stored:
            found = torch.log_softmax(torch.from_numpy(stored["logits"].astype(np.float32)), -1).numpy()
            return Stored(found, int(stored["bits"]), stored["state_symbols"], float(stored["base_db"]))

    @functools.cache  # noqa: B019 - one object a run
    def accuracies(self, part: Part) -> np.ndarray:
        """Accuracies in percent of a part at each of the SNRs met (one of a digital part): means over the draws."""
        return 100 * self._right(self._of(part).logits).mean(1)

    @functools.cache  # noqa: B019
    def averaged(self, first: Part, second: Part) -> tuple[np.ndarray, np.ndarray]:
        """Accuracies (weights, SNRs met) in percent of the mean of two parts' logits, `WEIGHTS` of the first; and the
        standard errors of what they are above the better one of the two."""
        one, other = self._of(first).logits, self._of(second).logits
        alone = np.broadcast_arrays(*(self._right(values) for values in (one, other)))
        better = np.where((alone[0].mean(1) >= alone[1].mean(1))[:, None], *alone)
        each = np.array([self._right(weight * one + (1 - weight) * other) for weight in WEIGHTS])
        return 100 * each.mean(2), 100 * (each - better).std(2) / np.sqrt(len(self.labels))

    def bits(self, part: Digital) -> int:
        """Bits of a digital part, its weights and its state."""
        return self._of(part).bits

    def state_symbols(self, part: Part, plan_db: float) -> int:
        """Symbols of a part's state, planned for an SNR."""
        return int(self._of(part).state_symbols[np.searchsorted(STATE_DB, plan_db, side="right") - 1])

    def least_db(self, part: Part, plan_db: float) -> float:
        """The SNR from which on a part's state, planned for an SNR, or a hybrid's base arrives; -inf if it has none."""
        if not self.state_symbols(part, plan_db):
            return self._of(part).base_db
        return STATE_LEAST_DB - float(db(uses_for(plan_db) / uses_for(-5)))

    def _right(self, values: np.ndarray) -> np.ndarray:
        """The share of the draws in which each image is right (SNRs met, images)."""
        return (values.argmax(-1) == self.labels).mean(1)


def measure(place: Place, arch: str, seed: int, part: Part, split: str) -> bytes:
    """The stored outputs of a part on the examples of a split, as `Outputs` reads them."""
    torch.set_num_threads(1)
    images, _ = examples(place, arch, split)
    checkpoint = load_once(shelf_of(place, arch, seed).path(part.network), data_dir=place.data_dir)
    if isinstance(part, Digital):
        found = _digital(part, checkpoint, images)
    elif part.scheme == "hybrid":
        found = _hybrid(part, checkpoint, images, DRAWS[split])
    else:
        found = _analog(part, checkpoint, images, DRAWS[split])
    packed = io.BytesIO()
    np.savez_compressed(packed, **vars(found) | {"logits": found.logits.astype(np.float16)})
    return packed.getvalue()


def shelf_of(place: Place, arch: str, seed: int) -> Shelf:
    """The networks of a training seed."""
    return Shelf(place.networks, seed, judge_by_loss(arch, 1, place.data_dir), arch)


@functools.lru_cache(maxsize=4)
def examples(place: Place, arch: str, split: str) -> tuple[Tensor, np.ndarray]:
    """Images and labels: those of training that are held back, or the first of the test."""
    images, labels = load_data(DATASETS[arch], "test" if split == "test" else "train", place.data_dir)
    chosen = slice(place.images) if split == "test" else slice(-HOLD_OUT, None)
    return images[chosen], labels[chosen].numpy()


def _analog(part: Analog, checkpoint: Checkpoint, images: Tensor, num_draws: int) -> Stored:
    config = PlanConfig(
        "size", max(part.uses // symbols_once(checkpoint), 1), part.plan_db, part.uses, expansion="auto"
    )
    member, config = select_member(dataclasses.replace(checkpoint, state=None), config)
    checkpoint = checkpoint if member.tensors is checkpoint.tensors else with_state(member)
    state = checkpoint.state
    plain = dataclasses.replace(checkpoint, state=None)  # the state has symbols beside those of the part
    plan = AnalogPlan(plain, protect(plain, config))
    arrived = None if state is None or state.difference is None else State.from_bytes(state.to_bytes(LARGEST_STEP))
    found = np.zeros((OFFSETS_DB.size, num_draws, len(images), 10), np.float32)
    for seed in range(num_draws):
        burst = lay_out(plan.card, [AnalogPayload.encode(plan)], 1000 + seed)
        for i, snr_db in enumerate(part.met_db):
            module = _arrived(burst, plain, float(linear(snr_db)), 1000 + seed)
            restore_statistics(module, arrived)
            found[i, seed] = logits(module.eval(), images).numpy()
    return Stored(found, 0, _state_symbols(state))


def hybrid_config(part: Analog) -> PlanConfig:
    """How a hybrid is planned."""
    return PlanConfig("size", 1, part.plan_db, part.uses)


def _hybrid(part: Analog, checkpoint: Checkpoint, images: Tensor, num_draws: int) -> Stored:
    hybrid = plan_hybrid(checkpoint, hybrid_config(part))
    found = np.zeros((OFFSETS_DB.size, num_draws, len(images), 10), np.float32)
    for (i, snr_db), seed in itertools.product(enumerate(part.met_db), range(num_draws)):
        module = noisy_hybrid(hybrid, float(snr_db), 1000 + seed)
        restore_statistics(module, hybrid.digital.state)
        found[i, seed] = logits(module.eval(), images).numpy()
    return Stored(found, 0, _state_symbols(None), least_snr_db(hybrid.digital.coded))


def _digital(part: Digital, checkpoint: Checkpoint, images: Tensor) -> Stored:
    data = compressed(checkpoint, 1 << 40 if part.bits is None else part.bits // 8)
    module = checkpoint.module()
    load_vectors(module, weights_of(data, [tensor.size for tensor in checkpoint.tensors.values()]))
    state = state_bytes(checkpoint)
    restore_statistics(module, State.from_bytes(state) if state else None)
    found = logits(module.eval(), images).numpy()[None, None]
    return Stored(found, 8 * (len(state) + len(data)), _state_symbols(None))


def _arrived(burst: Burst, checkpoint: Checkpoint, snr: float, seed: int) -> torch.nn.Module:
    """The network after the noise of a draw at this SNR, linear per symbol."""
    module, received = checkpoint.module(), WhiteNoise(burst, snr, seed)
    return load_vectors(module, rebuild(received, burst.manifest, [s.numel for s in tensor_specs(module)]).vectors)


def _state_symbols(state: State | None) -> np.ndarray:
    """The symbols of a state, planned for each of `STATE_DB`."""
    if state is None or state.is_empty:
        return np.zeros(STATE_DB.size, int)
    return np.array([StatePayload.plan(state, snr_db).num_symbols([]) for snr_db in STATE_DB])
