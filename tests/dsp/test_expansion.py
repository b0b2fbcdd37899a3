"""Curves: unit power for any weights, decoded to the theory, never worse than copies; the Bayesian receiver."""

import numpy as np
import pytest
from scipy.stats import gennorm

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.expansion import (
    GAUSSIAN,
    LINE,
    SHAPES,
    Curve,
    Density,
    absolute_scale,
    expand,
    fit_shape,
    gaussian_moment,
    posterior_mean,
)
from airnet_sdr.dsp.symbols import combine, linear_mmse, repeat
from airnet_sdr.dsp.uep import best_curve
from airnet_sdr.dsp.units import db, linear, power
from airnet_sdr.models.curves import expansion_curves

SPIRAL = Curve(2.1, 0.67, 1.0)
HELIX = Curve(None, 1.0, 1.0, (3.2,))
WOUND = Curve(1.0, 0.7, 1.0, (4.0,))


def pairs_of(x):
    return (np.asarray(x, np.float32) / np.float32(np.sqrt(2))).view(np.complex64)


def gaussian(num, seed=0):
    return pairs_of(np.random.default_rng(seed).standard_normal(2 * num))


def in_noise(symbols, snr, seed=1):
    """Matched-filter output at linear SNR per symbol, as `dsp.symbols` describes it."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((symbols.size, 2), dtype=np.float32).view(np.complex64)[:, 0]
    statistic = np.float32(snr) * symbols + np.float32(np.sqrt(snr / 2)) * noise
    return statistic, np.full(symbols.size, snr, np.float32)


def nmse_db(found, sent):
    return db(np.mean(np.abs(found - sent) ** 2) / np.mean(np.abs(sent) ** 2))


@pytest.mark.parametrize("curve", [LINE, SPIRAL, HELIX, WOUND, expansion_curves()[-1]])
@pytest.mark.parametrize("shape", [0.5, 1.0, 2.0, 4.0])
def test_power_is_one_whatever_the_weights_are_distributed_by(curve, shape):
    weights = 0.3 + 0.02 * gennorm.rvs(shape, size=40_000, random_state=3)
    x = (weights - 0.3) / absolute_scale(weights, 0.3, curve.order)
    symbols = expand(pairs_of(x), curve)
    assert symbols.dtype == np.complex64 and symbols.shape == (20_000 * curve.dims,)
    assert power(symbols) == pytest.approx(1, abs=0.004)


@pytest.mark.parametrize("curve", [SPIRAL, HELIX, WOUND])
def test_without_noise_the_weights_come_back(curve):
    pairs = gaussian(2000)
    found, expected = posterior_mean(*in_noise(expand(pairs, curve), 1e5), curve)
    assert nmse_db(found, pairs) < -48 and db(expected) == pytest.approx(nmse_db(found, pairs), abs=3)


@pytest.mark.parametrize("snr_db", [-5, 0, 8, 20])
def test_a_line_decoded_as_gaussian_is_linear_mmse(snr_db):
    soft = in_noise(gaussian(3000), linear(snr_db))
    found, expected = posterior_mean(*soft)
    wanted, nmse = linear_mmse(*soft)
    assert np.abs(found - wanted).max() < 0.02 and db(expected) == pytest.approx(db(nmse), abs=0.05)


@pytest.mark.parametrize("snr_db", [0, 5, 10, 15])
@pytest.mark.parametrize("curve", [SPIRAL, HELIX, WOUND])
def test_the_error_expected_is_the_error_made(curve, snr_db):
    pairs = gaussian(6000)
    found, expected = posterior_mean(*in_noise(expand(pairs, curve), linear(snr_db)), curve)
    assert db(expected) == pytest.approx(nmse_db(found, pairs), abs=0.35)


@pytest.mark.parametrize("snr_db, gain_db", [(10, 2.5), (15, 5.0)])
def test_a_spiral_beats_two_copies(snr_db, gain_db):
    spirals = tuple(curve for curve in expansion_curves() if curve.dims == 2)
    copies, curve = best_curve(2, linear(snr_db), spirals)
    assert copies == 1
    found = []
    for seed in range(5):
        pairs = gaussian(3000, seed)
        got, _ = posterior_mean(*in_noise(expand(pairs, curve), linear(snr_db), seed + 10), curve)
        twice, _ = linear_mmse(*combine(*in_noise(repeat(pairs, 2, 1.0), linear(snr_db), seed + 10), 2, 1.0))
        found.append(nmse_db(twice, pairs) - nmse_db(got, pairs))
    assert np.mean(found) > gain_db


@pytest.mark.parametrize("uses", [2, 3, 4, 6, 8, 11])
@pytest.mark.parametrize("snr_db", [-5, -1, 2, 7, 13, 21, 25])
def test_what_is_chosen_is_never_worse_than_copies(uses, snr_db):
    copies, curve = best_curve(uses, linear(snr_db), expansion_curves())
    if curve is None:
        assert copies == uses
        return
    pairs = gaussian(4000)
    soft = in_noise(repeat(expand(pairs, curve), copies, 1.0), linear(snr_db))
    found, _ = posterior_mean(*combine(*soft, copies, 1.0), curve)
    assert nmse_db(found, pairs) < -db(1 + uses * linear(snr_db)) + 0.2
    assert nmse_db(found, pairs) > -uses * db(1 + linear(snr_db)) - 0.2  # the limit


def test_the_table_of_a_curve_is_what_it_does():
    rng = np.random.default_rng(4)
    for curve in rng.choice(np.array(expansion_curves(), object), 8, replace=False):
        for snr_db in (-6, 1, 8):  # where it is no matter of a few rare errors
            pairs = gaussian(4000, 7)
            found, _ = posterior_mean(*in_noise(expand(pairs, curve), linear(snr_db)), curve)
            assert db(curve.nmse(linear(snr_db))) == pytest.approx(nmse_db(found, pairs), abs=0.8), (curve, snr_db)


def test_a_coordinate_that_was_lost_says_nothing():
    pairs = gaussian(3000)
    statistic, information = in_noise(expand(pairs, HELIX), 100.0)
    statistic, information = statistic.reshape(-1, 3).copy(), information.reshape(-1, 3).copy()
    statistic[:, 1:], information[:, 1:] = 0, 0  # the circle: the line alone is left, which has half the power
    found, expected = posterior_mean(statistic.reshape(-1), information.reshape(-1), HELIX)
    line_power = 2 * HELIX.points(np.array([1.0]))[0, 0] ** 2
    assert nmse_db(found, pairs) == pytest.approx(-db(1 + 100 * line_power), abs=0.2)
    statistic[:], information[:] = 0, 0
    found, expected = posterior_mean(statistic.reshape(-1), information.reshape(-1), HELIX)
    assert np.abs(found).max() < 1e-3 and expected == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("shape", [0.5, 0.71, 1.0, 1.41, 2.0, 2.83])
def test_the_shape_of_a_density_is_found(shape):
    x = gennorm.rvs(shape, size=30_000, random_state=5)
    assert abs(np.log2(fit_shape(x) / shape)) < 0.2
    density = Density(fit_shape(x))
    for order in (1.2, 2.0):
        scaled = x / absolute_scale(x, 0, order)
        assert np.mean(scaled**2) == pytest.approx(density.variance(order), rel=0.12)


@pytest.mark.parametrize("shape, snr_db, least", [(0.5, 5, 1.0), (1.0, 5, 0.2), (2.0, 5, -0.02), (4.0, 5, 0.0)])
def test_the_true_density_helps(shape, snr_db, least):
    gains = []
    for seed in range(5):
        x = gennorm.rvs(shape, size=12_000, random_state=seed)
        pairs = pairs_of(x / absolute_scale(x, 0, 2.0))
        soft = in_noise(pairs, linear(snr_db), seed)
        found, expected = posterior_mean(*soft, LINE, Density(fit_shape(x)))
        gains.append(nmse_db(linear_mmse(*soft)[0], pairs) - nmse_db(found, pairs))
        assert db(expected) == pytest.approx(nmse_db(found, pairs), abs=0.4)
    assert np.mean(gains) > least


def test_moments_and_shapes():
    assert gaussian_moment(2) == pytest.approx(1) and gaussian_moment(4) == pytest.approx(3)
    assert 2.0 in SHAPES and GAUSSIAN.variance(2.0) == pytest.approx(1) and GAUSSIAN.variance(1.3) == pytest.approx(1)
    assert fit_shape(np.zeros(5)) == 2.0


@pytest.mark.parametrize("numbers", [(1.0, 0.0, 1.0), (1.0, 1.5, 1.0), (1.0, 0.7, 0.0), (np.nan, 0.7, 1.0)])
def test_a_curve_that_cannot_be_is_refused(numbers):
    with pytest.raises(InputError):
        Curve(*numbers)


@pytest.mark.parametrize("curve", [LINE, SPIRAL, HELIX])
@pytest.mark.parametrize("value, known", [(np.inf, 1.0), (np.nan, np.nan), (1e38, np.inf), (1e30, 1e30)])
def test_soft_values_that_no_channel_gives_are_borne(curve, value, known):
    statistic = np.full(3 * curve.dims, value + 1j, np.complex64)
    pairs, expected = posterior_mean(statistic, np.full(statistic.size, known, np.float32), curve, Density(0.7))
    assert np.isfinite(pairs).all() and np.isfinite(expected)
