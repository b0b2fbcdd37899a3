"""Each impairment against its formula."""

import numpy as np
import pytest
from scipy.special import j0

from airnet_sdr.dsp.theory import converter_nmse
from airnet_sdr.dsp.units import db, nmse, power
from airnet_sdr.sim.channel import impairments as imp


def tone(freq, num, delay=0.0):
    """exp(j2πf(n − delay)), f in cycles/sample."""
    return np.exp(2j * np.pi * freq * (np.arange(num) - delay)).astype(np.complex64)


def white(num, seed=0):
    return imp.awgn(np.zeros(num, np.complex64), 1.0, np.random.default_rng(seed))


def in_blocks(stage, x, sizes):
    """The stage's output for x cut into blocks of the given sizes, cyclically, and its flush."""
    out, at, k = [], 0, 0
    while at < x.size:
        out.append(stage(x[at : at + sizes[k % len(sizes)]]))
        at += sizes[k % len(sizes)]
        k += 1
    if hasattr(stage, "flush"):
        out.append(stage.flush())
    return np.concatenate(out)


def test_awgn_variance_circularity_whiteness():
    w = imp.awgn(np.zeros(200_000, np.complex64), 0.3, np.random.default_rng(1))
    assert w.dtype == np.complex64
    assert power(w) == pytest.approx(0.3, rel=0.01)
    assert abs(np.mean(w**2)) < 0.005  # rails independent, of equal variance
    assert abs(np.vdot(w[1:], w[:-1])) / w.size < 0.005


def test_awgn_keeps_the_signal():
    x = tone(0.1, 1000)
    np.testing.assert_array_equal(imp.awgn(x, 0.0, np.random.default_rng(0)), x)


def test_cfo_is_the_formula_far_into_a_stream():
    start, num, cfo = 10**9 + 7, 5000, -0.377
    y = imp.cfo(np.ones(num, np.complex64), cfo, start)
    expected = np.exp(1j * np.fmod(cfo * (start + np.arange(num)), 2 * np.pi))
    assert y.dtype == np.complex64
    assert np.abs(y - expected).max() < 2e-6


@pytest.mark.parametrize("sco_ppm", [-50, 50, -3000.5, 1e4])
@pytest.mark.parametrize("freq", [0.01, -0.31, 0.45])
def test_clock_offset_reads_a_tone_between_samples(freq, sco_ppm):
    sco, delay = 1e-6 * sco_ppm, 0.3
    y = imp.clock_offset(tone(freq, 50_000), sco, delay)
    n = np.arange(y.size)
    assert abs(y.size - (50_000 + delay) / (1 + sco)) <= 1
    inside = slice(100, -100)
    expected = np.exp(2j * np.pi * freq * (n * (1 + sco) - delay))
    assert db(nmse(y[inside], expected[inside])) < -70


def test_clock_offset_round_trip():
    spectrum = np.fft.fft(white(20_000))
    spectrum[np.abs(np.fft.fftfreq(20_000)) > 0.44] = 0
    x = np.fft.ifft(spectrum).astype(np.complex64)
    sco = 40e-6
    y = imp.clock_offset(imp.clock_offset(x, sco), 1 / (1 + sco) - 1)
    assert db(nmse(y[200:-200], x[200 : y.size - 200])) < -70


def test_resampler_does_not_drift_or_depend_on_blocks():
    """Two million samples at 50 ppm pass 100 samples; the last ones are as good as the first."""
    x = tone(0.2, 2_000_000)
    y = in_blocks(imp.Resampler(50e-6), x, (65_536,))
    n = np.arange(y.size)[-5000:-100]
    assert db(nmse(y[n], np.exp(2j * np.pi * 0.2 * n * (1 + 50e-6)))) < -70
    short = x[:5000]
    whole = imp.clock_offset(short, 50e-6, 0.7)
    np.testing.assert_allclose(in_blocks(imp.Resampler(50e-6, 0.7), short, (1, 7, 300)), whole, atol=1e-6)


def test_static_echoes_have_the_stated_response():
    delays, gains = np.array([0.0, 1.3, 40.75]), np.array([1, 0.5j, -0.2 + 0.1j])
    for freq in (-0.4, 0.05, 0.33):
        y = imp.echoes(tone(freq, 2000), delays, gains)
        h = np.sum(gains * np.exp(-2j * np.pi * freq * delays))
        assert db(nmse(y[200:1800], h * tone(freq, 2000)[200:1800])) < -70
        assert imp.Multipath(delays, gains).frequency_response(freq) == pytest.approx(h)


def test_echoes_at_whole_samples_are_shifted_copies_and_blocks_do_not_matter():
    x = white(1000)
    expected = np.pad(x, (0, 5)) + 0.5 * np.pad(x, (5, 0))
    np.testing.assert_allclose(imp.echoes(x, [0, 5], [1, 0.5]), expected, atol=1e-6)
    fractional = [0, 3.3], [1, 0.5]
    np.testing.assert_allclose(
        in_blocks(imp.Multipath(*fractional), x, (1, 64, 13)), imp.echoes(x, *fractional), atol=1e-6
    )


def test_fading_autocorrelation_is_bessel():
    doppler, lags = 1e-4, np.arange(0, 160, 20)  # 160 grid steps are one Doppler period
    rng = np.random.default_rng(2)
    gains = np.stack([imp.Fading(1, doppler, rng)(0, 161)[:, 0] for _ in range(2000)])
    correlation = np.mean(gains[:, lags] * np.conj(gains[:, :1]), axis=0)
    np.testing.assert_allclose(correlation, j0(2 * np.pi * doppler * imp.multipath.GRID * lags), atol=0.06)


def test_rician_k_is_the_power_ratio():
    rng = np.random.default_rng(3)
    gains = np.stack([imp.Fading(2, 0.0, rng, rician_k=4.0)(0, 1)[0] for _ in range(5000)])
    np.testing.assert_allclose(np.mean(np.abs(gains) ** 2, axis=0), 1, atol=0.06)
    # Var |g|² = (1 + 2K)/(1 + K)², 1 for Rayleigh
    np.testing.assert_allclose(np.var(np.abs(gains) ** 2, axis=0), [9 / 25, 1], atol=0.1)


def test_moving_taps_follow_the_gains():
    fading = imp.Fading(2, 1 / 5000, np.random.default_rng(4))
    x = tone(0.1, 20_000)
    y = in_blocks(imp.Multipath([0.0, 2.4], [0.8, 0.6], fading), x, (777,))[:20_000]
    grid = fading(0, 20_000 // 64 + 2)
    n = np.arange(20_000)
    g = np.stack([np.interp(n, 64 * np.arange(len(grid)), column) for column in grid.T])
    expected = 0.8 * g[0] * x + 0.6 * g[1] * tone(0.1, 20_000, delay=2.4)
    assert db(nmse(y[100:-100], expected[100:-100])) < -70


@pytest.mark.parametrize("name", imp.PROFILES)
def test_profiles_have_unit_power(name):
    delays, amplitudes = imp.profile(name, 2.5e6)
    assert delays.shape == amplitudes.shape and delays[0] == 0
    assert np.sum(amplitudes**2) == pytest.approx(1)


def test_phase_noise_level_and_corner():
    rms, corner, num = np.deg2rad(3), 0.002, 400_000
    stage = imp.PhaseNoise(rms, corner, np.random.default_rng(5))
    theta = np.angle(in_blocks(stage, np.ones(num, np.complex64), (10_000,)))
    assert np.std(theta) == pytest.approx(rms, rel=0.1)
    lag = 100
    correlation = np.mean(theta[lag:] * theta[:-lag]) / np.mean(theta**2)
    assert correlation == pytest.approx(np.exp(-2 * np.pi * corner * lag), abs=0.06)


def test_iq_imbalance_image_rejection():
    amplitude_db, phase_deg, freq = 0.4, 2.0, 0.125
    y = imp.iq_imbalance(tone(freq, 4096), amplitude_db, phase_deg)
    wanted, image = (np.abs(np.vdot(tone(f, 4096), y)) ** 2 for f in (freq, -freq))
    g, phi = 10 ** (amplitude_db / 20), np.deg2rad(phase_deg)
    rejection = (1 + g**2 + 2 * g * np.cos(phi)) / (1 + g**2 - 2 * g * np.cos(phi))
    assert db(wanted / image) == pytest.approx(db(rejection), abs=0.01)
    assert power(y) == pytest.approx(1, abs=1e-5)


def test_iq_imbalance_is_on_the_q_rail():
    y = imp.iq_imbalance(np.array([1, 1j], np.complex64), 6.0, 0.0)
    assert abs(y[1] / y[0]) == pytest.approx(10 ** (6 / 20), rel=1e-5)


def test_dc_offset_level_and_phase():
    y = imp.dc_offset(np.zeros(3, np.complex64), -20, 90, signal_power=4)
    np.testing.assert_allclose(y, 0.2j, atol=1e-7)
    assert y.dtype == np.complex64


def test_clip_limits_each_rail():
    y = imp.clip(np.array([3 - 0.5j, -0.2 + 7j], np.complex64), 1.0)
    np.testing.assert_array_equal(y, np.array([1 - 0.5j, -0.2 + 1j], np.complex64))


@pytest.mark.parametrize(("full_scale", "bits"), [(3, 12), (3.5, 12), (4, 6), (4, 4)])
def test_quantisation_noise_is_the_theory(full_scale, bits):
    x = np.linspace(-8, 8, 2_000_001)  # weighted with the Gaussian density: rare clips need no luck
    error = imp.quantise(x.astype(np.complex64), full_scale, bits).real - x
    measured = np.sum(error**2 * np.exp(-(x**2) / 2)) / np.sum(np.exp(-(x**2) / 2))
    assert db(measured) == pytest.approx(db(converter_nmse(full_scale, bits)), abs=0.1)


def test_quantise_uses_the_codes():
    codes = imp.quantise(np.linspace(-2, 2, 4001).astype(np.complex64), 1.0, 3).real * 4
    np.testing.assert_array_equal(np.unique(codes), np.arange(-4, 4))


def test_drops_and_repeats_are_where_stated():
    x = np.arange(100).astype(np.complex64)
    rng = np.random.default_rng(0)
    for sizes in ((100,), (7, 1, 20)):
        dropped = in_blocks(imp.Drops([(95, 50), (10, 5)], rng), x, sizes).real
        np.testing.assert_array_equal(dropped, np.r_[0:10, 15:95])
        repeated = in_blocks(imp.Repeats([(3, 10), (40, 12)], rng), x, sizes).real
        np.testing.assert_array_equal(repeated, np.r_[0:3, 0:3, 3:40, 28:40, 40:100])
        np.testing.assert_array_equal(in_blocks(imp.Cut(12, 80), x, sizes).real, np.r_[12:80])


def test_bursts_and_gain_steps_are_where_stated():
    x = np.zeros(40_000, np.complex64)
    rng = np.random.default_rng(6)
    y = in_blocks(imp.Bursts([(1000, 20_000, 10)], rng, signal_power=2.0), x, (3000,))
    assert not y[:1000].any() and not y[21_000:].any()
    assert power(y[1000:21_000]) == pytest.approx(20, rel=0.05)
    steps = in_blocks(imp.GainSteps([(10, 20), (25, 0)], rng), np.ones(40, np.complex64), (7,))
    np.testing.assert_allclose(steps, np.r_[np.ones(10), np.full(15, 10), np.ones(15)], rtol=1e-6)


def test_recurring_events_have_the_stated_mean_gap():
    rng = np.random.default_rng(7)
    y = in_blocks(imp.Drops([(0, 1)], rng, every=100.0), np.zeros(200_000, np.complex64), (8192,))
    assert 200_000 - y.size == pytest.approx(2000, abs=200)  # 4.5 deviations of a Poisson count


def test_junk_fills_the_scale():
    y = imp.junk(5000, 3.0, np.random.default_rng(8))
    assert y.shape == (5000,) and y.dtype == np.complex64
    peak = np.abs(y.view(np.float32)).max()
    assert 2.9 < peak <= 3
