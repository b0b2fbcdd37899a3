import numpy as np
import pytest

from airnet_sdr.dsp import units


def test_db_and_linear_are_inverse():
    values = np.array([-60.0, -6.5, 0.0, 3.0, 100.0])
    assert units.db(units.linear(values)) == pytest.approx(values, abs=1e-12)
    assert units.linear(10) == 10 and units.linear(-20) == pytest.approx(0.01)


def test_zero_power_is_minus_infinity_without_a_warning(recwarn):
    assert units.db(0.0) == -np.inf and not recwarn.list


def test_power_is_the_mean_square_in_float64():
    assert units.power(np.array([3 + 4j, 0], np.complex64)) == 12.5
    assert units.power([]) == 0
    assert units.power(np.full(10, 1e25, np.complex64)) == pytest.approx(1e50)  # overflows in float32


def test_nmse_is_relative_to_the_truth_whatever_the_type():
    assert units.nmse([1.0, 2.0], [1.0, 1.0]) == 0.5
    assert units.nmse(np.array([1j], np.complex64), [1.0]) == pytest.approx(2)
    assert units.nmse(np.array([3, 200], np.uint8), np.array([4, 200], np.uint8)) == pytest.approx(1 / 40016)
