"""The search for the best transmission on validation images.

The layers arrive one after the other as the SNR rises, and the receiver answers from those that arrived by the rule
that validation prefers (`answers`). The search takes the bits that a symbol carries from one table for all lengths;
`expected_curve` then plans the code itself. Of plans whose means differ by less than `NEARLY` the one of the best worst
case is taken; plans whose worst case is below what is asked for are left out.
"""

import dataclasses
import functools
import itertools
import operator
from collections.abc import Iterator, Sequence

import numpy as np

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.units import db, linear
from airnet_sdr.models.digital.channel_code import CodedPayload
from airnet_sdr.models.digital.rate import arrival, best_payload, most_robust
from airnet_sdr.sim.experiments.broadcast.answers import Place, Rule, answered_curve, best_rule
from airnet_sdr.sim.experiments.broadcast.laws import CHANCE, SNR_DB, Law
from airnet_sdr.sim.experiments.broadcast.outputs import WEIGHTS, Analog, Digital, Outputs, Part
from airnet_sdr.sim.experiments.broadcast.transmissions import Entrant, Transmission, others
from airnet_sdr.sim.experiments.library.white_noise import ESTIMATE_ERROR

SHARES = np.arange(0.025, 1.0, 0.025)  # of the symbols, side by side
POWERS = (0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 0.99)  # of a layer in what is left
# energies of an analog part beside, over that of the budget
ENERGIES = (0.03, 0.07, 0.12, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8, 0.9)
BELOW = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)  # power of an analog part below
STATE_DB = (-5.0, -8.0, -10.0)  # planned for an analog part's state: it arrives from -6.5, -9.5, -12.5 dB on
LEAST_SHARE = 0.02  # of the digital layers, of symbols and of energy
TABLE_DB = np.arange(-16.0, 24.1, 0.5)
NEARLY = 0.05  # points of mean accuracy
NUM_FINAL = 6  # plans by mean and by worst case for which the code is planned


class Search:
    """The best transmissions of a budget of symbols, by the outputs of their parts on validation images."""

    def __init__(
        self,
        outputs: Outputs,
        budget: int,
        digital: Sequence[Digital],
        floor_db: float = -np.inf,
        averages: bool = True,
    ):
        self.outputs, self.budget, self.floor_db, self.averages = outputs, budget, floor_db, averages
        self.digital = sorted(digital, key=outputs.bits)

    @functools.cache  # noqa: B019
    def rule(self, arrived: tuple[Part, ...]) -> Rule:
        """The best answers on these images from what arrived."""
        return best_rule(self.outputs, arrived, self.averages)

    @functools.cache  # noqa: B019
    def curve(self, arrived: tuple[Part, ...], place: Place | None) -> np.ndarray:
        """Validation accuracy over `SNR_DB` of what arrived."""
        curve = answered_curve(self.outputs, arrived, self.rule, place)
        return np.where(SNR_DB < self.floor_db, CHANCE, curve)

    @functools.cache  # noqa: B019
    def integral(self, arrived: tuple[Part, ...], place: Place | None, law: Law) -> np.ndarray:
        """Sum of weight times accuracy over the points below each of `SNR_DB` and above all: (points + 1,)."""
        return np.concatenate([[0], np.cumsum(law.weights * self.curve(arrived, place))])

    def best(
        self, law: Law, entrant: Entrant, parts: Sequence[Analog] = (), least_worst: float = -np.inf
    ) -> Transmission:
        """The transmission of this kind with the most mean accuracy, of those whose worst case is ``least_worst`` or
        more; InputError if there is none that reaches a receiver."""
        found: list[tuple[float, float, Transmission]] = []
        for part, power in _choices(entrant, parts, self.budget):
            for state_db in STATE_DB if part and self.outputs.state_symbols(part, 0.0) else STATE_DB[:1]:
                for layers in itertools.combinations(self.digital, entrant.num_layers):
                    plan = Transmission(entrant, layers, (), (), part, power, state_db)
                    found += self._divided(law, plan, least_worst)
        if not found:
            least = f" with {least_worst:.1f} % or more" if least_worst > -np.inf else ""
            raise InputError(f"no transmission of the kind {entrant.name!r} arrives{least}; give more networks")
        curves = {plan: expected_curve(plan, self, self.outputs) for plan in _final(found, law)}
        least_worst = min(least_worst, max(map(law.worst, curves.values())))
        curves = {plan: curve for plan, curve in curves.items() if law.worst(curve) >= least_worst}
        most = max(law.mean(curve) for curve in curves.values())
        return max(
            (plan for plan, curve in curves.items() if law.mean(curve) > most - NEARLY),
            key=lambda plan: (round(law.worst(curves[plan]), 1), law.mean(curves[plan])),
        )

    def place(self, plan: Transmission) -> Place | None:
        """Where the analog part of a plan is met."""
        if plan.analog is None:
            return None
        above = 1 - plan.analog_power if plan.entrant.analog == "below" else 0.0
        return Place(plan.analog_power, above, self.outputs.least_db(plan.analog, plan.state_db))

    def averages_of(self, plan: Transmission) -> list[dict]:
        """The averages of a transmission file (`models.transmission`): where another network than that of the last
        layer that arrived answers, or the mean of two. The layers are numbered as in `Transmission.rows`."""
        parts = [*([plan.analog] if plan.analog else []), *plan.layers]
        rows: list[dict] = []
        for k in range(len(plan.layers) + 1):
            arrived = plan.arrived(k)
            best = k - 1 + bool(plan.analog)
            rule = self.rule(arrived) if arrived else ()
            limits = [-128, 127]
            if len(rule) > 1:
                met_db = plan.analog.met_db - float(db(plan.analog_power))
                limits[1:1] = [round(each) for each in (met_db[1:] + met_db[:-1]) / 2]
            for answer, least_db, below_db in zip(rule, limits, limits[1:], strict=False):
                first, second = parts.index(answer.first), parts.index(answer.second or answer.first)
                weight = WEIGHTS[answer.weight] if answer.second else 1
                if (first == best and weight == 1) or least_db == below_db:
                    continue
                row = {"best": best, "layers": [first, second], "weight": weight, "snr_db": [least_db, below_db]}
                if rows and rows[-1] == row | {"snr_db": [rows[-1]["snr_db"][0], least_db]}:
                    rows[-1]["snr_db"][1] = below_db
                else:
                    rows.append(row)
        return rows

    def _divided(self, law: Law, plan: Transmission, least_worst: float) -> Iterator[tuple[float, float, Transmission]]:
        """The best few divisions of the symbols among the layers, each with mean and worst accuracy."""
        room, power = self._room(plan)
        if room < 0:
            return
        if not plan.layers:
            curve = self.curve(plan.arrived(0), self.place(plan))
            if law.worst(curve) >= least_worst:
                yield law.mean(curve), law.worst(curve), plan
        elif room > LEAST_SHARE and power > LEAST_SHARE:
            shares, powers = divisions(len(plan.layers), plan.entrant.superposed)
            shares, powers = room * shares, power * powers
            means, worst = self._means(law, plan, shares, powers)
            means = np.where(worst < least_worst, -1, means)
            near = np.flatnonzero((means > means.max() - NEARLY) & (means > 0))
            for k in {*near[np.argsort(means[near])[-2:]], *near[np.argsort(worst[near])[-1:]]}:
                divided = dataclasses.replace(plan, shares=tuple(shares[k]), powers=tuple(powers[k]))
                yield float(means[k]), float(worst[k]), divided

    def _room(self, plan: Transmission) -> tuple[float, float]:
        """The share of the budget's symbols that the digital layers have, and their power per symbol; below 0 where the
        analog part and its state do not fit."""
        states, uses, power = 0, 0, 1.0
        if plan.analog is not None:
            states = self.outputs.state_symbols(plan.analog, plan.state_db)
            uses = plan.analog.uses
        left = self.budget - states - uses
        if plan.entrant.analog == "below" and left >= 0:
            return 1 - states / self.budget, power - plan.analog_power
        if uses and left > 0:
            power = (self.budget - states - plan.analog_power * uses) / left
        return left / self.budget, power

    def _means(self, law: Law, plan: Transmission, shares: np.ndarray, powers: np.ndarray):
        """Mean and worst accuracies (D,) of every division, -1 where a layer reaches no receiver."""
        bits = np.array([self.outputs.bits(layer) for layer in plan.layers])
        needed = needed_snr(bits / (shares * self.budget), self.budget)
        above, rest = others(plan, powers)
        margin = powers / (1 + ESTIMATE_ERROR * above) - np.where(rest > 1e-9, np.minimum(needed, 1e9) * rest, 0)
        threshold = np.where(margin > 0, needed / np.maximum(margin, 1e-12), np.inf)
        threshold = np.maximum.accumulate(threshold, axis=1)
        index = np.searchsorted(SNR_DB, db(threshold))  # the first point at which it arrives
        means, worst, last = np.zeros(len(shares)), np.zeros(len(shares)), np.zeros(len(shares), int)
        place = self.place(plan)
        for k in range(len(plan.layers) + 1):
            until = index[:, k] if k < len(plan.layers) else np.full(len(shares), len(SNR_DB))
            arrived = plan.arrived(k)
            where = place if plan.analog in arrived else None
            total = self.integral(arrived, where, law)
            means += total[until] - total[last]
            worst[(last <= law.worst_point) & (law.worst_point < until)] = self.curve(arrived, where)[law.worst_point]
            last = until
        return np.where(np.isfinite(threshold).all(axis=1), means, -1.0), worst


def expected_curve(plan: Transmission, search: Search, outputs: Outputs) -> np.ndarray:
    """Expected accuracy over `SNR_DB`: layers arrive as the measured waterfalls say, answers are those of validation.

    ``outputs`` may be those on test images; the receiver's rule is always that of the search.
    """
    arrives, states = np.ones(SNR_DB.size), []
    above, rest = others(plan, np.array(plan.powers)[None])
    snr, place = linear(SNR_DB), search.place(plan)
    for k, (layer, share, power) in enumerate(zip(plan.layers, plan.shares, plan.powers, strict=True)):
        payload = _coded(-(-search.outputs.bits(layer) // 8), int(share * search.budget))
        sinr = power * snr / (1 + ESTIMATE_ERROR * above[0, k] + rest[0, k] * snr)
        states.append(arrives)
        arrives = np.minimum(arrives, np.interp(db(sinr), SNR_DB, _waterfall(payload)))
    states.append(arrives)
    curve, following = np.zeros(SNR_DB.size), [*states[1:], np.zeros(SNR_DB.size)]
    for k, (probability, more) in enumerate(zip(states, following, strict=True)):
        curve += (probability - more) * answered_curve(outputs, plan.arrived(k), search.rule, place)
    return np.where(SNR_DB < search.floor_db, CHANCE, curve)


def _final(found: list[tuple[float, float, Transmission]], law: Law) -> list[Transmission]:
    """The plans, of those found with mean and worst accuracy, for which the code is planned: those of best mean and of
    best worst case; at a known SNR, where a layer may arrive by a hair or not, the best of each choice of layers."""
    mean, worst = operator.itemgetter(0), operator.itemgetter(1)
    if law.is_known:
        final = set({plan.layers: plan for _, _, plan in sorted(found, key=mean)}.values())
    else:
        most = max(map(mean, found))
        near = [row for row in found if mean(row) > most - 2 * NEARLY]
        final = {plan for by in (mean, worst) for _, _, plan in sorted(near, key=by)[-NUM_FINAL:]}
    return sorted(final, key=Transmission.describe)


def divisions(num_layers: int, superposed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the symbols and of the power (D, layers) of all divisions that are tried."""
    if superposed:
        rows = []
        for each in itertools.product(POWERS, repeat=num_layers - 1):
            left = np.cumprod([1.0, *(1 - fraction for fraction in each)])
            rows.append([*(left[:-1] * each), left[-1]])
        return np.ones((len(rows), num_layers)), np.array(rows)
    parts = [each for each in itertools.product(SHARES, repeat=num_layers - 1) if sum(each) < 0.99]
    shares = np.array([[*each, 1 - sum(each)] for each in parts])
    return shares, np.ones_like(shares)


def needed_snr(bits: np.ndarray, budget: int) -> np.ndarray:
    """The linear SNR at which a symbol carries these bits; inf where none does."""
    table = _table(budget)
    log = np.interp(np.log(bits), np.log(np.maximum(table, 1e-9)), TABLE_DB, right=np.inf)
    return np.where(np.isfinite(log), linear(np.minimum(log, 99.0)), np.inf)


def _choices(entrant: Entrant, parts: Sequence[Analog], budget: int) -> Iterator[tuple[Analog | None, float]]:
    """The analog parts and their powers that are tried."""
    if not entrant.analog:
        yield None, 0.0
    for part in parts if entrant.analog else ():
        of = {"below": BELOW, "beside": [energy * budget / part.uses for energy in ENERGIES]}
        for power in of.get(entrant.analog, (1.0,)):
            yield part, power


@functools.cache
def _coded(num_bytes: int, num_symbols: int) -> CodedPayload:
    return most_robust(num_bytes, num_symbols)


@functools.cache
def _waterfall(payload: CodedPayload) -> np.ndarray:
    """Probability over `SNR_DB` that a payload arrives."""
    return np.array([arrival(payload, float(each)) for each in SNR_DB])


@functools.cache
def _table(budget: int) -> np.ndarray:
    """Bits a symbol at `TABLE_DB`, of a payload of a third of the budget."""

    def bits(snr_db):
        try:
            return 8 * best_payload(budget // 3, snr_db).num_bytes / (budget // 3)
        except InputError:
            return 0.0

    return np.maximum.accumulate([bits(snr_db) for snr_db in TABLE_DB])
