"""Frames whose headers are valid and whose preambles or pilots are no radio's: none stops or poisons the receiver."""

import dataclasses

import numpy as np
import pytest

from airnet_sdr.dsp import burst, control, ofdm, reception
from airnet_sdr.dsp.burst import FrameReceiver, Lock
from airnet_sdr.dsp.estimate import ChannelEstimate
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, Header, frame_samples, payload_slots
from airnet_sdr.dsp.tracking import MAX_SCO, track
from airnet_sdr.tests.link import make_burst, on_air, receive, transmit, white

pytestmark = pytest.mark.filterwarnings("error")
CYCLE = transmit(make_burst((40_000,))[1])
SMALL = Header(burst_id=7, frame=0, num_frames=2, num_symbols=1, num_chunk_steps=3)
# of the pilots of SMALL's symbol: the sum is nearly 0, and Gauss-Newton runs off, to -1.8 or, rounded otherwise, -0.2
RUN_OFF = np.array([
    2.22 - 0.72j, -3.14 + 0.72j, 2.76 - 1.08j, -2.67 + 1.1j, -2.7 + 1.02j, 2.69 - 0.98j, -2.79 + 1.54j, -2.9 + 0.88j,
    2.64 - 1.06j, 0.5 - 0.53j, 2.86 - 1.59j, -2.53 + 1.21j, 3.46 - 0.9j, 1.96 - 0.88j, -2.83 + 0.99j, -4.87 + 0.94j,
])  # fmt: skip


def frame_of(header, gains=1.0):
    """A frame (frame_samples,) with pilots (num_symbols, num_pilots) times numbers."""
    fmt = DEFAULT_FORMAT
    payload = white(payload_slots(header, fmt) + header.num_chunk_steps * fmt.chunk_step, 1.0, 2)
    grid = ofdm.fill_grid(np.concatenate([control.encode_header(header), payload])[None], fmt)
    index = fmt.pilot_index[: header.num_symbols]
    np.put_along_axis(grid[1:], index, np.take_along_axis(grid[1:], index, axis=1) * gains, axis=1)
    return ofdm.modulate(grid)


def tracking_as(concerned, **wrong):
    """A `track` whose estimates are wrong for frames of the numbers of symbols concerned."""

    def hostile(spectra, *args, **options):
        tracking = track(spectra, *args, **options)
        for name, value in wrong.items() if concerned(spectra.shape[1]) else ():
            getattr(tracking, name)[...] = value
        return tracking

    return hostile


def are_numbers(frames):
    """Whether everything that is said of the frames is finite."""
    return all(
        np.isfinite([f.cfo, f.sco, f.snr, f.noise_var]).all()
        and np.isfinite(np.concatenate([f.chunk, f.statistic, f.chunk_information, f.information])).all()
        for f in frames
    )


@pytest.mark.parametrize("sco", [None, -1.2, -1.0, 1e6, np.nan])
def test_pilots_of_no_clock_leave_no_receiver_deaf(sco, monkeypatch):
    """16 such frames, then good ones: these are all received, and memory stays bounded."""
    if sco is not None:  # whatever the pilots are
        monkeypatch.setattr(reception, "track", tracking_as(lambda num_symbols: num_symbols == 1, sco=sco))
    receiver = FrameReceiver()
    samples = on_air(np.concatenate([np.tile(frame_of(SMALL, RUN_OFF), 16), np.tile(CYCLE, 3)]), after=20_000)
    frames = []
    for start in range(0, samples.size, 10_000):
        frames += receiver.push(samples[start : start + 10_000])
        assert receiver._buffer.size < 150_000
    assert [f.header.frame for f in frames if f.header.burst_id != SMALL.burst_id] == [0, 1, 2, 3] * 3
    assert all(abs(f.sco) <= MAX_SCO for f in frames) and are_numbers(frames)


@pytest.mark.parametrize("seed", range(10))
def test_pilots_of_any_kind_leave_no_receiver_deaf(seed):
    rng = np.random.default_rng(seed)
    header = dataclasses.replace(SMALL, num_symbols=int(rng.integers(1, 6)))
    shape = (header.num_symbols, DEFAULT_FORMAT.num_pilots)
    gains = 10 ** rng.uniform(-6, 6) * (rng.choice([-1, 1], shape) + rng.uniform(0, 1) * rng.standard_normal(shape))
    hostile = np.tile(frame_of(header, gains - rng.choice([0, 1]) * gains.mean()), 8)
    receiver = FrameReceiver()
    frames = receiver.push(on_air(np.concatenate([hostile, CYCLE]), after=20_000))
    assert receiver._buffer.size < 150_000
    assert [f.header.frame for f in frames if f.header.burst_id != SMALL.burst_id] == [0, 1, 2, 3]
    assert are_numbers(frames)


NO_ESTIMATES = [
    {"sco": np.nan}, {"sco": np.inf}, {"sco": -1.0}, {"sco": -1.2}, {"sco": 1.1 * MAX_SCO}, {"sco": -1.1 * MAX_SCO},
    {"residual_cfo": np.nan}, {"residual_cfo": 1e9}, {"rotation": np.nan}, {"rotation": 1e30}, {"delay": np.inf},
    {"noise_var": np.nan}, {"noise_var": 1e-40},
]  # fmt: skip


@pytest.mark.parametrize("wrong", NO_ESTIMATES, ids=str)
def test_frames_of_impossible_estimates_are_not_received(wrong, monkeypatch):
    monkeypatch.setattr(reception, "track", tracking_as(lambda num_symbols: True, **wrong))
    assert receive(on_air(CYCLE, 20)) == []


def test_a_clock_offset_as_large_as_is_taken_does_no_harm(monkeypatch):
    """Long frames that follow a lock sooner than they are long: one may be expected before all of it has come."""
    header = Header(7, 0, 2, 64, 3)
    sent = frame_of(header)
    length = round(sent.size / (1 + MAX_SCO))
    assert sent.size == frame_samples(header, DEFAULT_FORMAT)
    end = 2 * length + 130  # samples from the first frame on
    before = -end % 2048
    samples = on_air(np.concatenate([sent[:length], sent]), before=before, after=5000)
    monkeypatch.setattr(burst, "Lock", lambda frame, sco, batch: Lock(frame, MAX_SCO, batch))
    receiver = FrameReceiver()
    frames = receiver.push(samples[: before + end])
    assert len(frames) == 1
    frames += receiver.push(samples[before + end :]) + receiver.finish()
    assert [f.start for f in frames] == [before, before + length]


@pytest.mark.parametrize("exponent", [-12, -20, -21, -22, -23, -38, -42])
def test_frames_too_faint_for_single_precision_stop_nothing(exponent):
    """Behind a lock preambles are found however faint they are."""
    faint = np.tile(frame_of(SMALL), 8) * np.float32(10.0**exponent)
    frames = receive(on_air(np.concatenate([np.tile(frame_of(SMALL), 7), faint, CYCLE])))
    assert [f.header.frame for f in frames if f.header.burst_id != SMALL.burst_id] == [0, 1, 2, 3]
    assert are_numbers(frames)


def test_a_channel_of_nothing_is_tracked_to_no_number():
    spectra = white(3 * 1024, 1.0, 1).reshape(1, 3, 1024)
    channel = ChannelEstimate(np.zeros((1, 800), np.complex64), np.ones(1), np.array([10]))
    assert np.isnan(track(spectra, channel).rotation).all()
