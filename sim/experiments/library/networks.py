"""The networks of the tables: their files, the candidates of each method, and the selection."""

import contextlib
import dataclasses
import functools
from pathlib import Path

import numpy as np

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.power_range import MAX_POWER_DB
from airnet_sdr.models.checkpoint import Checkpoint, load
from airnet_sdr.models.known_state import with_state
from airnet_sdr.models.nets import DATASETS
from airnet_sdr.models.payload.budget import state_symbols, symbols_once, whole_budget
from airnet_sdr.models.payload.protection import protect, select_member
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.models.sender_state import under_noise
from airnet_sdr.models.sensitivity_file import find_sensitivity
from airnet_sdr.sim.experiments.library.judge import Judge
from airnet_sdr.sim.experiments.library.scoring import Sent, score_in_white_noise

MOST_DRAWS, DOUBT = 8, 3.0  # of the race between networks
HOPELESS = 1e6  # the loss that stands for an infinite one
SMALL = ["low16", "low8", "pruned8", "low4", "pruned4"]
NORMALISED = ["norm16", "norm8"]  # with batch norm; the others have none


@functools.lru_cache(maxsize=64)
def load_once(path: Path, architecture: str | None = None, data_dir: str | None = None) -> Checkpoint:
    """A checkpoint with its state, as many plans send the same networks."""
    return with_state(load(path, architecture), data_dir)


@functools.lru_cache(maxsize=64)
def load_planned(path: Path, architecture: str, data_dir: str | None, config: PlanConfig) -> Checkpoint:
    """A checkpoint with its state under the noise of an analog plan."""
    return under_noise(load_once(path, architecture, data_dir), config)


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
# no row of the table, but in the sweep, whose budgets they fit
SIZED = Method("more sizes", ("low32", "pruned4/222k", "low2", "pruned2"), "size", "auto")


def folder_of(networks: Path, arch: str, method: str, seed: int) -> Path:
    """The folder of the networks of a method and training seed."""
    return networks / DATASETS[arch] / method / f"seed-{seed}"


ONE = "model"  # a single network instead of a folder's
BY_SIZE = "model by size"  # the same, its measured sensitivity left aside
OWN_METHOD = Method("own network", (ONE,), "auto", "auto")
OWN_BY_SIZE = Method("own network by size", (BY_SIZE,), "size", "auto")


class Shelf:
    """The networks of one architecture and training seed, and the judge that selects among them.

    ``folder`` is that of DATASET/METHOD/seed-N, or the file of a single network, called `ONE`.
    """

    def __init__(self, folder: Path, seed: int, judge: Judge, arch: str = "fashion"):
        self.folder, self.seed, self.judge, self.arch = folder, seed, judge, arch
        self._known: dict[tuple, float] = {}

    @property
    def is_single(self) -> bool:
        """Whether there is one network alone."""
        return self.folder.suffix == ".safetensors"

    def path(self, network: str) -> Path:
        """The file of a network, METHOD or METHOD/FILE as in `name_of`; it may be missing.

        METHOD alone may be a variant of the architecture.
        """
        if self.is_single:
            return self.folder if network in (ONE, BY_SIZE) else self.folder / network  # nothing is below a file
        method, _, stem = network.partition("/")
        folder = folder_of(self.folder, self.arch, method, self.seed)
        if stem:
            return folder / f"{stem}.safetensors"
        return next(iter(sorted(folder.glob(f"{self.arch}*.safetensors"))), folder / f"{self.arch}.safetensors")

    def load(self, path: Path) -> Checkpoint:
        """A network of the shelf, with its state."""
        return load_once(path, self.arch, self.judge.data_dir)

    def name_of(self, path: Path) -> str:
        """The network's name in results: the method, and the file where a method has several, as ``digital/10k``."""
        if self.is_single:
            return ONE
        method = path.parent.parent.name
        return method if path.stem.startswith(self.arch) else f"{method}/{path.stem}"

    def plan(
        self, network: str, method: Method, snr_db: float, payload_uses: int, max_power_db: float = MAX_POWER_DB
    ) -> Sent:
        """The network, protected for this channel, with at most this power of a tensor's symbols over the mean.

        A network that takes the budget whole, once, has the state beside its weights on top of it: 3 % for the full
        networks of CIFAR.
        """
        path, uep = self.path(network), method.uep
        sensitivity = find_sensitivity(path, self.load(path)) if uep == "auto" else None
        uep = "size" if uep == "auto" and sensitivity is None else uep
        budget = PlanConfig(uep, 1, snr_db, payload_uses, expansion=method.expansion, max_power_db=max_power_db)
        checkpoint, config = select_member(*_with_state_on_top(self.load(path), budget))
        # a member may be smaller, and has a state of its own
        config = _with_copies(*_with_state_on_top(checkpoint, dataclasses.replace(config, payload_uses=payload_uses)))
        if "members" not in self.load(path).metadata:
            planned = load_planned(path, self.arch, self.judge.data_dir, config)
            with contextlib.suppress(InputError):  # its state is larger, and may not fit
                checkpoint, config = planned, _with_copies(*_with_state_on_top(planned, budget))
        return Sent(network, checkpoint, protect(checkpoint, config, sensitivity), config)

    def plan_best(self, method: Method, snr_db: float, payload_uses: int) -> Sent:
        """The best network of `method` on the examples held back, protected for this channel."""
        networks = [network for network in method.networks if self.path(network).is_file()]
        return self.select_plan([self.plan(network, method, snr_db, payload_uses) for network in networks], snr_db)

    def select_plan(self, plans: list[Sent], snr_db: float) -> Sent:
        """The plan of least loss on the examples held back; a single plan is not measured.

        A race (Maron and Moore, Hoeffding races, 1994): every plan gets two draws of the noise; then those within DOUBT
        deviations of the mean from the leader get one more at a time.
        """
        racing = list(plans)
        for num_draws in range(2, MOST_DRAWS + 1):
            if len(racing) == 1:
                break
            draws = range(1000, 1000 + num_draws)
            losses = np.array([[self.score(sent, snr_db, k, self.judge) for k in draws] for sent in racing])
            losses = np.nan_to_num(losses, posinf=HOPELESS)
            means, deviation = losses.mean(axis=1), np.sqrt(losses.var(axis=1, ddof=1).mean() / num_draws)
            ranked = np.argsort(means, kind="stable")
            racing = [racing[i] for i in ranked if means[i] <= means.min() + DOUBT * deviation]
        return racing[0]

    def score(self, sent: Sent, snr_db: float, seed: int, judge: Judge, how=None) -> float | None:
        """The judge's number in white noise or by ``how``, cached, as several methods may send the same network."""
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
            judge,
        )
        if key not in self._known:
            self._known[key] = how(sent, snr_db, seed, judge)
        return self._known[key]


def _with_state_on_top(checkpoint: Checkpoint, config: PlanConfig) -> tuple[Checkpoint, PlanConfig]:
    """The checkpoint, and the config with room for its state where the weights take the budget whole."""
    if symbols_once(checkpoint) == config.payload_uses:
        config = dataclasses.replace(config, payload_uses=config.payload_uses + state_symbols(checkpoint, config))
    return checkpoint, config


def _with_copies(checkpoint: Checkpoint, config: PlanConfig) -> PlanConfig:
    """The config with as many copies as fit. Raises InputError if none does."""
    return dataclasses.replace(config, copies=whole_budget(checkpoint, config) // symbols_once(checkpoint))
