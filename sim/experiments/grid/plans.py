"""What a scheme sends for a channel and a budget: the networks there are, and the choice among them.

A choice is made on training images that no network was trained on, never on the test images:

- analog: of the networks of `METHODS` the one that does best at the planned SNR, protected by size;
- digital: of the networks trained for a number of bits (`models.entropy`) and of the others quantised afterwards, the
  one that does best of those that fit what modulation and code carry at the planned SNR;
- hybrid: of the networks trained for a digital base with an analog refinement the one that does best at the planned
  SNR, its base as small as its bits allow;
- bound: the same as digital with b·log2(1 + S) bits, which no code exceeds at b symbols of SNR S.
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
LEAST_BITS = 0.4  # a weight: below, a network that was not trained for it is lost (below 85 % at 0.42)
DRAWS = range(1000, 1002)  # of the noise on a refinement, for a choice
NEAR = 1.25  # times the bits that fit a network may have been trained for, and be quantised again


@dataclasses.dataclass(frozen=True, order=True)
class Plan:
    """What the sender knows: the architecture of its networks, their training's seed, the budget, the planned SNR."""

    arch: str
    scheme: str
    training_seed: int
    payload_uses: int
    plan_snr_db: float


@dataclasses.dataclass(frozen=True)
class Place:
    """Where networks and data are, and how many images are looked at (None: all)."""

    networks: Path
    data_dir: str | None = None
    images: int | None = None


def reference_uses(arch: str) -> int:
    """The payload that holds each weight of the architecture once: b."""
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
        """Each network that there is, with the method that makes most of it."""
        return {name: method for method in METHODS for name in method.networks if self.path(name).is_file()}

    def select_network(self, plan: Plan) -> str | None:
        """The name of the network that is sent; None where none fits."""
        if plan.scheme == "analog":
            return self._select_analog(plan)
        scores = self.hybrid_scores(plan) if plan.scheme == "hybrid" else self.digital_scores(plan)
        return max(scores, key=scores.get) if scores else None

    def _select_analog(self, plan: Plan) -> str | None:
        fitting = {}
        for name in self.analog():
            load_once(self.path(name))  # one that cannot be read is not passed over as one that does not fit
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
                    continue  # others are better than what this one becomes
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
        """Accuracy of the network that these bytes are, on the images to choose by."""
        return self._accuracy(checkpoint, coded, False)

    def accuracy_sent(self, checkpoint: Checkpoint, coded: bytes) -> float:
        """Accuracy of the network that these bytes are, on the test images."""
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
    """A digital base with an analog refinement. Raises InputError where it does not fit."""
    return plan_hybrid(checkpoint, PlanConfig("size", 1, plan.plan_snr_db, plan.payload_uses))


def hybrid_accuracy(checkpoint: Checkpoint, hybrid: HybridPlan, snr_db: float, seed: int, images, labels) -> float:
    """Accuracy of a hybrid whose base arrives, with the noise that the link would leave on its refinement."""
    burst = lay_out(checkpoint.card, [encode_vectors(hybrid.residual, hybrid.protection)], seed)
    noisy = WhiteNoise(burst, float(linear(snr_db)), seed)
    found = rebuild(noisy, burst.manifest, [vector.size for vector in hybrid.residual]).vectors
    module = load_vectors(checkpoint.module(), [a + b for a, b in zip(hybrid.base, found, strict=True)])
    return score_module(module, images, labels)


def num_bytes(plan: Plan) -> int:
    """What a digital plan has room for. Raises InputError where nothing is carried."""
    if plan.scheme == "bound":
        return math.floor(plan.payload_uses * math.log2(1 + linear(plan.plan_snr_db))) // 8
    return best_payload(plan.payload_uses, plan.plan_snr_db).num_bytes


def delivered(checkpoint: Checkpoint, coded: bytes) -> nn.Module:
    """The network that arrives, all bytes right."""
    module = checkpoint.module()
    return load_vectors(module, weights_of(coded, [tensor.size for tensor in checkpoint.tensors.values()]))


def _wanted(checkpoint: Checkpoint) -> float:
    """The fewest bits that a network is tried with."""
    num_weights = sum(tensor.size for tensor in checkpoint.tensors.values())
    return int(checkpoint.metadata.get("bits", 0)) / NEAR or LEAST_BITS * num_weights
