"""Unequal error protection: its constraints always hold, and no other plan tried does better."""

import numpy as np
import pytest

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.power_range import MIN_POWER_DB, MOST_POWER_DB
from airnet_sdr.dsp.uep import Protection, best_curve, plan_protection, uniform
from airnet_sdr.dsp.units import db, linear
from airnet_sdr.models.curves import expansion_curves

NUM_SYMBOLS = np.array([72, 2304, 9216, 36864, 101376, 7920])
SNR_GRID_DB = np.arange(-10, 30, 5)
WEIGHTS = np.array([1.0, 2.0, 1.5, 1.0, 0.7, 4.0])
DAMAGE = WEIGHTS[:, None] / (1 + linear(SNR_GRID_DB))


def expected_damage(protection, snr_db, damage=DAMAGE):
    """Sum of the layers' damages where they arrive, interpolated over dB."""
    arrived_db = db(protection.snr(linear(snr_db)))
    return sum(np.interp(at, SNR_GRID_DB, curve) for at, curve in zip(arrived_db, damage, strict=True))


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 7.3, 20.0])
@pytest.mark.parametrize("ratio", [1.0, 1.001, 1.3, 2.0, 4.7])
def test_constraints_hold(snr_db, ratio):
    budget = int(ratio * NUM_SYMBOLS.sum())
    plan = plan_protection(NUM_SYMBOLS, DAMAGE, SNR_GRID_DB, snr_db, budget)
    sent = plan.copies * NUM_SYMBOLS
    assert plan.copies.min() >= 1 and plan.copies.max() <= 8 and 0.99 * budget < plan.num_sent(NUM_SYMBOLS) <= budget
    assert -0.05 < db(np.average(plan.power, weights=sent)) <= 0.05
    power_db = db(plan.power)
    assert np.abs(power_db).max() <= 9 and np.allclose(power_db * 4, np.round(power_db * 4), atol=1e-9)


@pytest.mark.parametrize("snr_db", [-5.0, 5.0, 15.0])
@pytest.mark.parametrize("max_power_db", [0.0, 3.1, 9.0, 13.2, 15.0, MOST_POWER_DB])
def test_no_layer_has_more_power_than_the_plan_allows(snr_db, max_power_db):
    grid = np.arange(-30.0, 61.0)
    damage = np.tile(1 / (1 + linear(grid)), (len(NUM_SYMBOLS), 1))
    budget = int(1.1 * NUM_SYMBOLS.sum())
    for curves in ((), expansion_curves()):
        plan = plan_protection(NUM_SYMBOLS, damage, grid, snr_db, budget, curves=curves, max_power_db=max_power_db)
        power_db = db(plan.power)
        assert MIN_POWER_DB - 1e-9 <= power_db.min() and power_db.max() <= max_power_db + 1e-9
        assert np.allclose(power_db * 4, np.round(power_db * 4), atol=1e-9)
        assert -0.25 < db(np.average(plan.power, weights=plan.uses * NUM_SYMBOLS)) <= 0.05


def test_with_more_power_for_small_layers_less_is_expected_to_be_lost():
    grid = np.arange(-30.0, 61.0)
    damage = np.tile(1 / (1 + linear(grid)), (len(NUM_SYMBOLS), 1))
    plans = [
        plan_protection(NUM_SYMBOLS, damage, grid, 5.0, NUM_SYMBOLS.sum(), max_power_db=most) for most in (3, 9, 15)
    ]
    left = [(1 / (1 + plan.snr(linear(5.0)))).sum() for plan in plans]
    assert left[0] > 1.01 * left[1] and left[1] > 1.01 * left[2]
    usual = plan_protection(NUM_SYMBOLS, damage, grid, 5.0, NUM_SYMBOLS.sum())
    assert np.array_equal(usual.power, plans[1].power) and db(usual.power.max()) == pytest.approx(9)


@pytest.mark.parametrize("snr_db", [-3.0, 0.0, 5.0])
@pytest.mark.parametrize("copies", [1, 2])
def test_beats_uniform_and_all_the_extra_on_any_one_layer(snr_db, copies):
    budget = copies * int(NUM_SYMBOLS.sum())
    best = expected_damage(plan_protection(NUM_SYMBOLS, DAMAGE, SNR_GRID_DB, snr_db, budget), snr_db)
    assert best < 0.95 * expected_damage(uniform(NUM_SYMBOLS, copies), snr_db)
    for layer, num in enumerate(NUM_SYMBOLS):
        alone = uniform(NUM_SYMBOLS, 1)
        alone.copies[layer] += (budget - NUM_SYMBOLS.sum()) // num
        assert best < expected_damage(alone, snr_db)


def test_no_exchange_of_energy_between_two_layers_helps():
    """The Lagrange condition, up to the steps of 0.25 dB: a hundredth of one layer's energy is no better elsewhere."""
    budget = 2 * int(NUM_SYMBOLS.sum())
    plan = plan_protection(NUM_SYMBOLS, DAMAGE, SNR_GRID_DB, 0.0, budget)
    best = expected_damage(plan, 0.0)
    energy = plan.power * plan.copies * NUM_SYMBOLS
    for giver in range(6):
        for taker in set(range(6)) - {giver}:
            power = plan.power.copy()
            power[giver] *= 0.8
            power[taker] *= 1 + 0.2 * energy[giver] / energy[taker]
            if abs(db(power[taker])) <= 9:
                assert expected_damage(Protection(plan.copies, power), 0.0) > best - 0.002


def test_a_layer_that_does_not_matter_pays_for_one_that_does():
    plan = plan_protection([1000, 1000], [[0.0] * 8, DAMAGE[0]], SNR_GRID_DB, 0.0, 2000)
    assert plan.copies.tolist() == [1, 1] and db(plan.power[0]) <= -8.5 and db(plan.power[1]) == pytest.approx(2.75)


def test_equal_layers_are_treated_alike():
    plan = plan_protection([500, 500], DAMAGE[[0, 0]], SNR_GRID_DB, 0.0, 3000)
    assert plan.copies.tolist() == [3, 3] and plan.power.tolist() == [1, 1]


def test_noise_in_the_measurement_and_no_damage_at_all_do_no_harm():
    rng = np.random.default_rng(1)
    for damage in (np.zeros_like(DAMAGE), -DAMAGE, rng.normal(size=DAMAGE.shape)):
        plan = plan_protection(NUM_SYMBOLS, damage, SNR_GRID_DB, 3.0, 300_000)
        assert abs(db(np.average(plan.power, weights=plan.copies * NUM_SYMBOLS))) <= 0.25


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match=f"{NUM_SYMBOLS.sum() - 1} .* {NUM_SYMBOLS.sum()}"):
        plan_protection(NUM_SYMBOLS, DAMAGE, SNR_GRID_DB, 0.0, NUM_SYMBOLS.sum() - 1)
    with pytest.raises(InputError, match="shape"):
        plan_protection(NUM_SYMBOLS[:5], DAMAGE, SNR_GRID_DB, 0.0, 10**6)
    with pytest.raises(InputError, match="increasing"):
        plan_protection(NUM_SYMBOLS, DAMAGE, SNR_GRID_DB[::-1], 0.0, 10**6)


def test_uniform():
    plan = uniform(NUM_SYMBOLS, 3)
    assert plan.copies.tolist() == [3] * 6 and plan.power.tolist() == [1.0] * 6
    assert plan.num_sent(NUM_SYMBOLS) == 3 * NUM_SYMBOLS.sum()


@pytest.mark.parametrize("snr_db", [0.0, 5.0, 10.0])
@pytest.mark.parametrize("ratio", [2.0, 4.3, 9.0])
def test_with_curves_constraints_hold_and_no_simpler_plan_does_better(snr_db, ratio):
    budget = int(ratio * NUM_SYMBOLS.sum())
    grid, damage = np.arange(-10, 75, 5), WEIGHTS[:, None] / (1 + linear(np.arange(-10, 75, 5)))

    def expected(plan):
        at = db(plan.snr(linear(snr_db)))
        return sum(np.interp(x, grid, curve) for x, curve in zip(at, damage, strict=True))

    plan = plan_protection(NUM_SYMBOLS, damage, grid, snr_db, budget, 24, expansion_curves())
    assert 0.85 * budget < plan.num_sent(NUM_SYMBOLS) <= budget and plan.uses.max() <= 24
    assert db(np.average(plan.power, weights=plan.uses * NUM_SYMBOLS)) <= 0.05
    best = expected(plan)
    assert best < expected(plan_protection(NUM_SYMBOLS, damage, grid, snr_db, budget, 24))
    assert best < expected(uniform(NUM_SYMBOLS, *best_curve(int(ratio), linear(snr_db), expansion_curves())))
    for layer, num in enumerate(NUM_SYMBOLS):
        uses = np.ones(len(NUM_SYMBOLS), np.int64)
        uses[layer] += (budget - NUM_SYMBOLS.sum()) // num
        copies, chosen = zip(*(best_curve(int(u), linear(snr_db), expansion_curves()) for u in uses), strict=True)
        assert best < expected(Protection(np.array(copies), np.ones(len(uses)), chosen))
