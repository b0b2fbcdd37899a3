"""Lost samples are found in the signal: every loss, to one OFDM symbol, and none where there is none."""

import numpy as np
import pytest

from airnet_sdr.dsp.burst import FrameReceiver
from airnet_sdr.dsp.frame import DEFAULT_FORMAT
from airnet_sdr.dsp.units import linear
from airnet_sdr.sim.channel import Channel, ChannelConfig, channel_preset
from airnet_sdr.tests.link import make_burst, on_air, transmit, white

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


@pytest.mark.parametrize("snr_db", [20, 5])
@pytest.mark.parametrize("ppm", [0, 44])
def test_every_loss_is_found_to_one_symbol(snr_db, ppm, rng):
    """40 losses of 16 to 20,000 samples anywhere, in torn frames, in preambles, and over more than a frame."""
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
        assert abs(loss.start - place) <= SYMBOL, (loss, place, size)


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
