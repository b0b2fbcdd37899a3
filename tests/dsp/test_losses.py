"""Lost samples are found in the signal: every loss, to one OFDM symbol, and none where there is none."""

import dataclasses
import tracemalloc

import numpy as np
import pytest

from airnet_sdr.dsp.burst import FrameReceiver
from airnet_sdr.dsp.frame import DEFAULT_FORMAT
from airnet_sdr.dsp.losses import find_loss
from airnet_sdr.dsp.units import linear
from airnet_sdr.sim.channel import Channel, ChannelConfig, channel_preset
from airnet_sdr.tests.link import make_burst, on_air, receive, transmit, white

SYMBOL = DEFAULT_FORMAT.symbol_samples
_, BURST = make_burst((150_000,))
CYCLE = transmit(BURST)
LENGTH = CYCLE.size // BURST.header.num_frames
CYCLES = 4


def losses(samples, block=100_000):
    """What a receiver finds in samples that come in blocks."""
    receiver = FrameReceiver()
    for start in range(0, samples.size, block):
        receiver.push(samples[start : start + block])
    receiver.finish()
    return receiver.losses


def through_air(snr_db, ppm, cycles=CYCLES, seed=1):
    config = ChannelConfig(snr_db=snr_db, cfo_hz=ppm * 2400, sco_ppm=ppm)
    channel = Channel(config, 2.5e6, 2.4e9, seed)
    parts = [channel.process(CYCLE) for _ in range(cycles)]
    return np.concatenate([*parts, channel.flush()])


@pytest.mark.parametrize("snr_db, most_symbols", [(20, 1), (5, 2)])
@pytest.mark.parametrize("ppm", [0, 44])
def test_every_loss_is_found_to_one_symbol(snr_db, most_symbols, ppm, rng):
    """40 losses of 16 to 20,000 samples anywhere, in torn frames, in preambles, and over more than a frame.

    At 5 dB pilots leave 40 samples, twice 20.48, to the prefixes alone, which may be a symbol more off.
    """
    samples = through_air(snr_db, ppm, 40)
    sizes = rng.permutation(np.round(np.geomspace(16, 20_000, 40)).astype(int))
    places = np.sort(rng.choice(np.arange(1, samples.size // (4 * LENGTH)), 40, replace=False)) * 4 * LENGTH
    places = places + rng.integers(0, LENGTH, 40)
    keep = np.ones(samples.size, bool)
    for place, size in zip(places, sizes, strict=True):
        keep[place : place + size] = False
    at = places - np.cumsum(sizes) + sizes  # in the stream that came
    found = losses(samples[keep])
    assert len(found) == 40
    for loss, place, size in zip(found, at, sizes, strict=True):
        assert abs(loss.num_samples - size) <= 3, (loss, place, size)
        assert abs(loss.start - place) <= most_symbols * SYMBOL, (loss, place, size)


def test_samples_put_in_are_found():
    """A transmitter that ran dry sends zeros."""
    sent = np.insert(np.tile(CYCLE, 2), 5 * LENGTH + 12_345, np.zeros(1500, np.complex64))
    (loss,) = losses(on_air(sent, 15))
    assert abs(loss.num_samples + 1500) <= 2 and abs(loss.start - 700 - 5 * LENGTH - 12_345) <= 1500 + SYMBOL


@pytest.mark.parametrize("pause", [5000, 100_000, 700_000])
def test_a_sender_that_pauses_or_starts_again_is_no_loss(pause):
    """It stops in the middle of a frame, and its successor begins with frame 0."""
    silence = np.zeros(pause, np.complex64)
    samples = np.concatenate([CYCLE[: 3 * LENGTH + 9000], silence, CYCLE])
    assert losses(on_air(samples, 15)) == []


@pytest.mark.parametrize("snr_db", [15, 3])
@pytest.mark.parametrize("cycles, rest", [(0, 100_000), (2, 0), (2, 60_000), (2, 100_000), (2, 120_000), (2, 200_000)])
def test_a_pause_longer_than_what_is_kept_is_no_loss(cycles, rest, snr_db):
    """However much of a cycle is missing, or too much."""
    cycle = transmit(make_burst((300_000,))[1])
    silence = np.zeros(cycles * cycle.size + rest, np.complex64)
    assert losses(on_air(np.concatenate([cycle, silence, cycle[: 2 * LENGTH]]), snr_db), block=8192) == []


def test_memory_does_not_grow_with_a_pause():
    """The same burst again after ten seconds and after an hour, and after ten seconds in one recording."""
    frames = receive(on_air(CYCLE, 15))
    recording = np.zeros(25_000_000, np.complex64)
    for length, pause in ((100_000, 25_000_000), (100_000, 9_000_000_000), (recording.size, 25_000_000)):
        after = dataclasses.replace(frames[3], start=pause, window=pause)
        tracemalloc.start()
        found = find_loss(recording[:length], pause - length, frames[2], after, DEFAULT_FORMAT)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found is None and most < 50e6, (length, pause, most)


def test_a_loss_among_hidden_frames_is_found_where_no_frame_before_it_is_kept():
    start, num = 3 * LENGTH + 700, 6 * LENGTH
    samples = on_air(np.tile(CYCLE, 3), 15)
    samples[start : start + num] += white(num, linear(25), 3)
    (loss,) = losses(np.delete(samples, slice(start + 50_000, start + 55_000)), block=8192)
    assert abs(loss.num_samples - 5000) <= 2 and start - LENGTH < loss.start < start + num


def test_interference_that_hides_frames_is_no_loss():
    samples = on_air(np.tile(CYCLE, CYCLES), 15)
    for start in range(50_000, samples.size - 200_000, 170_000):
        num = 3000 + start % 70_000
        samples[start : start + num] += white(num, linear(25), start)
    assert losses(samples) == []


@pytest.mark.parametrize("channel", [channel_preset("room"), ChannelConfig(snr_db=8, doppler_hz=20, tdl="epa")])
def test_echoes_and_fading_are_no_loss(channel):
    air = Channel(channel, 2.5e6, 2.4e9, 3)
    assert losses(np.concatenate([air.process(CYCLE) for _ in range(40)])) == []


@pytest.mark.slow
@pytest.mark.parametrize("snr_db, ppm", [(0, 44), (12, -44)])
def test_no_false_alarm_in_a_billion_samples(snr_db, ppm):
    """Half of them each: noise, a crystal, and the receiver as it is used."""
    channel = Channel(ChannelConfig(snr_db=snr_db, cfo_hz=ppm * 2400, sco_ppm=ppm), 2.5e6, 2.4e9, 7)
    receiver, num, frames = FrameReceiver(), 0, 0
    while num < 500_000_000:
        samples = channel.process(CYCLE)
        frames += len(receiver.push(samples))
        num += samples.size
    assert receiver.losses == [] and frames > 0.9 * num / LENGTH
