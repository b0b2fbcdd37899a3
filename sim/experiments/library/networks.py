"""The networks of the tables: their files, the candidates of each method, and the selection."""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from airnet_sdr.models.checkpoint import load
from airnet_sdr.models.nets import DATASETS
from airnet_sdr.models.payload.budget import symbols_once
from airnet_sdr.models.payload.protection import protect, select_member
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.sim.experiments.library.scoring import Sent, score_in_white_noise

MOST_DRAWS, DOUBT = 8, 3.0  # of the race between networks
SMALL = ["low16", "low8", "pruned8", "low4", "pruned4"]
NORMALISED = ["norm16", "norm8"]  # with batch norm; the others have none

load_once = functools.lru_cache(maxsize=64)(load)  # many plans send the same networks


@dataclasses.dataclass(frozen=True)
class Method:
    """A row of the table: its name, candidate networks, UEP and curves.

    Networks are folders of the zoo. The last one is required for the row; the others are optional.
    """

    name: str
    networks: tuple[str, ...]
    uep: str = "none"
    expansion: str = "none"


METHODS = (
    Method("plain analog", ("clean",)),
    Method("+ weight noise", ("clean", "noise")),
    Method("+ pruning and distillation", ("clean", "noise", *SMALL)),
    Method("+ expansion", ("clean", "noise", *SMALL), "none", "auto"),
    Method("+ unequal protection", ("clean", "noise", *SMALL), "size", "auto"),
    Method("+ batch norm", ("clean", "noise", *SMALL, *NORMALISED), "size", "auto"),
    Method("nested networks", ("nested",), "size", "auto"),
)


def folder_of(networks: Path, arch: str, method: str, seed: int) -> Path:
    """The folder of the networks of a method and training seed."""
    return networks / DATASETS[arch] / method / f"seed-{seed}"


class Shelf:
    """The networks of one architecture and training seed, and the held-out images."""

    def __init__(self, folder: Path, seed: int, held_out, arch: str = "fashion"):
        self.folder, self.seed, self.held_out, self.arch = folder, seed, held_out, arch
        self._known: dict[tuple, float] = {}

    def path(self, network: str) -> Path:
        """The file of a network, METHOD or METHOD/FILE as in `name_of`; it may be missing.

        METHOD alone may be a variant of the architecture.
        """
        method, _, stem = network.partition("/")
        folder = folder_of(self.folder, self.arch, method, self.seed)
        if stem:
            return folder / f"{stem}.safetensors"
        return next(iter(sorted(folder.glob(f"{self.arch}*.safetensors"))), folder / f"{self.arch}.safetensors")

    def name_of(self, path: Path) -> str:
        """The network's name in results: the method, and the file where a method has several, as ``digital/10k``."""
        method = path.parent.parent.name
        return method if path.stem.startswith(self.arch) else f"{method}/{path.stem}"

    def plan(self, network: str, method: Method, snr_db: float, payload_uses: int) -> Sent:
        """The network, protected for this channel."""
        config = PlanConfig(method.uep, 1, snr_db, payload_uses, expansion=method.expansion)
        checkpoint, config = select_member(load_once(self.path(network)), config)
        config = dataclasses.replace(config, copies=payload_uses // symbols_once(checkpoint))
        return Sent(network, checkpoint, protect(checkpoint, config, None))

    def plan_best(self, method: Method, snr_db: float, payload_uses: int) -> Sent:
        """The best network of `method` on the held-out images, protected for this channel."""
        networks = [network for network in method.networks if self.path(network).is_file()]
        return self.select_plan([self.plan(network, method, snr_db, payload_uses) for network in networks], snr_db)

    def select_plan(self, plans: list[Sent], snr_db: float) -> Sent:
        """The best plan on the held-out images; a single plan is not measured.

        A race (Maron and Moore, Hoeffding races, 1994): every plan gets two draws of the noise; then those within DOUBT
        deviations of the mean from the leader get one more at a time.
        """
        racing = list(plans)
        for num_draws in range(2, MOST_DRAWS + 1):
            if len(racing) == 1:
                break
            draws = range(1000, 1000 + num_draws)
            scores = np.array([[self.score(sent, snr_db, k, *self.held_out) for k in draws] for sent in racing])
            means, deviation = scores.mean(axis=1), np.sqrt(scores.var(axis=1, ddof=1).mean() / num_draws)
            ranked = np.argsort(-means, kind="stable")
            racing = [racing[i] for i in ranked if means[i] >= means.max() - DOUBT * deviation]
        return racing[0]

    def score(self, sent: Sent, snr_db: float, seed: int, images, labels, how=None) -> float | None:
        """Accuracy in white noise or by ``how``, cached, as several methods may send the same network."""
        how, sends = how or score_in_white_noise, sent.protection
        network = sent.name, sent.checkpoint.widths
        key = (
            *network,
            sends.copies.tobytes(),
            sends.power.tobytes(),
            sends.curves,
            snr_db,
            seed,
            how,
            images.data_ptr(),
        )
        if key not in self._known:
            self._known[key] = how(sent, snr_db, seed, images, labels)
        return self._known[key]
