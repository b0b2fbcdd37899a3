import numpy as np
import pytest

from airnet_sdr.dsp import symbols, units
from airnet_sdr.tests.link import white

RNG = np.random.default_rng


@pytest.mark.parametrize("num_weights", [1, 2, 7, 10_000, 10_001])
def test_weights_and_symbols_are_inverse(num_weights):
    weights = (RNG(1).standard_normal(num_weights) * 0.03 - 0.2).astype(np.float32)
    sent = symbols.to_symbols(weights, -0.2, 0.03)
    assert sent.dtype == np.complex64 and sent.shape == ((num_weights + 1) // 2,)
    back = symbols.to_weights(sent, num_weights, -0.2, 0.03)
    assert back.dtype == np.float32 and back == pytest.approx(weights, abs=1e-7)


def test_symbols_have_unit_power():
    weights = RNG(2).laplace(0.5, 2.0, 100_000).astype(np.float32)
    mean, scale = weights.mean(), weights.std()
    assert units.power(symbols.to_symbols(weights, mean, scale)) == pytest.approx(1, abs=1e-5)


def test_a_constant_tensor_comes_back_as_its_mean():
    sent = symbols.to_symbols(np.full(5, 0.25, np.float32), 0.25, 0.0)
    assert not sent.any()
    assert np.all(symbols.to_weights(sent + 9, 5, 0.25, 0.0) == 0.25)


def test_an_odd_last_weight_is_paired_with_the_mean():
    assert symbols.to_symbols(np.array([1, 2, 3], np.float32), 2.0, 1.0)[1].imag == 0


@pytest.mark.parametrize("copies, power", [(1, 1.0), (2, 0.5), (4, 1.0), (3, 2.0)])
@pytest.mark.parametrize("snr", [0.5, 1.0, 10.0])
def test_copies_combine_to_the_lmmse_bound(copies, power, snr):
    """NMSE 1/(1 + k·P·S) within 0.15 dB (50,000 Gaussian symbols: 5 sigma), also over unequal noise."""
    sent = white(50_000, 1.0, 3)
    noise_var = np.resize([0.5 / snr, np.inf, 1.5 / snr, 1 / snr], sent.size * copies)  # some copies are erased
    repeated = symbols.repeat(sent, copies, power)
    assert repeated.dtype == np.complex64
    received = repeated + white(repeated.size, 1.0, 4) * np.sqrt(np.where(np.isinf(noise_var), 0, noise_var))
    statistic, information = symbols.combine(
        (received / noise_var).astype(np.complex64), (1 / noise_var).astype(np.float32), copies, power
    )
    expected = np.mean(1 / (1 + power * (1 / noise_var).reshape(-1, copies).sum(axis=1)))
    estimate, foreseen = symbols.linear_mmse(statistic, information)
    assert estimate.dtype == np.complex64 and foreseen == pytest.approx(expected, rel=1e-4)
    assert units.db(units.nmse(estimate, sent) / expected) == pytest.approx(0, abs=0.15)


def test_nothing_received_gives_zero():
    estimate, nmse = symbols.linear_mmse(np.zeros(3, np.complex64), np.zeros(3, np.float32))
    assert not estimate.any() and nmse == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("mean", "scale"), [(3e38, 1.0), (0.0, 3.4e38), (-3e38, 3e38)])
def test_weights_are_finite_whatever_a_manifest_says(mean, scale):
    received = np.array([1e3 - 1e3j, 0, 1e-3], np.complex64)
    assert np.isfinite(symbols.to_weights(received, 5, mean, scale)).all()
