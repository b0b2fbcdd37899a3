"""Selection of the network that a scheme sends for a channel and a budget.

Networks are selected by the loss on training examples held back, never on the test examples:

- analog: the best network of `METHODS` and `SIZED` at the planned SNR, protected by size, or the one network that was
  given, protected as measured or by size; where a tensor has the most power there is, also with a bound of
  MORE_POWER_DB;
- digital: the best network, trained for a number of bits (`models.entropy`) or quantised after training, that fits the
  bits that modulation and code carry at the planned SNR;
- hybrid: the best network trained for a digital base with an analog refinement at the planned SNR, with the smallest
  base for its bits;
- bound: as digital, with b·log2(1 + S) bits, which no code exceeds at b symbols of SNR S.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterable
from pathlib import Path

from torch import nn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.power_range import MAX_POWER_DB, POWER_STEP_DB
from airnet_sdr.dsp.symbols import num_pairs
from airnet_sdr.dsp.units import db, linear
from airnet_sdr.models.beside import State
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.digital.rate import best_payload
from airnet_sdr.models.digital.scheme import weights_of
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import load_vectors, tensor_specs
from airnet_sdr.models.payload.analog import encode_vectors
from airnet_sdr.models.payload.budget import state_symbols, symbols_once
from airnet_sdr.models.payload.digital import packed
from airnet_sdr.models.payload.hybrid import HybridPlan, plan_hybrid
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.models.sensitivity_file import find_sensitivity
from airnet_sdr.rx.combine import rebuild
from airnet_sdr.sim.experiments.library.judge import Judge, judge_by_loss, judge_by_test
from airnet_sdr.sim.experiments.library.networks import (
    BY_SIZE,
    METHODS,
    ONE,
    OWN_BY_SIZE,
    OWN_METHOD,
    SIZED,
    Method,
    Shelf,
    load_once,
)
from airnet_sdr.sim.experiments.library.place import Place
from airnet_sdr.sim.experiments.library.scoring import Sent
from airnet_sdr.sim.experiments.library.white_noise import WhiteNoise
from airnet_sdr.tx.burst import lay_out

SCHEMES = ("analog", "hybrid", "digital", "bound")
LATER = ("clean",)  # quantised after training; pruned ones are better when trained for their bits
LEAST_BITS = 0.4  # per weight; below, a network not trained for bits is lost (under 85 % at 0.42)
DRAWS = range(1000, 1002)  # seeds of the noise on a refinement, for selection
MORE_POWER_DB = 15.0  # another `max_power_db` of analog plans; the most that no receiver took for interference
AT = "@"  # before it in the name of a choice: clean@15
Packed = tuple[bytes, int]  # state and weights, and how many of the bytes are the state's
NEAR = 1.25  # largest ratio of trained bits to available bits for quantising a network again


@dataclasses.dataclass(frozen=True, order=True)
class Plan:
    """The sender's plan: scheme, architecture and training seed of the networks, budget, planned SNR."""

    arch: str
    scheme: str
    training_seed: int
    payload_uses: int
    plan_snr_db: float


def reference_uses(arch: str) -> int:
    """Payload symbols of each weight of the architecture sent once: b."""
    return sum(num_pairs(spec.numel) for spec in tensor_specs(build(arch)))


def single_uses(path: Path, arch: str, snr_db: Iterable[float], data_dir: str | None = None) -> int:
    """b of a single network: its weights once, and its state as at the worst of the SNRs, so that it always fits."""
    checkpoint = load_once(path, arch, data_dir)
    states = (state_symbols(checkpoint, PlanConfig(snr_db=each)) for each in snr_db)
    return symbols_once(checkpoint) + max(states, default=0)


class Networks(Shelf):
    """The networks of one architecture and training seed."""

    def __init__(self, place: Place, arch: str, seed: int):
        super().__init__(place.networks, seed, judge_by_loss(arch, place.images, place.data_dir), arch)
        self.test = judge_by_test(arch, place.images, place.data_dir)
        self._arrived: dict[tuple[Packed, Judge], float] = {}

    @property
    def is_measured(self) -> bool:
        """Whether this is a single network with its sensitivity beside it."""
        return self.is_single and find_sensitivity(self.path(ONE), self.load(self.path(ONE))) is not None

    def trained_for_bits(self, scheme: str = "digital") -> list[Path]:
        """One checkpoint for each number of bits."""
        if self.is_single:
            return []
        return sorted(self.path(scheme).parent.glob("*.safetensors"))

    def analog(self) -> dict[str, Method]:
        """Each available network, with the best method for it."""
        if self.is_single:
            return {ONE: OWN_METHOD, **({BY_SIZE: OWN_BY_SIZE} if self.is_measured else {})}
        methods = *METHODS, SIZED
        return {name: method for method in methods for name in method.networks if self.path(name).is_file()}

    def select_network(self, plan: Plan) -> str | None:
        """The name of the selected network, of an analog one as in `sent`; None if none fits."""
        if plan.scheme == "analog":
            return self._select_analog(plan)
        losses = self.hybrid_losses(plan) if plan.scheme == "hybrid" else self.digital_losses(plan)
        return min(losses, key=losses.get) if losses else None

    def _select_analog(self, plan: Plan) -> str | None:
        fitting = {}
        for name in self.analog():
            self.load(self.path(name))  # raises if unreadable, so that it is not taken for one that does not fit
            with contextlib.suppress(InputError):  # it does not fit
                fitting[name] = self.sent(plan, name)
                if _has_most_power(fitting[name]):
                    more = f"{name}{AT}{MORE_POWER_DB:g}"
                    fitting[more] = self.sent(plan, more)
        if not fitting:
            return None
        best = self.select_plan(list(fitting.values()), plan.plan_snr_db)
        return next(name for name, sent in fitting.items() if sent is best)

    def digital_losses(self, plan: Plan) -> dict[str, float]:
        """Loss of each network that fits the plan compressed, by its name."""
        found = {}
        for path in [*self.trained_for_bits(), *filter(Path.is_file, map(self.path, (*LATER, ONE)))]:
            checkpoint = self.load(path)
            for name in (ONE, BY_SIZE) if self.is_measured else (self.name_of(path),):
                try:
                    room = num_bytes(plan)
                    if not self.is_single and _wanted(checkpoint) > 8 * room:
                        continue  # other networks are better than this one quantised
                    data = self.pack(path, checkpoint, room, name != BY_SIZE)
                except InputError:  # it does not fit
                    continue
                found[name] = self.judge_coded(checkpoint, data, self.judge)
        return found

    def hybrid_losses(self, plan: Plan) -> dict[str, float]:
        """Loss of each network that fits the plan as a hybrid, by its name."""
        found = {}
        for path in self.trained_for_bits("hybrid"):
            checkpoint = self.load(path)
            with contextlib.suppress(InputError):  # it does not fit
                hybrid = refined(checkpoint, plan)
                losses = [judge_hybrid(hybrid, plan.plan_snr_db, seed, self.judge) for seed in DRAWS]
                found[self.name_of(path)] = sum(losses) / len(losses)
        return found

    def judge_coded(self, checkpoint: Checkpoint, packed: Packed, judge: Judge) -> float:
        """The judge's number for the network in these bytes."""
        if (packed, judge) not in self._arrived:
            self._arrived[packed, judge] = judge(*delivered(checkpoint, packed))
        return self._arrived[packed, judge]

    def sent(self, plan: Plan, name: str) -> Sent:
        """The analog network of that name, protected for the plan; after AT the name has the plan's `max_power_db`."""
        network, _, power_db = name.partition(AT)
        max_power_db = float(power_db) if power_db else MAX_POWER_DB
        return self.plan(network, self.analog()[network], plan.plan_snr_db, plan.payload_uses, max_power_db)

    def packed(self, plan: Plan, name: str) -> tuple[Checkpoint, Packed]:
        """The digital network of that name, and its bytes."""
        checkpoint = self.load(self.path(name))
        return checkpoint, self.pack(self.path(name), checkpoint, num_bytes(plan), name != BY_SIZE)

    def pack(self, path: Path, checkpoint: Checkpoint, room: int, as_measured: bool = True) -> Packed:
        """The network in at most ``room`` bytes; a single one by its measured sensitivity, where that is beside it."""
        sensitivity = find_sensitivity(path, checkpoint) if self.is_single and as_measured else None
        if sensitivity is None:
            return packed(checkpoint, room)
        return packed(checkpoint, room, sensitivity.damage(list(checkpoint.tensors)), sensitivity.snr_grid_db)


def plan_config(plan: Plan) -> PlanConfig:
    """The config of a plan: protection by size within its payload."""
    return PlanConfig("size", 1, plan.plan_snr_db, plan.payload_uses)


def refined(checkpoint: Checkpoint, plan: Plan) -> HybridPlan:
    """A plan of digital base and analog refinement. Raises InputError if it does not fit."""
    return plan_hybrid(checkpoint, plan_config(plan))


def judge_hybrid(hybrid: HybridPlan, snr_db: float, seed: int, judge: Judge) -> float:
    """The judge's number for a hybrid whose base arrives, with the link's noise on its refinement."""
    return judge(noisy_hybrid(hybrid, snr_db, seed), hybrid.digital.state)


def noisy_hybrid(hybrid: HybridPlan, snr_db: float, seed: int) -> nn.Module:
    """The network of a hybrid whose base arrives, with the link's noise on its refinement; without its state."""
    burst = lay_out(hybrid.card, [encode_vectors(hybrid.residual, hybrid.protection)], seed)
    noisy = WhiteNoise(burst, float(linear(snr_db)), seed)
    found = rebuild(noisy, burst.manifest, [vector.size for vector in hybrid.residual]).vectors
    return load_vectors(hybrid.checkpoint.module(), [a + b for a, b in zip(hybrid.base, found, strict=True)])


def num_bytes(plan: Plan) -> int:
    """Bytes that a digital plan carries, those of the state among them. Raises InputError if none."""
    if plan.scheme == "bound":
        return math.floor(plan.payload_uses * math.log2(1 + linear(plan.plan_snr_db))) // 8
    return best_payload(plan.payload_uses, plan.plan_snr_db).num_bytes


def delivered(checkpoint: Checkpoint, packed: Packed) -> tuple[nn.Module, State | None]:
    """The network in these bytes, received without error, and its state."""
    data, state_bytes = packed
    vectors = weights_of(data[state_bytes:], checkpoint.numels)
    return load_vectors(checkpoint.module(), vectors), State.from_bytes(data[:state_bytes]) if state_bytes else None


def _has_most_power(sent: Sent) -> bool:
    """Whether a tensor has as much power as plans allow."""
    return float(db(sent.protection.power.max())) > MAX_POWER_DB - POWER_STEP_DB / 2


def _wanted(checkpoint: Checkpoint) -> float:
    """The fewest bits for which a network is tried."""
    num_weights = sum(tensor.size for tensor in checkpoint.tensors.values())
    return int(checkpoint.metadata.get("bits", 0)) / NEAR or LEAST_BITS * num_weights
