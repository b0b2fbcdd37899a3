"""The comparison of one transmission for every receiver: laws, the search against a plain sum, and the command."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.units import linear
from airnet_sdr.models import shipped
from airnet_sdr.models.digital.rate import least_snr_db, most_robust
from airnet_sdr.sim.experiments.broadcast import feedback, plans
from airnet_sdr.sim.experiments.broadcast.answers import Place
from airnet_sdr.sim.experiments.broadcast.case import candidates
from airnet_sdr.sim.experiments.broadcast.laws import CHANCE, KNOWN, LAWS, SNR_DB, known
from airnet_sdr.sim.experiments.broadcast.outputs import OFFSETS_DB, WEIGHTS, Analog, Digital
from airnet_sdr.sim.experiments.broadcast.plans import Search, expected_curve
from airnet_sdr.sim.experiments.broadcast.tables import known_table, leads
from airnet_sdr.sim.experiments.broadcast.transmissions import Entrant
from airnet_sdr.sim.experiments.grid.plans import reference_uses
from airnet_sdr.sim.experiments.library.networks import Shelf
from airnet_sdr.sim.experiments.library.white_noise import ADDED_NOISE, ESTIMATE_ERROR

BUDGET = 40_000


class Known:
    """`Outputs` of networks of known accuracies: three digital ones, and an analog one that falls slowly.

    A mean of two networks is ``gain`` points better than the better one with equal weights, otherwise as bad as chance.
    """

    digital = {Digital("small"): (3000, 80.0), Digital("middle"): (20_000, 88.0), Digital("large"): (60_000, 92.0)}
    analog = Analog("base", 10_000, -3.0)
    gain, error, state, least = -5.0, 0.0, 0, -np.inf

    def bits(self, part):
        return self.digital[part][0]

    def accuracies(self, part):
        if part == self.analog:
            return np.interp(part.met_db, [-10, -4, 12], [10, 75, 85])
        return np.array([self.digital[part][1]])

    def averaged(self, first, second):
        best = np.maximum(self.accuracies(first), self.accuracies(second)) + self.gain
        each = np.array([best if weight == 0.5 else np.full_like(best, CHANCE) for weight in WEIGHTS])
        return each, np.full_like(each, self.error)

    def state_symbols(self, part, plan_db):
        return self.state

    def least_db(self, part, plan_db):
        return self.least


@pytest.fixture
def search():
    return Search(Known(), BUDGET, list(Known.digital))


@pytest.mark.parametrize("name, mean_snr", [("rayleigh10", 10.0), ("rayleigh15", linear(15))])
def test_rayleigh_fading_is_exponential(name, mean_snr):
    law = LAWS[name]
    assert law.weights.sum() == pytest.approx(1) and law.weights @ linear(SNR_DB) == pytest.approx(mean_snr, rel=0.01)
    step = np.where(SNR_DB >= 0, 90.0, CHANCE)
    assert law.mean(step) == pytest.approx(CHANCE + 80 * np.exp(-1 / mean_snr), abs=0.3)
    ramp = np.clip(SNR_DB + 40, 0, 100)
    assert law.worst(ramp) == pytest.approx(40 + 10 * np.log10(-mean_snr * np.log(0.99)), abs=0.3)
    assert law.quantile(ramp, 0.05) == pytest.approx(40 + 10 * np.log10(-mean_snr * np.log(0.95)), abs=0.3)


def test_the_uniform_law_has_a_worst_case_at_its_edge():
    law, ramp = LAWS["uniform"], np.clip(SNR_DB + 40, 0, 100)
    assert law.summary(ramp) == pytest.approx({"mean": 47.5, "p05": 36.25, "worst": 35.0}, abs=0.1)
    assert law.worst(-ramp) == -60


def test_the_best_single_network_is_that_of_the_plain_sum(search):
    law = LAWS["rayleigh10"]
    means = {}
    for part, (bits, reached) in Known.digital.items():
        threshold = least_snr_db(most_robust(-(-bits // 8), BUDGET))
        means[part] = law.mean(np.where(SNR_DB >= threshold, reached, CHANCE))
    plan = search.best(law, Entrant("", 1))
    assert plan.layers == (max(means, key=means.get),) and plan.shares == (1.0,)
    assert law.mean(expected_curve(plan, search, search.outputs)) == pytest.approx(
        max(means.values()), abs=0.8
    )  # the table is for 99 %


@pytest.mark.parametrize("superposed", [False, True])
def test_more_layers_and_an_analog_part_are_no_worse(search, superposed):
    law, means = LAWS["rayleigh10"], []
    for num_layers, analog in ((1, ""), (2, ""), (2, "beside")):
        plan = search.best(law, Entrant("", num_layers, superposed and num_layers > 1, analog), [Known.analog])
        curve = expected_curve(plan, search, search.outputs)
        means.append(law.mean(curve))
        shares = plan.shares if not plan.entrant.superposed else plan.shares[:1] * num_layers
        energy = np.dot(plan.powers, shares) + plan.analog_power * Known.analog.uses / BUDGET
        assert energy == pytest.approx(1) and bool(plan.analog) == bool(analog)
        assert curve[SNR_DB == -8][0] >= (50 if analog else CHANCE)
    assert means[1] > means[0] + 1 and means[2] > means[1]


def test_a_superposed_layer_arrives_where_its_sinr_suffices(search):
    plan = search.best(LAWS["rayleigh15"], Entrant("", 2, superposed=True))
    first, second = (most_robust(-(-Known.digital[layer][0] // 8), BUDGET) for layer in plan.layers)
    curve = expected_curve(plan, search, search.outputs)
    for payload, power, rest, reached in (
        (first, plan.powers[0], plan.powers[1], Known.digital[plan.layers[0]][1]),
        (second, plan.powers[1], 0, Known.digital[plan.layers[1]][1]),
    ):
        needed = linear(least_snr_db(payload))
        snr_db = 10 * np.log10(needed / (power - rest * needed))
        assert curve[SNR_DB >= snr_db + 0.5][0] == pytest.approx(reached, abs=0.5)
        assert curve[SNR_DB < snr_db - 1.5][-1] < reached - 2


def test_an_analog_part_below_is_met_at_its_share_of_the_power(search):
    part = Analog("base", BUDGET, -5.0)
    search.outputs.analog = part
    plan = search.best(LAWS["uniform"], Entrant("", 1, analog="below"), [part])
    curve = expected_curve(plan, search, search.outputs)
    met_db = 20 + 10 * np.log10(plan.analog_power)
    reached = max(np.interp(met_db, [-10, -4, 12], [10, 75, 85]), Known.digital[plan.layers[0]][1])
    assert plan.powers == (1 - plan.analog_power,) and curve[SNR_DB == 20][0] == pytest.approx(reached, abs=0.5)


@pytest.mark.parametrize("power, above", [(1.0, 0.0), (4.0, 0.0), (0.1, 0.9)])
def test_an_analog_part_of_any_power_is_met_at_an_snr_of_unit_power(power, above):
    """The noise of `WhiteNoise` relative to the part, counted both ways."""
    place, snr_db = Place(power, above), np.array([-5.0, 0.0, 20.0])
    snr, met = linear(snr_db), linear(place.met_db(snr_db))
    noise = ((1 + ADDED_NOISE / snr) / snr + ESTIMATE_ERROR / snr * (power + above)) / power
    assert (1 + ESTIMATE_ERROR + ADDED_NOISE / met) / met == pytest.approx(noise)
    assert place.met_db(snr_db) == pytest.approx(snr_db + 10 * np.log10(power), abs=0.8)


@pytest.mark.parametrize("error, averages", [(0.6, False), (0.4, True)])
def test_two_networks_are_averaged_where_that_is_better_beyond_doubt(search, error, averages):
    search.outputs.gain, search.outputs.error = 1.0, error
    entrant, law = Entrant("", 2, analog="beside"), LAWS["rayleigh10"]
    plan = search.best(law, entrant, [Known.analog])
    rows = search.averages_of(plan)
    assert any(row["weight"] == 0.5 for row in rows) == averages
    assert all(row["best"] >= max(row["layers"]) and row["snr_db"][0] < row["snr_db"][1] for row in rows)
    replacing = Search(search.outputs, BUDGET, list(Known.digital), averages=False)
    kept = replacing.best(law, entrant, [Known.analog])
    assert all(row["weight"] == 1 for row in replacing.averages_of(kept))
    better = law.mean(expected_curve(plan, search, search.outputs)) - law.mean(
        expected_curve(kept, replacing, search.outputs)
    )
    assert better > 0.5 if averages else abs(better) < 0.05
    best = search.rule((Digital("middle"), Known.analog))
    assert len(best) == OFFSETS_DB.size and all((answer.second is not None) == averages for answer in best)


def test_of_plans_of_nearly_one_mean_the_best_worst_case_is_taken(search, monkeypatch):
    worst, best = {}, None
    for nearly in (1e-6, 0.05, 1.0):
        monkeypatch.setattr(plans, "NEARLY", nearly)
        curves = {
            law: expected_curve(search.best(law, Entrant("", 2)), search, search.outputs) for law in LAWS.values()
        }
        worst[nearly] = [law.worst(curve) for law, curve in curves.items()]
        means = [law.mean(curve) for law, curve in curves.items()]
        best = best or means
        assert np.all(np.array(means) > np.array(best) - nearly - 1e-6)
    assert all(b >= a - 0.1 and c >= b - 0.1 for a, b, c in zip(*worst.values(), strict=True))
    assert sum(worst[1.0]) > sum(worst[1e-6]) + 1


def test_a_worst_case_that_is_asked_for_is_kept_where_a_plan_has_it(search):
    law, entrant, parts = LAWS["uniform"], Entrant("", 1, analog="beside"), [Known.analog]

    def found(least_worst):
        curve = expected_curve(search.best(law, entrant, parts, least_worst), search, search.outputs)
        return law.mean(curve), law.worst(curve)

    mean, worst = found(-np.inf)
    kept_mean, kept_worst = found(worst + 2)
    assert kept_worst >= worst + 2 and 50 < kept_mean < mean
    assert found(worst - 2) == (mean, worst)
    with pytest.raises(InputError, match="99.0 %"):
        found(99.0)


def test_a_state_takes_symbols_and_arrives_from_an_snr_on(search):
    search.outputs.state, search.outputs.least = 1000, -4.0
    plan = search.best(LAWS["rayleigh10"], Entrant("", 1, analog="beside"), [Known.analog])
    assert sum(plan.shares) == pytest.approx(1 - (Known.analog.uses + 1000) / BUDGET)
    energy = np.dot(plan.powers, plan.shares) + (plan.analog_power * Known.analog.uses + 1000) / BUDGET
    assert energy == pytest.approx(1)
    curve = expected_curve(plan, search, search.outputs)
    assert np.all(curve[SNR_DB < -4] < CHANCE + 1) and curve[SNR_DB == -4][0] > 60


def test_below_the_floor_there_is_no_network():
    search = Search(Known(), BUDGET, list(Known.digital), floor_db=0.0)
    plan = search.best(LAWS["rayleigh10"], Entrant("", 1, analog="beside"), [Known.analog])
    curve = expected_curve(plan, search, search.outputs)
    assert np.all(curve[SNR_DB < 0] == CHANCE) and curve[SNR_DB == 0][0] > 70


def test_a_hybrid_is_lost_where_its_base_is(search):
    search.outputs.analog, search.outputs.least = Analog("base", BUDGET, -3.0, "hybrid"), -2.0
    plan = search.best(LAWS["uniform"], Entrant("", 0, analog="hybrid"), [search.outputs.analog])
    curve = expected_curve(plan, search, search.outputs)
    assert np.all(curve[SNR_DB < -2] == CHANCE) and np.all(curve[SNR_DB >= -2] > 70)
    (row,) = plan.rows(Path, BUDGET)
    assert (row["scheme"], row["uses"], row["snr_db"]) == ("hybrid", BUDGET, -3.0)


def test_feedback_is_worth_more_the_more_of_it_there_is(search):
    law = LAWS["uniform"]
    known, rateless = feedback.rows(search, law, search.outputs)
    blind = search.best(law, Entrant("", 1))
    assert known["mean"] > rateless["mean"] > law.mean(expected_curve(blind, search, search.outputs))
    networks = tuple(search.digital)
    alone, together = feedback.known_db(search, networks), feedback.rateless_db(search, networks)
    assert alone[0] == together[0] and np.all(alone[1:] < together[1:])
    accuracies = [accuracy for _, accuracy in Known.digital.values()]
    assert known["worst"] == max(np.where(alone <= -5, accuracies, CHANCE))
    assert rateless["networks"][-1] == "large" and len(rateless["networks"]) > 1


def test_at_a_known_snr_the_network_is_sent_that_arrives_there(search):
    """Also just at its threshold, where it fails in one of a hundred transmissions, and just below."""
    for part, (bits, reached) in Known.digital.items():
        threshold = least_snr_db(most_robust(-(-bits // 8), BUDGET))
        above, below = (round(4 * threshold + offset) / 4 for offset in (0.5, -4))
        plan = search.best(known(above), Entrant("", 1))
        assert plan.layers == (part,)
        assert known(above).mean(expected_curve(plan, search, search.outputs)) == pytest.approx(reached, abs=2)
        if part != search.digital[0]:
            assert search.best(known(below), Entrant("", 1)).layers == (search.digital[search.digital.index(part) - 1],)
    assert all(law.is_known and law.weights.sum() == 1 for law in KNOWN.values())
    assert not any(law.is_known for law in LAWS.values())


def test_the_table_of_known_snrs_has_a_column_each():
    rows = [{"dataset": "d", "law": law.name, "entrant": "a", "mean": 80 + snr} for snr, law in KNOWN.items()]
    assert known_table(rows, "d")[-1] == "| a | 75.00 | 80.00 | 85.00 | 90.00 | 95.00 | 100.00 |"


def test_leads_compare_the_best_of_both_sides():
    rows = [
        {"dataset": "d", "law": "l", "entrant": name, "analog": analog, "mean": mean, "p05": mean - 1, "worst": 10}
        for name, analog, mean in (("a", True, 80), ("b", True, 82.5), ("c", False, 81), ("d", False, 79))
    ]
    found = leads(rows)["d", "l"]
    assert found == {"analog": "b", "digital": "c", "mean": 1.5, "p05": 1.5, "worst": 0}
    json.dumps(found)


def test_a_plan_is_a_transmission_file(search):
    """Its layers have the mean power 1, with the state's symbols, and the places of the plan."""
    for analog, superposed in (("beside", True), ("beside", False), ("below", True)):
        part = Known.analog if analog == "beside" else Analog("base", BUDGET, -3.0)
        search.outputs.analog = part
        plan = search.best(LAWS["rayleigh10"], Entrant("", 2, superposed, analog), [part])
        rows = plan.rows(Path, BUDGET)
        assert [row["scheme"] for row in rows] == ["analog", "digital", "digital"]
        assert max(row["start"] + row["uses"] for row in rows) == pytest.approx(BUDGET, abs=2)
        assert sum(row["uses"] * linear(row["power_db"]) for row in rows) == pytest.approx(BUDGET, rel=1e-3)
        (base,) = (row for row in rows if row["scheme"] == "analog")
        assert base["snr_db"] + base["power_db"] == pytest.approx(part.plan_db)


@pytest.mark.parametrize("arch", ["fashion", "cifar"])
def test_every_analog_part_leaves_room_for_what_it_is_sent_with(arch):
    budget = reference_uses(arch)
    found = candidates(Shelf(shipped.ZOO, 1, SimpleNamespace(data_dir=None), arch), budget)
    assert set(found) == {"beside", "alone", "nested", "below", "hybrid"} and all(found.values())
    shares = {part.uses / budget for part in found["beside"]}
    assert 0.01 < min(shares) < 0.1 and max(shares) == pytest.approx(0.75, abs=1e-4)  # beside digital layers
    assert all(0.9 < part.uses / budget <= 0.96 for part in found["below"])
    assert all(0.9 < part.uses / budget <= 1 for part in found["alone"] + found["nested"])
