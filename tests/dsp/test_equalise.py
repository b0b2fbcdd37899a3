"""Each estimate of a frame against what was injected and, where there is one, its bound."""

import numpy as np
import pytest

from airnet_sdr.dsp import control, estimate
from airnet_sdr.dsp.equalise import soft_slots
from airnet_sdr.dsp.frame import DEFAULT_FORMAT as FMT
from airnet_sdr.dsp.frame import Header, payload_slots
from airnet_sdr.dsp.ofdm import amplitude, demodulate
from airnet_sdr.dsp.reception import look, read_headers
from airnet_sdr.dsp.sync import Acquisition
from airnet_sdr.dsp.tracking import Tracking, track
from airnet_sdr.dsp.units import db, linear, nmse
from airnet_sdr.sim.channel.impairments import clock_offset
from airnet_sdr.tests.link import white
from airnet_sdr.tx.burst import modulate_frame

pytestmark = pytest.mark.filterwarnings("error")
SYMBOLS = 24
HEADER = Header(1, 0, 4, SYMBOLS, 4)
CHUNK = control.encode_manifest(b"", HEADER)[0]
PAYLOAD = white(payload_slots(HEADER, FMT), 1.0, 1)
SLOTS = np.concatenate([control.encode_header(HEADER), CHUNK, PAYLOAD])
FRAME = modulate_frame(HEADER, CHUNK, PAYLOAD, FMT)
LEAD = 100  # samples before the frame
FLAT = amplitude() * np.exp(-2j * np.pi * FMT.subcarriers * estimate.FIRST_PATH_TAP / FMT.fft_size)
TIME = (np.arange(SYMBOLS) + 1.0) * FMT.symbol_samples
BODY = LEAD + FMT.prefix_samples - estimate.FIRST_PATH_TAP  # where the preamble's FFT window begins


@pytest.mark.parametrize("level", [0.0, 1e-30])
def test_a_preamble_of_nothing_has_no_information(level):
    """Lost samples are zeros, and the FFT window moves: a preamble was there, and is not where it is looked at."""
    samples = np.float32(level) * on_air(30, 1)
    opened = look(samples, Acquisition(np.array([LEAD]), np.zeros(1), np.ones(1)), np.zeros(1, int), SYMBOLS)
    statistic, information = soft_slots(opened.spectra, opened.channel)
    assert not statistic.any() and not information.any() and read_headers(opened, FMT) == [None]


def noise_of(snr_db):
    """Noise variance a sample, and a subcarrier, for an SNR per payload symbol."""
    return amplitude() ** 2 / linear(snr_db)


def on_air(snr_db, seed, taps=(1.0,), cfo=0.0, sco=0.0, num_symbols=SYMBOLS):
    """The frame through echoes, clock and carrier offset, whose phase is 0 at the preamble's FFT window, and noise."""
    frame = FRAME[: (1 + num_symbols) * FMT.symbol_samples]
    samples = np.convolve(np.concatenate([np.zeros(LEAD), frame, np.zeros(LEAD)]), taps)
    if sco:
        samples = clock_offset(samples, sco)
    samples = samples * np.exp(1j * cfo * (np.arange(samples.size) - BODY))
    return samples.astype(np.complex64) + white(samples.size, 0 if snr_db is None else noise_of(snr_db), seed)


def preamble_of(samples, num_symbols=0):
    """Spectra and channel estimate of the frame's first symbols, with exact timing and no carrier correction."""
    acquisition = Acquisition(np.array([LEAD]), np.array([0.0]), np.array([1.0]))
    opened = look(samples, acquisition, np.array([-estimate.FIRST_PATH_TAP]), num_symbols, FMT)
    return opened.spectra, opened.channel


def estimates(samples, num_symbols=SYMBOLS):
    """Spectra, channel and tracking of the frame."""
    spectra, channel = preamble_of(samples, num_symbols)
    return spectra, channel, track(spectra, channel, FMT)[0]


def symbol_nmse(spectra, channel, tracking):
    """NMSE of the LMMSE estimates of the data slots by OFDM symbol (symbols,)."""
    (statistic,), (information,) = soft_slots(spectra, channel, tracking[None], FMT)
    error = np.abs(statistic / (information + 1) - SLOTS[: statistic.size]) ** 2
    return error.reshape(spectra.shape[1], -1).mean(axis=1)


def random_taps(num_taps, rng):
    """A channel of unit energy whose first tap is among the strong ones."""
    taps = rng.standard_normal((num_taps, 2)) @ [1, 1j] * np.exp(-np.arange(num_taps) / num_taps)
    taps[0] = 1
    return taps / np.linalg.norm(taps)


def response(taps):
    delay = np.arange(len(taps)) + estimate.FIRST_PATH_TAP
    return amplitude() * np.exp(-2j * np.pi * FMT.subcarriers[:, None] * delay / FMT.fft_size) @ taps


@pytest.mark.parametrize("num_taps, most_window", [(1, 10), (5, 10), (10, 16), (20, 24), (29, 36), (50, 64)])
@pytest.mark.parametrize("snr_db", [0, 15])
def test_the_channel_estimate_is_at_its_bound(num_taps, most_window, snr_db):
    """NMSE rank/(num_active·S) of the window chosen, rank at most its width: between half of it and 1 dB above."""
    rng = np.random.default_rng(num_taps)
    errors, bounds, windows = [], [], []
    for trial in range(60):
        taps = random_taps(num_taps, rng)
        _, channel = preamble_of(on_air(snr_db, trial, taps, num_symbols=0))
        errors.append(nmse(channel.h_hat[0], response(taps)))
        bounds.append(channel.window[0] / FMT.num_active / linear(snr_db))
        windows.append(channel.window[0])
    assert np.median(windows) <= most_window
    assert -3 < db(np.mean(errors) / np.mean(bounds)) < 1


@pytest.mark.parametrize("snr_db", [-5, 5, 25])
def test_the_noise_of_the_preamble_is_measured(snr_db):
    """Without bias (3 %), each within 15 %: 736 or more degrees of freedom leave 3.7 %."""
    ratios = []
    for trial in range(60):
        _, channel = preamble_of(on_air(snr_db, trial, num_symbols=0))
        ratios.append(channel.noise_var[0] / noise_of(snr_db))
    assert np.mean(ratios) == pytest.approx(1, abs=0.03) and np.std(ratios) < 0.06
    assert 0.85 < min(ratios) and max(ratios) < 1.15


@pytest.mark.parametrize("snr_db", [-6, 0, 20])
def test_the_snr_estimate_has_no_bias(snr_db):
    ratios = []
    for trial in range(100):
        _, channel = preamble_of(on_air(snr_db, trial, num_symbols=0))
        ratios.append(estimate.mean_snr(channel[0], channel.noise_var[0]) / linear(snr_db))
    assert np.mean(ratios) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("delay", [-20, -3, 0, 1, 10, 27])
@pytest.mark.parametrize("taps, late", [
    ([1], 0), ([1, 0, 0, 0.5], 0), ([0.5, 0, 0, 0, 0, 0, 0, 1], 1), ([0.3] + [0] * 19 + [1], 1),
])  # fmt: skip
def test_the_first_path_is_found(delay, taps, late):
    """Exactly when it is the strongest, one sample late at most when it is 6 to 10 dB below."""
    for seed in range(10):
        samples = on_air(15, seed, taps, num_symbols=0)
        start = LEAD + FMT.prefix_samples - delay
        spectra = demodulate(samples, [start - FMT.prefix_samples], [0.0], 1)[0]
        assert 0 <= estimate.first_paths(spectra)[0] - delay <= late


def pilot_bounds(snr):
    """Cramér–Rao bounds of (cfo, sco) from the pilots of SYMBOLS symbols and the preamble.

    The phase of pilot i of symbol t is phase + delay·slope + cfo·n_t + sco·n_t·slope, in noise of variance 1/(2·S).
    The preamble adds num_active observations with n_t = 0, since phase and delay of the channel are not known.
    """
    pilots = 2 * np.pi * FMT.subcarriers[FMT.pilot_index[:SYMBOLS]] / FMT.fft_size
    slope = np.concatenate([pilots.reshape(-1), 2 * np.pi * FMT.subcarriers / FMT.fft_size])
    time = np.concatenate([np.repeat(TIME, FMT.num_pilots), np.zeros(FMT.num_active)])
    design = np.stack([np.ones_like(slope), slope, time, time * slope], axis=-1)
    return np.diag(np.linalg.inv(2 * snr * design.T @ design))[2:]


@pytest.mark.parametrize("snr_db", [0, 20])
def test_clock_and_carrier_offset_are_at_their_bounds(snr_db):
    """sco over ±60 ppm, residual cfo over ±2e-5 rad/sample: mean squared errors within 1.5 dB of the bounds."""
    rng = np.random.default_rng(3)
    errors = []
    for trial in range(100):
        sco, cfo = rng.uniform(-60e-6, 60e-6), rng.uniform(-2e-5, 2e-5)
        _, _, tracking = estimates(on_air(snr_db, trial, cfo=cfo, sco=sco))
        errors.append([tracking.residual_cfo - cfo, tracking.sco - sco])
    excess_db = db(np.mean(np.square(errors), axis=0) / pilot_bounds(linear(snr_db)))
    assert np.all(excess_db < 1.5), excess_db
    assert np.all(np.abs(np.mean(errors, axis=0)) < 4 * np.std(errors, axis=0) / np.sqrt(100))


@pytest.mark.parametrize("num_symbols", [1, 2, 3, 8])
def test_short_frames_are_tracked(num_symbols):
    for trial in range(20):
        spectra, channel, tracking = estimates(on_air(10, trial, cfo=1e-5, num_symbols=num_symbols), num_symbols)
        assert symbol_nmse(spectra, channel, tracking).mean() < 1.5 / 11


@pytest.mark.parametrize("sco, cfo", [(0, 0), (50e-6, 2e-5), (-50e-6, -2e-5)])
@pytest.mark.parametrize("snr_db", [0, 15, 30])
def test_the_tracked_frame_is_estimated_as_if_all_were_known(sco, cfo, snr_db):
    """Over the whole frame at most 0.25 dB above 1/(1 + 1/(1/S + leakage)).

    A clock offset δ turns subcarrier k by δ·k·2π within the symbol: leakage (π·k·δ)²/3 from it to the others.
    """
    leakage = np.mean((np.pi * FMT.subcarriers * sco) ** 2) / 3
    bound = 1 / (1 + 1 / (1 / linear(snr_db) + leakage))
    errors = [symbol_nmse(*estimates(on_air(snr_db, trial, cfo=cfo, sco=sco))).mean() for trial in range(10)]
    assert -0.05 < db(np.mean(errors) / bound) < 0.25


@pytest.mark.parametrize("snr_db", [0, 10, 20])
def test_the_noise_of_a_frame_is_measured(snr_db):
    """Within 5 % in the mean of 60 frames, each within 20 %: 384 pilots leave 5 %."""
    ratios = []
    for trial in range(60):
        _, _, tracking = estimates(on_air(snr_db, trial))
        assert np.isfinite(tracking.noise_var).all()
        ratios.append(np.median(tracking.noise_var) / noise_of(snr_db))
    assert np.mean(ratios) == pytest.approx(1, abs=0.05) and np.abs(np.array(ratios) - 1).max() < 0.2


def slots_of_symbol(t):
    """Samples of OFDM symbol t with its prefix."""
    return slice(LEAD + (t + 1) * FMT.symbol_samples, LEAD + (t + 2) * FMT.symbol_samples)


@pytest.mark.parametrize("step", [0.5, 0.7 * np.exp(0.3j), 1.5, 2.0 * np.exp(-1j)])
@pytest.mark.parametrize("at_symbol", [3, 12, 20])
def test_a_gain_step_between_symbols_is_followed(step, at_symbol):
    """Amplitude and phase jump: the gain is right to 15 %, the symbols lose 2 dB at most, 0.5 dB in the mean."""
    samples = on_air(None, 0)
    samples[slots_of_symbol(at_symbol).start :] *= step
    spectra, channel, tracking = estimates((samples + white(samples.size, noise_of(20), 4)).astype(np.complex64))
    expected = np.where(np.arange(SYMBOLS) < at_symbol, 1, step)
    assert np.abs(tracking.rotation / expected - 1).max() < 0.15
    loss_db = db(symbol_nmse(spectra, channel, tracking) * (1 + linear(20) * np.abs(expected) ** 2))
    assert loss_db.max() < 2 and loss_db.mean() < 0.5


def test_phase_noise_is_followed():
    """A random walk of 0.02 rad rms a symbol at 20 dB: known to 0.05 rad, which costs 0.5 dB."""
    errors = []
    for trial in range(20):
        rng = np.random.default_rng(trial)
        walk = np.cumsum(0.02 * rng.standard_normal(SYMBOLS))
        samples = on_air(None, 0)
        for t in range(SYMBOLS):
            samples[slots_of_symbol(t)] *= np.exp(1j * walk[t])
        samples += white(samples.size, noise_of(20), trial)
        spectra, channel, tracking = estimates(samples)
        assert np.abs(np.angle(tracking.rotation * np.exp(-1j * walk))).max() < 0.1
        errors.append(symbol_nmse(spectra, channel, tracking).mean())
    assert db(np.mean(errors) * 101) < 0.6


@pytest.mark.parametrize("excess_db", [10, 20, 40])
@pytest.mark.parametrize("hit", [(7,), (0,), (23,), (3, 4, 15)])
def test_an_interfered_symbol_gets_its_own_noise(hit, excess_db):
    """16 pilots know it to 25 %; the other symbols keep theirs, and the offsets stay those of a clean frame."""
    for trial in range(10):
        samples = on_air(15, trial, sco=30e-6)
        for t in hit:
            part = slots_of_symbol(t)
            samples[part] += white(FMT.symbol_samples, noise_of(15) * linear(excess_db), 100 + trial)
        _, _, tracking = estimates(samples)
        clean = np.delete(np.arange(SYMBOLS), hit)
        assert tracking.noise_var[clean] == pytest.approx(noise_of(15), rel=0.25)
        finite = tracking.noise_var[list(hit)]
        expected = noise_of(15) * (1 + linear(excess_db))
        assert np.all((finite > expected / 3) & ((finite < 3 * expected) | np.isinf(finite)))
        assert tracking.sco == pytest.approx(30e-6, abs=2e-6)


@pytest.mark.parametrize("snr_db", [5, 15, 30])
@pytest.mark.parametrize("hit", [(7,), (0,), (23,), (3, 4, 15)])
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_symbol_replaced_by_silence_or_noise_does_no_harm(hit, snr_db, level):
    """Silence is erased; so is noise as strong as the signal at least three times in four, and else is weighed down."""
    erased = 0
    for trial in range(20):
        samples = on_air(None, 0)
        for t in hit:
            samples[slots_of_symbol(t)] = white(FMT.symbol_samples, level, 50 + trial)
        spectra, channel, tracking = estimates(samples + white(samples.size, noise_of(snr_db), trial))
        error = symbol_nmse(spectra, channel, tracking)
        assert error[list(hit)].max() < 1.4
        assert db(np.delete(error, hit).mean() * (1 + linear(snr_db))) < 0.4
        erased += np.isinf(tracking.noise_var[list(hit)]).mean() / 20
    assert erased >= (0.75 if level else 0.95)


def test_a_frame_without_noise_gives_finite_estimates():
    spectra, channel, tracking = estimates(on_air(None, 0))
    assert np.isfinite(tracking.noise_var).all() and symbol_nmse(spectra, channel, tracking).max() < 1e-6
    assert nmse(channel.h_hat[0], FLAT) < 1e-8


def test_soft_slots_are_the_matched_filter():
    """statistic = conj(h)·y/N0 and information = |h|²/N0, with the gain, the phase and the clock drift undone."""
    rng = np.random.default_rng(5)
    h = (rng.standard_normal(800) + 1j * rng.standard_normal(800)).astype(np.complex64)
    rotation = np.array([1.0, 0.5 * np.exp(1j), 2j])
    tracking = Tracking(np.zeros(()), np.zeros(()), rotation, np.array([0.0, 0.3, -0.7]), np.array([0.1, 0.2, np.inf]))
    grid = white(3 * 800, 1.0, 6).reshape(3, 800)
    spectra = white(3 * FMT.fft_size, 1.0, 7).reshape(1, 3, FMT.fft_size)
    spectra[..., FMT.columns] = grid
    channel = estimate.ChannelEstimate(h[None], np.array([0.1]), np.array([10]))
    (statistic,), (information,) = soft_slots(spectra, channel, tracking[None])
    drift = np.exp(2j * np.pi * FMT.subcarriers * tracking.delay[:, None] / FMT.fft_size)
    full = h * rotation[:, None] * drift
    full = np.take_along_axis(full, FMT.data_index[:3], axis=1)
    y = np.take_along_axis(grid, FMT.data_index[:3], axis=1)
    noise_var = tracking.noise_var[:, None]
    assert statistic.reshape(3, -1) == pytest.approx(full.conj() * y / noise_var, rel=1e-4, abs=1e-4)
    assert information.reshape(3, -1) == pytest.approx(np.abs(full) ** 2 / noise_var, rel=1e-4)
    assert statistic.dtype == np.complex64 and information.dtype == np.float32
