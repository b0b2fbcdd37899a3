"""Selection of the network that a scheme sends for a channel and a budget.

Networks are selected on held-out training images, never on the test images:

- analog: the best network of `METHODS` at the planned SNR, protected by size;
- digital: the best network, trained for a number of bits (`models.entropy`) or quantised after training, that fits the
  bits that modulation and code carry at the planned SNR;
- hybrid: the best network trained for a digital base with an analog refinement at the planned SNR, with the smallest
  base for its bits;
- bound: as digital, with b·log2(1 + S) bits, which no code exceeds at b symbols of SNR S.
"""

import contextlib
import dataclasses
import math
from pathlib import Path

from torch import nn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.units import linear
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.digital.rate import best_payload
from airnet_sdr.models.digital.scheme import compressed, weights_of
from airnet_sdr.models.nets import num_weights
from airnet_sdr.models.packing import load_vectors
from airnet_sdr.models.payload.analog import encode_vectors
from airnet_sdr.models.payload.hybrid import HybridPlan, plan_hybrid
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.rx.combine import rebuild
from airnet_sdr.sim.experiments.library.images import load_held_out_images, load_test_images
from airnet_sdr.sim.experiments.library.networks import METHODS, Method, Shelf, load_once
from airnet_sdr.sim.experiments.library.scoring import Sent, score_module
from airnet_sdr.sim.experiments.library.white_noise import WhiteNoise
from airnet_sdr.tx.burst import lay_out

SCHEMES = ("analog", "hybrid", "digital", "bound")
LATER = ("clean",)  # quantised after training; pruned ones are better when trained for their bits
LEAST_BITS = 0.4  # per weight; below, a network not trained for bits is lost (under 85 % at 0.42)
DRAWS = range(1000, 1002)  # seeds of the noise on a refinement, for selection
NEAR = 1.25  # largest ratio of trained bits to available bits for quantising a network again


@dataclasses.dataclass(frozen=True, order=True)
class Plan:
    """The sender's plan: scheme, architecture and training seed of the networks, budget, planned SNR."""

    arch: str
    scheme: str
    training_seed: int
    payload_uses: int
    plan_snr_db: float


@dataclasses.dataclass(frozen=True)
class Place:
    """Folders of networks and data, and the number of images (None: all)."""

    networks: Path
    data_dir: str | None = None
    images: int | None = None


def reference_uses(arch: str) -> int:
    """Payload symbols of each weight of the architecture sent once: b."""
    return num_weights(arch) // 2


class Networks(Shelf):
    """The networks of one architecture and training seed."""

    def __init__(self, place: Place, arch: str, seed: int):
        held_out = load_held_out_images(arch, place.images, place.data_dir)
        super().__init__(place.networks, seed, held_out, arch)
        self.test_set = load_test_images(arch, place.images, place.data_dir)
        self._arrived: dict[tuple[bytes, bool], float] = {}

    def trained_for_bits(self, scheme: str = "digital") -> list[Path]:
        """One checkpoint for each number of bits."""
        return sorted(self.path(scheme).parent.glob("*.safetensors"))

    def analog(self) -> dict[str, Method]:
        """Each available network, with the best method for it."""
        return {name: method for method in METHODS for name in method.networks if self.path(name).is_file()}

    def select_network(self, plan: Plan) -> str | None:
        """The name of the selected network; None if none fits."""
        if plan.scheme == "analog":
            return self._select_analog(plan)
        scores = self.hybrid_scores(plan) if plan.scheme == "hybrid" else self.digital_scores(plan)
        return max(scores, key=scores.get) if scores else None

    def _select_analog(self, plan: Plan) -> str | None:
        fitting = {}
        for name in self.analog():
            load_once(self.path(name))  # raises if unreadable, so that it is not taken for one that does not fit
            with contextlib.suppress(InputError):  # it does not fit
                fitting[name] = self.sent(plan, name)
        if not fitting:
            return None
        best = self.select_plan(list(fitting.values()), plan.plan_snr_db)
        return next(name for name, sent in fitting.items() if sent is best)

    def digital_scores(self, plan: Plan) -> dict[str, float]:
        """Score of each network that fits the plan compressed, by its name."""
        found = {}
        for path in [*self.trained_for_bits(), *filter(Path.is_file, map(self.path, LATER))]:
            checkpoint = load_once(path)
            try:
                room = num_bytes(plan)
                if _wanted(checkpoint) > 8 * room:
                    continue  # other networks are better than this one quantised
                coded = compressed(checkpoint, room)
            except InputError:  # it does not fit
                continue
            found[self.name_of(path)] = self.score_coded(checkpoint, coded)
        return found

    def hybrid_scores(self, plan: Plan) -> dict[str, float]:
        """Score of each network that fits the plan as a hybrid, by its name."""
        found = {}
        for path in self.trained_for_bits("hybrid"):
            checkpoint = load_once(path)
            with contextlib.suppress(InputError):  # it does not fit
                hybrid = refined(checkpoint, plan)
                scores = [hybrid_accuracy(checkpoint, hybrid, plan.plan_snr_db, seed, *self.held_out) for seed in DRAWS]
                found[self.name_of(path)] = sum(scores) / len(scores)
        return found

    def score_coded(self, checkpoint: Checkpoint, coded: bytes) -> float:
        """Accuracy of the network in these bytes on the held-out images."""
        return self._accuracy(checkpoint, coded, False)

    def accuracy_sent(self, checkpoint: Checkpoint, coded: bytes) -> float:
        """Accuracy of the network in these bytes on the test images."""
        return self._accuracy(checkpoint, coded, True)

    def _accuracy(self, checkpoint, coded, test) -> float:
        if (coded, test) not in self._arrived:
            pictures = self.test_set if test else self.held_out
            self._arrived[coded, test] = score_module(delivered(checkpoint, coded), *pictures)
        return self._arrived[coded, test]

    def sent(self, plan: Plan, name: str) -> Sent:
        """The analog network of that name, protected for the plan."""
        method = dataclasses.replace(self.analog()[name], networks=(name,))
        return self.plan_best(method, plan.plan_snr_db, plan.payload_uses)

    def coded(self, plan: Plan, name: str) -> tuple[Checkpoint, bytes]:
        """The digital network of that name, and its bytes."""
        checkpoint = load_once(self.path(name))
        return checkpoint, compressed(checkpoint, num_bytes(plan))


def refined(checkpoint: Checkpoint, plan: Plan) -> HybridPlan:
    """A plan of digital base and analog refinement. Raises InputError if it does not fit."""
    return plan_hybrid(checkpoint, PlanConfig("size", 1, plan.plan_snr_db, plan.payload_uses))


def hybrid_accuracy(checkpoint: Checkpoint, hybrid: HybridPlan, snr_db: float, seed: int, images, labels) -> float:
    """Accuracy of a hybrid whose base arrives, with the link's noise on its refinement."""
    burst = lay_out(checkpoint.card, [encode_vectors(hybrid.residual, hybrid.protection)], seed)
    noisy = WhiteNoise(burst, float(linear(snr_db)), seed)
    found = rebuild(noisy, burst.manifest, [vector.size for vector in hybrid.residual]).vectors
    module = load_vectors(checkpoint.module(), [a + b for a, b in zip(hybrid.base, found, strict=True)])
    return score_module(module, images, labels)


def num_bytes(plan: Plan) -> int:
    """Bytes that a digital plan carries. Raises InputError if none."""
    if plan.scheme == "bound":
        return math.floor(plan.payload_uses * math.log2(1 + linear(plan.plan_snr_db))) // 8
    return best_payload(plan.payload_uses, plan.plan_snr_db).num_bytes


def delivered(checkpoint: Checkpoint, coded: bytes) -> nn.Module:
    """The network in these bytes, received without error."""
    module = checkpoint.module()
    return load_vectors(module, weights_of(coded, [tensor.size for tensor in checkpoint.tensors.values()]))


def _wanted(checkpoint: Checkpoint) -> float:
    """The fewest bits for which a network is tried."""
    num_weights = sum(tensor.size for tensor in checkpoint.tensors.values())
    return int(checkpoint.metadata.get("bits", 0)) / NEAR or LEAST_BITS * num_weights
