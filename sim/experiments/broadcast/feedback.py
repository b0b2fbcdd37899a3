"""What digital transmission would have if receivers answered: two rows apart from the comparison, which has no answers.

A sender that knows a receiver's SNR sends the best network that its b symbols carry there. One that only hears when a
network has arrived sends small and larger ones in turn, each in an ideal rateless code: as many symbols as it needs at
the receiver's SNR, no more, and all of b symbols. The bits that a symbol carries are those of the code in use.
"""

import itertools

import numpy as np

from airnet_sdr.dsp.units import db
from airnet_sdr.sim.experiments.broadcast.laws import CHANCE, SNR_DB, Law
from airnet_sdr.sim.experiments.broadcast.outputs import Digital, Outputs
from airnet_sdr.sim.experiments.broadcast.plans import Search, needed_snr

KNOWN, RATELESS = "digital, each SNR known", "digital, rateless, up to three networks"
MOST = 3  # networks in turn


def rows(search: Search, law: Law, test: Outputs) -> list[dict]:
    """Name, mean, 5 % quantile and worst case of both, on test images; choices are those of validation."""
    found = []
    for name, choices in ((KNOWN, [tuple(search.digital)]), (RATELESS, _sequences(search.digital))):
        thresholds = known_db if name == KNOWN else rateless_db
        best = max(choices, key=lambda each: law.mean(_curve(each, thresholds(search, each), search, search.outputs)))
        curve = _curve(best, thresholds(search, best), search, test)
        found.append({"entrant": name, "networks": [layer.network for layer in best], **law.summary(curve)})
    return found


def known_db(search: Search, networks: tuple[Digital, ...]) -> np.ndarray:
    """The SNR from which on each network alone fits the budget."""
    bits = np.array([search.outputs.bits(network) for network in networks])
    return db(needed_snr(bits / search.budget, search.budget))


def rateless_db(search: Search, networks: tuple[Digital, ...]) -> np.ndarray:
    """The SNR from which on each network and all before it fit the budget together."""
    bits = np.cumsum([search.outputs.bits(network) for network in networks])
    return db(needed_snr(bits / search.budget, search.budget))


def _sequences(networks: list[Digital]) -> list[tuple[Digital, ...]]:
    return [each for num in range(1, MOST + 1) for each in itertools.combinations(networks, num)]


def _curve(networks: tuple[Digital, ...], least_db: np.ndarray, search: Search, outputs: Outputs) -> np.ndarray:
    """Accuracy over `SNR_DB` of the network that validation prefers among those that arrived."""
    curve, best = np.full(SNR_DB.size, CHANCE), np.full(SNR_DB.size, CHANCE)
    for network, threshold in zip(networks, least_db, strict=True):
        validated, accuracy = search.outputs.accuracies(network)[0], outputs.accuracies(network)[0]
        better = (threshold <= SNR_DB) & (search.floor_db <= SNR_DB) & (validated > best)
        best[better], curve[better] = validated, accuracy
    return curve
