"""The impairments of the air and of two radios, one function or small streaming class each.

Samples are complex64, one-dimensional. Functions are pure. A class is called block after block and
keeps its state; if its output lags its input, ``flush()`` returns the rest.
"""

from airnet_sdr.sim.channel.impairments.carrier import PhaseNoise, cfo
from airnet_sdr.sim.channel.impairments.events import Bursts, Cut, Drops, GainSteps, Repeats, junk
from airnet_sdr.sim.channel.impairments.frontend import awgn, clip, dc_offset, iq_gains, iq_imbalance, quantise
from airnet_sdr.sim.channel.impairments.interference import KINDS, Interference, Tone
from airnet_sdr.sim.channel.impairments.multipath import PROFILES, Fading, Multipath, echoes, profile
from airnet_sdr.sim.channel.impairments.recorded import Recorded, read_recording
from airnet_sdr.sim.channel.impairments.resample import HALF, Resampler, clock_offset, read_between, windowed_sinc

__all__ = [
    "HALF",
    "KINDS",
    "PROFILES",
    "Bursts",
    "Cut",
    "Drops",
    "Fading",
    "GainSteps",
    "Interference",
    "Multipath",
    "PhaseNoise",
    "Recorded",
    "Repeats",
    "Resampler",
    "Tone",
    "awgn",
    "cfo",
    "clip",
    "clock_offset",
    "dc_offset",
    "echoes",
    "iq_gains",
    "iq_imbalance",
    "junk",
    "profile",
    "quantise",
    "read_between",
    "read_recording",
    "windowed_sinc",
]
