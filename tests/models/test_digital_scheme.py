"""The choice of steps: it fits, uses the room, spends it where it counts."""

import numpy as np
import pytest

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models.digital import compress
from airnet_sdr.models.digital.quantise import dequantise
from airnet_sdr.models.digital.scheme import compress_to_fit, weights_of

RNG = np.random.default_rng(1)
VECTORS = [RNG.standard_normal(3000).astype(np.float32), (0.1 * RNG.laplace(size=8000)).astype(np.float32)]
NUMELS = [weights.size for weights in VECTORS]


def nmse(tensors):
    """Of each tensor."""
    return [np.mean((dequantise(t) - w) ** 2) / np.var(w) for t, w in zip(tensors, VECTORS, strict=True)]


@pytest.mark.parametrize("num_bytes", [400, 1500, 4000])
def test_the_bytes_fit_and_are_nearly_used_up(num_bytes):
    tensors = compress_to_fit(VECTORS, num_bytes)
    data = compress.encode(tensors)
    assert 0.9 * num_bytes < len(data) <= num_bytes
    for weights, tensor in zip(weights_of(data, NUMELS), tensors, strict=True):
        assert np.array_equal(weights, dequantise(tensor))


def test_without_curves_the_error_is_near_the_gaussian_bound():
    """Entropy-coded uniform quantisation of a Gaussian costs 0.255 bit (Gish and Pierce 1968), and what is learnt."""
    weights = RNG.standard_normal(50_000).astype(np.float32)
    (tensor,) = compress_to_fit([weights], 12_500)
    rate = 8 * len(compress.encode([tensor])) / weights.size
    error = np.mean((dequantise(tensor) - weights) ** 2) / np.var(weights)
    assert 0.2 < rate + 0.5 * np.log2(error) < 0.28


def test_the_tensor_that_counts_is_quantised_finer():
    snr_grid_db = np.array([-10.0, 0, 10, 20, 30])
    curve = np.array([1.0, 0.5, 0.1, 0.01, 0.0])
    first = nmse(compress_to_fit(VECTORS, 2000, np.stack([100 * curve, curve]), snr_grid_db))
    second = nmse(compress_to_fit(VECTORS, 2000, np.stack([curve, 100 * curve]), snr_grid_db))
    assert first[0] < second[0] / 2 and second[1] < first[1] / 2


@pytest.mark.parametrize("damage", [0.0, -0.01])
def test_a_tensor_that_no_measured_noise_hurts_still_arrives(damage):
    """Scales of batch norm are near 1: levels of 0 are an error far above their variance."""
    scales = (1 + 0.1 * RNG.standard_normal(100)).astype(np.float32)
    curves = np.array([[1.0, 0.3, 0.1, 0.01], [damage, 0, 0, 0]])
    tensors = compress_to_fit([VECTORS[0], scales], 1000, curves, np.array([-10.0, 0, 10, 20]))
    assert np.mean((dequantise(tensors[1]) - scales) ** 2) < 1.01 * np.var(scales)  # their mean is there


def test_noise_that_lowers_the_loss_is_not_sought():
    """A loss that is not calibrated is less under some noise: that of every tensor at once is another matter."""
    snr_grid_db = np.array([-10.0, 0, 10, 20])
    curves = np.array([[1.0, 0.3, 0.1, 0.01], [0.5, -0.02, -0.01, 0.0]])
    assert nmse(compress_to_fit(VECTORS, 4000, curves, snr_grid_db))[1] < 0.3


def test_what_cannot_fit_is_refused():
    with pytest.raises(InputError, match="does not compress to 20 bytes"):
        compress_to_fit(VECTORS, 20)


def test_constant_tensors_cost_nothing():
    zeros = [np.zeros(500, np.float32)]
    assert len(compress.encode(compress_to_fit(zeros, 100))) <= 8
