import numpy as np
import pytest

from airnet_sdr.dsp.radio.scale import BACKOFF_DB, NOMINAL_POWER, to_full_scale
from airnet_sdr.dsp.units import db, power


def gaussian(num, seed=1):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(num, 2)) @ [1, 1j] / np.sqrt(2)).astype(np.complex64)


def test_unit_power_comes_out_backoff_below_full_scale():
    scaled, num_clipped = to_full_scale(gaussian(200_000))
    assert scaled.dtype == np.complex64 and num_clipped == 0
    assert db(power(scaled)) == pytest.approx(-BACKOFF_DB, abs=0.03)  # 4 sigma of the sample power
    assert power(scaled) == pytest.approx(NOMINAL_POWER, rel=0.01)


def test_components_are_clipped_at_full_scale_and_counted():
    samples = np.array([5 + 0j, -5j, 3 - 3j, 5 - 5j], np.complex64)  # full scale is 3.98 at 12 dB
    scaled, num_clipped = to_full_scale(samples)
    assert num_clipped == 4
    gain = np.float32(10 ** (-BACKOFF_DB / 20))
    np.testing.assert_allclose(scaled, [1, -1j, (3 - 3j) * gain, 1 - 1j], rtol=1e-6)
    assert samples[0] == 5  # the caller's array is untouched


def test_clip_rate_follows_the_gaussian_tail():
    _, num_clipped = to_full_scale(gaussian(200_000), backoff_db=3.0103)  # full scale / sigma = 2 per component
    assert num_clipped == pytest.approx(2 * 200_000 * 0.0455, rel=0.05)  # 2·Q(2), 6 sigma


def test_none_passes_samples_as_they_are_in_a_new_array():
    samples = np.array([7 - 9j, 0.25j], np.complex64)
    scaled, num_clipped = to_full_scale(samples, None)
    assert num_clipped == 0 and not np.shares_memory(scaled, samples)
    np.testing.assert_array_equal(scaled, samples)
