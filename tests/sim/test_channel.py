"""The composed channel: order, levels, streaming, options."""

import argparse

import numpy as np
import pytest

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT
from airnet_sdr.dsp.radio.config import FREQ_HZ, RATE_HZ
from airnet_sdr.dsp.units import db, nmse, power
from airnet_sdr.sim.channel import (
    PRESETS,
    Channel,
    ChannelConfig,
    add_channel_options,
    channel_config,
    channel_preset,
)


def signal(num=40_000, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(2 * num, dtype=np.float32).view(np.complex64) / np.float32(np.sqrt(2))


def through(config, x, sizes=(2**20,), seed=1, **kwargs):
    channel = Channel(config, RATE_HZ, FREQ_HZ, seed, **kwargs)
    out, at, k = [], 0, 0
    while at < x.size:
        out.append(channel.process(x[at : at + sizes[k % len(sizes)]]))
        at += sizes[k % len(sizes)]
        k += 1
    return np.concatenate([*out, channel.flush()])


def parse(*words):
    parser = argparse.ArgumentParser()
    add_channel_options(parser)
    options = vars(parser.parse_args(words))
    return channel_config(options, options["preset"])


def test_the_default_does_nothing():
    x = signal(20_001)
    np.testing.assert_array_equal(through(ChannelConfig(), x, (999,)), x)


@pytest.mark.parametrize("name", [*PRESETS, "fading"])
def test_output_does_not_depend_on_the_cuts(name):
    if name == "fading":
        config = ChannelConfig(snr_db=10, tdl="eva", doppler_hz=50, cfo_hz=-5e3, delay_samples=2.5)
    else:
        config = channel_preset(name)
    if config.events_every_samples:
        config = channel_preset(name, events_every_samples=9000)  # so that the 40,000 samples see some
    x = signal()
    whole = through(config, x)
    assert whole.dtype == np.complex64
    for sizes in ((1, 5000, 0, 77), (8192,), (8191, 8193)):
        np.testing.assert_array_equal(through(config, x, sizes), whole)
    assert not np.array_equal(through(config, x, seed=2), whole)


def test_noise_is_per_payload_symbol():
    """SNR after a unitary DFT on an active subcarrier is snr_db when the burst has signal_power a sample."""
    channel = Channel(ChannelConfig(snr_db=7), RATE_HZ, FREQ_HZ, signal_power=2.0)
    per_subcarrier = 2.0 * DEFAULT_FORMAT.fft_size / DEFAULT_FORMAT.num_active
    assert db(per_subcarrier / channel.noise_var) == pytest.approx(7)
    noise = through(ChannelConfig(snr_db=7), np.zeros(200_000, np.complex64), signal_power=2.0)
    assert power(noise) == pytest.approx(channel.noise_var, rel=0.01)


def test_one_crystal_drives_carrier_and_clock():
    n = np.arange(100_000)
    x = np.exp(2j * np.pi * 0.1 * n).astype(np.complex64)
    y = through(ChannelConfig(cfo_hz=119e3), x)
    sco, cfo = 119e3 / FREQ_HZ, 2 * np.pi * 119e3 / RATE_HZ
    assert y.size == pytest.approx(x.size / (1 + sco), abs=1)
    m = np.arange(100, y.size - 100)
    assert db(nmse(y[m], np.exp(1j * (2 * np.pi * 0.1 * m * (1 + sco) + cfo * m)))) < -70
    still = through(ChannelConfig(cfo_hz=119e3, sco_ppm=0), x)
    np.testing.assert_allclose(still, x * np.exp(1j * cfo * n), atol=1e-5)


def test_delay_is_exact():
    x = np.exp(2j * np.pi * 0.05 * np.arange(20_000)).astype(np.complex64)
    np.testing.assert_array_equal(through(ChannelConfig(delay_samples=300), x), np.pad(x, (300, 0)))
    y = through(ChannelConfig(delay_samples=300.25), x)
    n = np.arange(500, 20_000)
    assert not np.abs(y[:200]).max() > 1e-3
    assert db(nmse(y[n], np.exp(2j * np.pi * 0.05 * (n - 300.25)))) < -70


def test_echoes_have_unit_power_in_the_band_and_the_exposed_response():
    config = ChannelConfig(echoes=((1.3, -6, 70), (40.75, -10)))
    channel = Channel(config, RATE_HZ, FREQ_HZ)
    freqs = DEFAULT_FORMAT.subcarriers / DEFAULT_FORMAT.fft_size
    assert np.mean(np.abs(channel.frequency_response(freqs)) ** 2) == pytest.approx(1, abs=2e-3)
    x = np.exp(2j * np.pi * 0.2 * np.arange(20_000)).astype(np.complex64)
    y = through(config, x)[200:19_800]
    assert db(nmse(y, channel.frequency_response(0.2) * x[200:19_800])) < -70
    assert Channel(ChannelConfig(), RATE_HZ, FREQ_HZ).frequency_response(freqs).shape == freqs.shape


def test_fading_has_unit_mean_power():
    config = ChannelConfig(tdl="etu")
    powers = [power(through(config, signal(3000), seed=seed)[:3000]) for seed in range(300)]
    assert np.mean(powers) == pytest.approx(1, abs=0.1)


def test_front_end_order():
    """DC and image come after the mixer, so neither moves with the carrier offset; the converter comes last."""
    config = ChannelConfig(cfo_hz=100e3, sco_ppm=0, dc_dbc=-20, dc_phase_deg=0, iq_phase_deg=5, bits=12)
    y = through(config, np.exp(2j * np.pi * 0.06 * np.arange(50_000)).astype(np.complex64))
    spectrum = np.abs(np.fft.fft(y)) / y.size
    assert spectrum[0] == pytest.approx(0.1, abs=0.005)
    assert np.argmax(spectrum) == 5000  # 0.06 + 0.04 cycles/sample
    assert db(spectrum[5000] ** 2 / spectrum[-5000] ** 2) == pytest.approx(27.2, abs=0.3)  # 4/φ²
    step = 10 ** (12 / 20) * np.sqrt(0.5) / 2048
    np.testing.assert_allclose(y.view(np.float32) / step, np.rint(y.view(np.float32) / step), atol=1e-2)


def test_recording_begins_and_ends_where_stated():
    x = signal(30_000)
    cut = through(ChannelConfig(cut_start_samples=123, cut_stop_samples=20_000, drops=((1000, 10),)), x, (4000,))
    np.testing.assert_array_equal(cut, np.delete(x, np.s_[1000:1010])[123:20_000])


def test_junk_comes_first_and_is_clipped():
    y = through(ChannelConfig(junk_samples=500, junk_db=20, tx_clip_db=9), signal(1000))
    assert y.size == 1500
    limit = np.sqrt(0.5) * 10 ** (9 / 20)
    assert np.abs(y[:500].view(np.float32)).max() == pytest.approx(limit)
    rails = np.clip(signal(1000).view(np.float32), -limit, limit)
    np.testing.assert_allclose(y[500:].view(np.float32), rails, rtol=1e-6)


def test_streams_of_random_numbers_are_separate():
    """Switching phase noise on leaves the noise samples as they were."""
    zeros = np.zeros(5000, np.complex64)
    quiet = through(ChannelConfig(snr_db=10), zeros)
    rotated = through(ChannelConfig(snr_db=10, phase_noise_deg=5), zeros)
    np.testing.assert_allclose(np.abs(rotated), np.abs(quiet), rtol=1e-5)


def test_options_build_the_config():
    assert parse() == ChannelConfig()
    config = parse("--snr-db", "12.5", "--echo", "3.5:-6", "--echo", "10:-12:90", "--drop", "100:5", "--bits", "12")
    assert config == ChannelConfig(
        snr_db=12.5, echoes=((3.5, -6.0, 0.0), (10.0, -12.0, 90.0)), drops=((100, 5),), bits=12
    )
    assert parse("--preset", "bench", "--snr-db", "none", "--cfo-hz=-5e3") == channel_preset(
        "bench", snr_db=None, cfo_hz=-5e3
    )
    assert parse("--preset", "room", "--echo", "none").echoes == ()


@pytest.mark.parametrize(
    "words",
    [
        ("--snr-db", "loud"),
        ("--snr-db", "nan"),
        ("--cfo-hz", "none"),
        ("--bits", "8.5"),
        ("--bits", "1"),
        ("--echo", "3"),
        ("--echo=-1:0",),
        ("--drop", "5:x"),
        ("--drop", "5:0"),
        ("--tdl", "urban"),
        ("--tdl", "eva", "--echo", "1:-3"),
        ("--preset", "lab"),
        ("--delay-samples", "inf"),
        ("--events-every-samples", "0"),
    ],
)
def test_bad_options_are_one_line(words):
    with pytest.raises(InputError) as error:
        parse(*words)
    assert "\n" not in str(error.value) and len(str(error.value)) > 20


def test_bad_channels_are_refused():
    with pytest.raises(InputError, match="doppler"):
        Channel(ChannelConfig(doppler_hz=1000), RATE_HZ, FREQ_HZ)
    with pytest.raises(InputError, match="rate"):
        Channel(ChannelConfig(), 0.0, FREQ_HZ)
    with pytest.raises(InputError, match="ppm"):
        Channel(ChannelConfig(cfo_hz=1e5), RATE_HZ, 1e6)
    with pytest.raises(InputError):
        ChannelConfig(echoes=(1, 2))
    with pytest.raises(InputError, match="option"):
        channel_preset("room", snr=3)
