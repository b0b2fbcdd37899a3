import numpy as np
import pytest

from airnet_sdr.dsp import ofdm
from airnet_sdr.dsp.frame import DEFAULT_FORMAT as FMT
from airnet_sdr.dsp.units import power
from airnet_sdr.tests.link import white


def bodies(samples):
    return samples.reshape(-1, FMT.symbol_samples)[:, FMT.prefix_samples :]


def active(samples, num_symbols, start=0, cfo=0.0):
    """Active subcarriers (num_symbols, num_active) of consecutive symbols."""
    return ofdm.demodulate(samples, [start], [cfo], num_symbols)[0][:, FMT.columns]


def test_modulation_is_inverted():
    grid = white(50 * 800, 1.0, 1).reshape(50, 800)
    samples = ofdm.modulate(grid)
    assert samples.dtype == np.complex64 and samples.shape == (50 * 1056,)
    back = active(samples, 50) / ofdm.amplitude()
    assert back.dtype == np.complex64 and np.abs(back - grid).max() < 2e-6


def test_unit_power_symbols_make_unit_power_samples():
    grid = np.resize(FMT.preamble, (20, 800))
    assert power(bodies(ofdm.modulate(grid))) == pytest.approx(1, abs=1e-6)  # Parseval: exact over the bodies
    assert power(ofdm.modulate(white(400 * 800, 1.0, 2).reshape(400, 800))) == pytest.approx(1, rel=0.01)


def test_the_prefix_repeats_the_end():
    symbols = ofdm.modulate(white(1600, 1.0, 3).reshape(2, 800)).reshape(2, -1)
    assert np.array_equal(symbols[:, :32], symbols[:, -32:])


def test_subcarrier_k_is_the_tone_of_2_pi_k_over_fft_size():
    """Against the definition: Σ X[k]·exp(2πjkn/N)/√N, scaled to unit power; DC and the edges stay empty."""
    grid = white(800, 1.0, 4).reshape(1, 800)
    n = np.arange(FMT.fft_size)
    tones = np.exp(2j * np.pi * FMT.subcarriers[:, None] * n / FMT.fft_size)
    expected = grid[0] @ tones / np.sqrt(FMT.num_active)
    body = bodies(ofdm.modulate(grid))[0]
    assert np.abs(body - expected).max() < 1e-5
    spectrum = np.fft.fft(body) / np.sqrt(FMT.fft_size)
    assert np.abs(np.delete(spectrum, FMT.bins)).max() < 1e-5


def test_white_noise_keeps_its_variance_a_subcarrier():
    assert power(active(white(400 * 1056, 0.3, 5), 400)) == pytest.approx(0.3, rel=0.01)


def test_a_carrier_offset_is_turned_back_from_the_first_body_on():
    grid = white(9 * 800, 1.0, 6).reshape(9, 800)
    samples = np.pad(ofdm.modulate(grid), (7, 0))
    turned = samples * np.exp(0.3j * (np.arange(samples.size) - 7 - FMT.prefix_samples))
    back = active(turned.astype(np.complex64), 9, start=7, cfo=0.3) / ofdm.amplitude()
    assert np.abs(back - grid).max() < 1e-4


def test_frames_that_overlap_the_ends_read_zeros_there():
    samples = ofdm.modulate(white(1600, 1.0, 7).reshape(2, 800))
    before, after = ofdm.demodulate(samples, [-1056, 1056], [0.0, 0.0], 2)
    assert np.all(before[0] == 0) and np.all(after[1] == 0)
    assert np.array_equal(before[1], active_row(samples, 0)) and np.array_equal(after[0], active_row(samples, 1))


def active_row(samples, symbol):
    """The whole spectrum of one symbol."""
    return ofdm.demodulate(samples, [symbol * FMT.symbol_samples], [0.0], 1)[0, 0]


def test_a_delay_turns_the_spectrum_backwards():
    """y[n] = x[n - d] inside the prefix multiplies subcarrier k by exp(-2πj·k·d/N)."""
    samples = ofdm.modulate(np.resize(FMT.preamble, (1, 800)))
    late = active(samples, 1, start=-5)[0] / ofdm.amplitude()
    expected = FMT.preamble * np.exp(-2j * np.pi * FMT.subcarriers * 5 / FMT.fft_size)
    assert np.abs(late - expected).max() < 1e-5


def test_preamble_samples_are_the_modulated_preamble():
    samples = ofdm.preamble_samples()
    assert samples.shape == (1056,) and not samples.flags.writeable
    assert np.abs(active(samples, 1)[0] - FMT.preamble * ofdm.amplitude()).max() < 1e-5
    assert np.abs(samples).max() ** 2 / power(samples) < 10  # a crest factor below 10 dB: no worse than its payload
