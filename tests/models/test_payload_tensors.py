"""How one tensor travels: its normalisation, and its eight bytes."""

import dataclasses
import struct

import numpy as np
import pytest

from airnet_sdr.dsp.errors import InputError, LinkError
from airnet_sdr.dsp.expansion import GAUSSIAN, SHAPES, Curve, Density, gaussian_moment
from airnet_sdr.models.curves import code_of, curve_of, expansion_curves
from airnet_sdr.models.payload.tensors import TENSOR_BYTES, TensorPlan, centre_and_scale, normalisation

PLAN = TensorPlan(mean=0.0, scale=1.0, copies=1, power_db=0.0)


def test_a_plan_takes_eight_bytes_and_round_trips_anywhere_among_others():
    rng = np.random.default_rng(1)
    for _ in range(100):
        mean, scale = centre_and_scale(rng.standard_normal(50) * 10 ** rng.uniform(-6, 3) + rng.standard_normal())
        density, curve = (
            Density(SHAPES[rng.integers(len(SHAPES))]),
            curve_of(int(rng.integers(len(expansion_curves()) + 1))),
        )
        plan = TensorPlan(mean, scale, int(rng.integers(1, 256)), int(rng.integers(-128, 128)) / 4, density, curve)
        data = plan.to_bytes()
        assert len(data) == TENSOR_BYTES == 8
        assert TensorPlan.from_bytes(b"before" + data + b"after", 6) == plan
        dims = 1 if curve is None else curve.dims
        assert (plan.uses, plan.num_symbols(9)) == (plan.copies * dims, 5 * plan.copies * dims)


@pytest.mark.parametrize("at, value", [(4, 0), (0, 0x7F), (6, len(SHAPES))])
def test_bytes_that_make_no_sense_are_a_struct_error(at, value):
    """No copies, a mean that is infinite, a density that there is not; a manifest turns them into a LinkError."""
    data = bytearray(dataclasses.replace(PLAN, mean=1.0).to_bytes())
    data[at] = value
    if at == 0:
        data[1] = 0x80
    with pytest.raises(struct.error):
        TensorPlan.from_bytes(bytes(data), 0)


@pytest.mark.parametrize("fields", [
    {"copies": 0}, {"copies": 256}, {"power_db": 40.0}, {"power_db": -40.0}, {"power_db": -np.inf},
    {"mean": np.nan}, {"mean": np.inf}, {"scale": np.nan}, {"scale": np.inf}, {"scale": -1.0},
])  # fmt: skip
def test_what_does_not_fit_is_an_input_error(fields):
    with pytest.raises(InputError) as caught:
        dataclasses.replace(PLAN, **fields).to_bytes()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("values", [[np.nan, 1.0], [-np.inf, 1.0]])
def test_weights_that_are_not_finite_are_an_input_error(values):
    with pytest.raises(InputError):
        centre_and_scale(np.array(values, np.float32))


def test_centre_and_scale_are_as_the_manifest_carries_them():
    rng = np.random.default_rng(4)
    for _ in range(200):
        weights = (rng.standard_normal(500) * 10 ** rng.uniform(-5, 2) + 10 ** rng.uniform(-3, 1)).astype(np.float32)
        mean, scale = centre_and_scale(weights)
        back = TensorPlan.from_bytes(TensorPlan(mean, scale, 1, 0.0).to_bytes(), 0)
        assert (back.mean, back.scale) == (mean, scale)
        assert abs(mean - weights.mean()) <= 2**-7 * abs(weights.mean())
        power = np.mean((weights.astype(np.float64) - mean) ** 2) / scale**2  # of the symbols
        assert 10 * abs(np.log10(power)) < 0.012  # half a step of 1/256 octave in amplitude


def test_a_constant_tensor_of_a_short_float_has_scale_zero():
    assert centre_and_scale(np.full(10, 1.5, np.float32)) == (1.5, 0.0)
    assert centre_and_scale(np.zeros(3, np.float32)) == (0.0, 0.0)


def test_the_scale_is_right_far_from_zero_and_over_many_weights():
    """A mean of 1000 deviations; the scale in its steps of 1/256 octave."""
    weights = (1000 + np.random.default_rng(3).standard_normal(700_001)).astype(np.float32)
    mean, scale = centre_and_scale(weights)
    assert mean == pytest.approx(1000, rel=2**-8)
    assert scale == pytest.approx(np.sqrt(1 + (1000 - mean) ** 2), rel=2 ** (1 / 256) - 1)


def test_curves_have_codes_and_no_others_are_taken():
    assert [code_of(curve_of(code)) for code in range(len(expansion_curves()) + 1)] == list(
        range(len(expansion_curves()) + 1)
    )
    with pytest.raises(LinkError, match="curve"):
        curve_of(len(expansion_curves()) + 1)
    with pytest.raises(LinkError, match="curve"):
        TensorPlan.from_bytes(PLAN.to_bytes()[:-1] + bytes([len(expansion_curves()) + 1]), 0)


@pytest.mark.parametrize("curve", [None, Curve(2.0, 0.6, 1.0), Curve(None, 1.0, 1.0, (3.0,))])
def test_normalised_weights_have_the_moment_that_decides_the_power(curve):
    weights = (0.5 + 0.1 * np.random.default_rng(5).laplace(size=200_000)).astype(np.float32)
    mean, scale, density = normalisation(weights, curve)
    order = 2.0 if curve is None else curve.order
    moment = np.mean(np.abs((weights.astype(np.float64) - mean) / scale) ** order)
    assert moment == pytest.approx(gaussian_moment(order), rel=0.003) and density.shape == pytest.approx(1, rel=0.1)
    assert normalisation(np.full(9, 2.0, np.float32), curve) == (2.0, 0.0, GAUSSIAN)
