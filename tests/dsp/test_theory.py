"""The closed forms against Monte Carlo or against one another."""

import numpy as np
import pytest
from scipy.stats import norm

from airnet_sdr.dsp import theory
from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.units import db, nmse


def noise(rng, *shape):
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


@pytest.mark.parametrize("copies", [1, 4])
def test_lmmse_and_zero_forcing(copies):
    rng, snr, num = np.random.default_rng(0), 2.0, 100_000
    x = noise(rng, num)
    y = x + np.mean(noise(rng, copies, num), axis=0) / np.sqrt(snr)
    gain = copies * snr / (1 + copies * snr)
    assert nmse(gain * y, x) == pytest.approx(theory.lmmse_nmse(snr, copies), rel=0.02)
    assert nmse(y, x) == pytest.approx(theory.zero_forcing_nmse(snr, copies), rel=0.02)


def test_opta_meets_uncoded_at_ratio_one_and_beats_copies():
    assert theory.opta_nmse(3.0) == theory.lmmse_nmse(3.0)
    assert theory.opta_nmse(3.0, 4) < theory.lmmse_nmse(3.0, 4)


def test_cfo_bound_is_reached_by_the_periodogram():
    rng, snr, num, trials, cfo = np.random.default_rng(1), 10.0, 64, 1500, 0.1
    n = np.arange(num)
    y = np.exp(1j * (cfo * n + 1.0)) + noise(rng, trials, num) / np.sqrt(snr)
    estimate = np.full(trials, cfo)  # Newton steps of the log-likelihood from the truth reach its maximum
    for _ in range(6):
        z = y * np.exp(-1j * estimate[:, None] * n)
        a, b, c = z.sum(1), (z * n).sum(1), (z * n**2).sum(1)
        slope = 2 * np.imag(np.conj(a) * b)
        curvature = 2 * (np.abs(b) ** 2 - np.real(np.conj(a) * c))
        estimate -= slope / curvature
    assert db(np.mean((estimate - cfo) ** 2)) == pytest.approx(db(theory.cfo_crb(snr, num)), abs=0.4)


def test_schmidl_cox():
    rng, snr, half, trials, cfo = np.random.default_rng(2), 20.0, 64, 4000, 0.02
    x = np.tile(np.exp(2j * np.pi * rng.random(half)), 2) * np.exp(1j * cfo * np.arange(2 * half))
    y = x + noise(rng, trials, 2 * half) / np.sqrt(snr)
    estimate = np.angle(np.sum(np.conj(y[:, :half]) * y[:, half:], axis=1)) / half
    assert db(np.var(estimate)) == pytest.approx(db(theory.schmidl_cox_var(snr, half)), abs=0.4)
    # 10·log10(4/3) = 1.25 dB above the bound
    assert db(theory.schmidl_cox_var(snr, half) / theory.cfo_crb(snr, 2 * half)) == pytest.approx(1.25, abs=0.01)


def test_timing_bound():
    rng, snr, num, trials = np.random.default_rng(3), 10.0, 128, 3000
    omega = 2 * np.pi * np.fft.fftfreq(num)
    spectrum = np.exp(2j * np.pi * rng.random(num)) * (np.abs(omega) < 2)
    spectrum *= np.sqrt(num / np.sum(np.abs(spectrum) ** 2))  # unit power a sample, unitary DFT
    y = spectrum + noise(rng, trials, num) / np.sqrt(snr)
    estimate = np.zeros(trials)
    for _ in range(4):  # Newton on Re{Σ conj(X)·Y·exp(jωd)}
        z = np.conj(spectrum) * y * np.exp(1j * omega * estimate[:, None])
        estimate -= np.sum(np.real(1j * omega * z), 1) / np.sum(np.real(-(omega**2) * z), 1)
    rms = np.sqrt(np.sum(omega**2 * np.abs(spectrum) ** 2) / np.sum(np.abs(spectrum) ** 2))
    assert db(np.var(estimate)) == pytest.approx(db(theory.timing_crb(snr, num, rms)), abs=0.4)


def test_least_squares_channel():
    rng, snr, pilots = np.random.default_rng(4), 100.0, 4
    h_hat = 1 + np.mean(noise(rng, pilots, 100_000), axis=0) / np.sqrt(snr)
    assert nmse(h_hat, np.ones(100_000)) == pytest.approx(theory.ls_channel_nmse(snr, pilots), rel=0.03)
    x = noise(rng, 100_000)
    x_hat = (x + noise(rng, 100_000) / np.sqrt(snr)) / h_hat
    loss = nmse(x_hat, x) / theory.zero_forcing_nmse(snr)
    assert loss == pytest.approx(theory.channel_estimation_loss(pilots), rel=0.03)


def test_effective_snr_inverts_the_selective_nmse():
    h = np.abs(1 + 0.6 * np.exp(2j * np.pi * np.arange(64) / 64))
    for snr in (0.01, 1.0, 300.0):
        assert theory.effective_snr(theory.selective_nmse(snr, h), h) == pytest.approx(snr, rel=1e-6)
    assert theory.effective_snr(0.2) == pytest.approx(4)
    assert theory.effective_snr(1.5) == 0
    assert theory.effective_snr(0.0) == np.inf
    assert theory.effective_snr(0.1, [0, 1]) == np.inf  # half the band is missing: never under 0.5
    with pytest.raises(InputError):
        theory.effective_snr(float("nan"))


def test_implementation_loss_of_an_ideal_link_is_its_overhead():
    snr, pairs, overhead = 10.0, 1000, 1.25
    energy = pairs * snr * 0.3 * overhead
    assert theory.implementation_loss_db(energy, pairs, 0.3, theory.lmmse_nmse(snr)) == pytest.approx(db(overhead))


def test_converter():
    x = np.random.default_rng(5).standard_normal(1_000_000)
    assert nmse(np.clip(x, -2, 2), x) == pytest.approx(theory.converter_nmse(2.0), rel=0.03)
    step = 4 / 2**5
    rounded = step * np.clip(np.rint(x / step), -32, 31)
    assert nmse(rounded, x) == pytest.approx(theory.converter_nmse(4.0, 6), rel=0.03)
    a = np.linspace(0.5, 6, 20)
    wanted = 2 * ((1 + a**2) * norm.sf(a) - a * norm.pdf(a))
    np.testing.assert_allclose(theory.converter_nmse(a), wanted, rtol=1e-12, atol=1e-15)
    assert db(theory.converter_nmse(20, 12)) == pytest.approx(db((20 / 2048) ** 2 / 12), abs=1e-6)  # no clipping left


def test_qpsk_capacity_limits_and_monte_carlo():
    assert theory.qpsk_capacity(1e-3) == pytest.approx(np.log2(1 + 1e-3), rel=0.01)
    assert theory.qpsk_capacity(100.0) == pytest.approx(2, abs=1e-6)
    rng, snr = np.random.default_rng(6), 0.6
    llr = 2 * snr + 2 * np.sqrt(snr) * rng.standard_normal(1_000_000)
    assert theory.qpsk_capacity(snr) == pytest.approx(2 - 2 * np.mean(np.log2(1 + np.exp(-llr))), abs=0.01)
