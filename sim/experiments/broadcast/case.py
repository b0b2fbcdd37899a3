"""One data set and training seed of the comparison: its parts, their outputs, the best transmission of each kind."""

import contextlib
import functools
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.status import Status

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models.ensemble import extract, from_metadata
from airnet_sdr.models.nets import DATASETS
from airnet_sdr.models.payload.budget import state_symbols, symbols_once
from airnet_sdr.models.payload.hybrid import base_symbols
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.sim.experiments.broadcast import feedback
from airnet_sdr.sim.experiments.broadcast.laws import KNOWN, LAWS, Law
from airnet_sdr.sim.experiments.broadcast.outputs import (
    DRAWS,
    Analog,
    Digital,
    Outputs,
    Part,
    examples,
    hybrid_config,
    shelf_of,
)
from airnet_sdr.sim.experiments.broadcast.plans import Search, expected_curve
from airnet_sdr.sim.experiments.broadcast.transmissions import Entrant, Transmission
from airnet_sdr.sim.experiments.grid.plans import reference_uses
from airnet_sdr.sim.experiments.library.networks import Shelf, load_once
from airnet_sdr.sim.experiments.library.place import Place

SPREAD = 1.25  # payload symbols per pair of weights of an analog part beside digital layers
MOST = (0.45, 0.6, 0.75)  # shares of the budget's symbols of one that has most of them
WHOLE, BELOW = 1.0, 0.96  # shares of the budget of an analog part alone, and below layers whose states have the rest
ENTRANTS = (
    Entrant("digital", 1),
    Entrant("two digital layers side by side", 2),
    Entrant("three digital layers side by side", 3),
    Entrant("two digital layers superposed", 2, True),
    Entrant("three digital layers superposed", 3, True),
    Entrant("analog", 0, analog="alone"),
    Entrant("nested networks", 0, analog="nested"),
    Entrant("digital base, analog refinement", 0, analog="hybrid"),
    Entrant("analog beside one digital layer", 1, analog="beside"),
    Entrant("analog beside two digital layers", 2, analog="beside"),
    Entrant("analog beside two superposed layers", 2, True, analog="beside"),
    Entrant("analog below one digital layer", 1, analog="below"),
    Entrant("analog below two superposed layers", 2, True, analog="below"),
)
NUM_DIGITAL = sum(not entrant.analog for entrant in ENTRANTS)  # the first ones
AT_KNOWN = [  # layers are of use where SNRs differ; a digital base with a refinement is in the table of SNRs known
    entrant for entrant in ENTRANTS if entrant.num_layers < 2 and entrant.analog != "hybrid"
]
# candidates by place: networks, and the SNRs per symbol that they are planned for; quantised after training: bits
CANDIDATES: dict[str, dict[str, dict[str, tuple[float, ...]]]] = {
    "fashion": {
        "beside": {
            "low16": (2,),
            "low8": (3,),
            "norm16": (2,),
            "norm8": (3,),
            "pruned4": (4,),
            "pruned2": (7,),
            "nested": (3,),
        },
        "most": {"nested": (0, 3), "norm8": (-2,), "pruned4": (2,), "pruned2": (3,)},
        "alone": {"norm8": (-5,), "pruned4": (0,), "pruned2": (5,)},
        "nested": {"nested": (-5, 0, 5)},
        "below": {"pruned4": (2,), "nested": (0,)},
    },
    "cifar": {
        "beside": {
            "low32": (2,),
            "low16": (2,),
            "low8": (3,),
            "pruned4": (4,),
            "pruned4/222k": (4, 7),
            "pruned2": (7,),
            "nested": (3,),
        },
        "most": {"nested": (0, 3), "low4": (-1,), "low2": (1, 3), "pruned4": (2,), "pruned2": (3,)},
        "alone": {"low8": (-5,), "low4": (-2,), "pruned4": (2,), "pruned2": (5,)},
        "nested": {"nested": (-5, 0, 5)},
        "below": {"low8": (-3,), "pruned4": (2,)},
    },
}
HYBRID_DB = (-5, 0, 5)  # planned for hybrids
QUANTISED = {"fashion": (220_000, 440_000, 650_000), "cifar": (1_360_000, 2_000_000, 2_700_000)}


class Case:
    """One data set and training seed: its networks, its outputs, and the search among them."""

    def __init__(self, place: Place, arch: str, seed: int, folder: Path):
        self.arch, self.seed, self.budget = arch, seed, reference_uses(arch)
        self.shelf = shelf_of(place, arch, seed)
        self.validation, self.test = (Outputs(folder, split, examples(place, arch, split)[1]) for split in DRAWS)

    @functools.cached_property
    def digital(self) -> list[Digital]:
        """The digital parts that transmissions may have."""
        paths = sorted(self.shelf.path("digital").parent.glob("*.safetensors"))
        trained = [Digital(self.shelf.name_of(path)) for path in paths]
        return [*trained, *(Digital("clean", bits) for bits in QUANTISED[self.arch])]

    @functools.cached_property
    def analog(self) -> dict[str, list[Analog]]:
        """The analog ones, by their place."""
        return candidates(self.shelf, self.budget)

    @property
    def candidates(self) -> list[Part]:
        """All of them."""
        return [*self.digital, *dict.fromkeys(part for parts in self.analog.values() for part in parts)]

    def plans(self, search: Search, status: Status) -> list[tuple[Law, Transmission]]:
        """The best transmission of each entrant under each law; where the law leaves SNRs open, of those with an analog
        part one that is better than the best digital one in mean and worst case, if there is any."""
        found: list[tuple[Law, Transmission]] = []
        laws = [*itertools.product(LAWS.values(), ENTRANTS), *itertools.product(KNOWN.values(), AT_KNOWN)]
        for law, entrant in laws:
            parts = self.analog.get(entrant.analog, ())
            if entrant.analog and not parts:
                continue  # the networks have none of this kind
            status.update(f"{self.arch}, seed {self.seed}, {law.name}: {entrant.name} …")
            plan = search.best(law, entrant, parts)
            if entrant.analog and not law.is_known:
                curves = [expected_curve(other, search, self.validation) for of, other in found if of is law]
                digital = max(curves[:NUM_DIGITAL], key=law.mean)
                plan = self._better(search, law, plan, parts, digital)
            found.append((law, plan))
        return found

    def _better(self, search: Search, law: Law, plan: Transmission, parts: Sequence[Analog], digital: np.ndarray):
        """A plan of this kind that is better than the curve of another in mean and worst case, if there is any."""
        if law.worst(expected_curve(plan, search, self.validation)) >= law.worst(digital):
            return plan
        try:
            other = search.best(law, plan.entrant, parts, law.worst(digital))
        except InputError:
            return plan  # no plan of this kind has such a worst case
        return other if law.mean(expected_curve(other, search, self.validation)) > law.mean(digital) else plan

    def row(self, search: Search, law: Law, plan: Transmission) -> dict:
        """What a transmission is worth under a law, on test images, whose outputs are stored."""
        curve = expected_curve(plan, search, self.test)
        return {
            "dataset": DATASETS[self.arch],
            "law": law.name,
            "entrant": plan.entrant.name,
            "analog": bool(plan.entrant.analog),
            "training_seed": self.seed,
            "plan": plan.describe(),
            "layers": plan.rows(self.shelf.path, self.budget),
            "averages": search.averages_of(plan),
            "validation": law.mean(expected_curve(plan, search, self.validation)),
            **law.summary(curve),
            "curve": np.round(curve[::4], 2).tolist(),
        }

    def rows_with_feedback(self, search: Search) -> list[dict]:
        """What digital transmission would have with feedback, under each law, on test images."""
        of = {"dataset": DATASETS[self.arch], "analog": False, "training_seed": self.seed}
        return [of | {"law": law.name} | row for law in LAWS.values() for row in feedback.rows(search, law, self.test)]


def candidates(shelf: Shelf, budget: int) -> dict[str, list[Analog]]:
    """The analog parts and hybrids that transmissions may have, by their place."""

    def parts(place, network, plan_db):
        checkpoint = load_once(shelf.path(network), data_dir=shelf.judge.data_dir)
        members = from_metadata(checkpoint.metadata, checkpoint.arch)
        needed = [symbols_once(extract(checkpoint, each)) for each in members] or [symbols_once(checkpoint)]
        if place == "beside":
            spread = [SPREAD * each for each in needed]
            return [Analog(network, int(uses), plan_db) for uses in spread if uses < max(MOST) * budget]
        if place == "most":
            shares = [int(share * budget) for share in MOST]
            return [Analog(network, uses, plan_db) for uses in shares if uses >= min(needed)]
        of_state = state_symbols(checkpoint, PlanConfig(snr_db=plan_db))
        return [Analog(network, int((BELOW if place == "below" else WHOLE) * budget) - of_state, plan_db)]

    found = {
        place: [
            part
            for network, plans in networks.items()
            if shelf.path(network).is_file()
            for plan_db in plans
            for part in parts(place, network, plan_db)
        ]
        for place, networks in CANDIDATES[shelf.arch].items()
    }
    found["beside"] += found.pop("most")
    return found | {"hybrid": list(hybrids(shelf, budget))}


def hybrids(shelf: Shelf, budget: int) -> Iterator[Analog]:
    """Those that fit the budget."""
    for path in sorted(shelf.path("hybrid").parent.glob("*.safetensors")):
        for plan_db in HYBRID_DB:
            part = Analog(shelf.name_of(path), budget, plan_db, "hybrid")
            with contextlib.suppress(InputError):
                base_symbols(load_once(path, data_dir=shelf.judge.data_dir), hybrid_config(part), budget)
                yield part
