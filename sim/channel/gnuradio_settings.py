"""A `ChannelConfig` in the terms of GNU Radio's channel blocks, as `flowgraphs/headless_air.py` takes it."""

import dataclasses
import math

import numpy as np

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.options import flag_of
from airnet_sdr.dsp.radio.scale import NOMINAL_POWER
from airnet_sdr.dsp.units import linear
from airnet_sdr.sim.channel.config import ChannelConfig
from airnet_sdr.sim.channel.impairments import iq_gains, profile
from airnet_sdr.sim.channel.pipeline import Channel, multipath

CANNOT = (
    "junk_samples",
    "bursts",
    "interference",
    "background",
    "tones",
    "gain_steps",
    "drops",
    "repeats",
    "events_every_samples",
    "cut_start_samples",
    "cut_stop_samples",
)
MAX_BITS = 16  # of GNU Radio's quantizer
SILENT_DB = -300.0  # impairments takes its phase noise in dB


def settings(config: ChannelConfig, rate_hz: float, freq_hz: float, seed: int) -> dict:
    """Settings of `headless_air.py` in cycles/sample, samples and linear powers; InputError for unsupported options."""
    _refuse(config)
    seed = 1 + seed % (2**31 - 1)  # GNU Radio takes 0 for "any"
    channel = Channel(config, rate_hz, freq_hz, seed, NOMINAL_POWER)
    still = dataclasses.replace(config, doppler_hz=0, rician_k_db=None, tdl=None)
    echoes = multipath(still, rate_hz, np.random.default_rng(0))
    taps = np.ones(1) if echoes is None else echoes.taps()[0]
    total_power = NOMINAL_POWER + channel.noise_var
    return {
        "delay": int(config.delay_samples),
        "clip": None if config.tx_clip_db is None else _rail(NOMINAL_POWER, config.tx_clip_db),
        "fading": _fading(config, rate_hz),
        "clock": 1 + channel.sco,
        "taps": [[float(tap.real), float(tap.imag)] for tap in taps],
        "noise_var": channel.noise_var,
        "cfo": config.cfo_hz / rate_hz,
        "seed": seed,
        "impairments": _impairments(config, rate_hz),
        "converter": None
        if config.bits is None
        else {"bits": config.bits, "full_scale": _rail(total_power, config.full_scale_db)},
    }


def _refuse(config: ChannelConfig) -> None:
    for declared in dataclasses.fields(config):
        if declared.name in CANNOT and getattr(config, declared.name) != declared.default:
            raise InputError(f"GNU Radio's air cannot do {flag_of(declared)}; leave it out, or use sim/air.py")
    if config.delay_samples % 1:
        raise InputError(f"GNU Radio's air delays by whole samples; --delay-samples is {config.delay_samples:g}")
    if (config.bits or 0) > MAX_BITS:
        raise InputError(f"GNU Radio's converter has up to {MAX_BITS} bits; --bits is {config.bits}")


def _rail(power: float, level_db: float) -> float:
    """The full scale ``level_db`` over the rms of I or Q."""
    return float(np.sqrt(power / 2 * linear(level_db)))


def _fading(config: ChannelConfig, rate_hz: float) -> dict | None:
    """Settings of fading_model, or for a profile of selective_fading_model."""
    if config.tdl is None and not config.doppler_hz and config.rician_k_db is None:
        return None
    rician_k = None if config.rician_k_db is None else float(linear(config.rician_k_db))
    common = {"doppler": config.doppler_hz / rate_hz, "rician_k": rician_k}
    if config.tdl is None:
        return common
    delays, gains = profile(config.tdl, rate_hz)
    return {**common, "delays": delays.tolist(), "gains": gains.tolist()}


def _impairments(config: ChannelConfig, rate_hz: float) -> dict | None:
    """Settings of GNU Radio's impairments, a sender's, equivalent to the receiver's of `impairments`.

    Theirs is m·cos(p)·I + j·(Q + m·sin(p)·I), ours s·(I + j·g·(cos(φ)·Q − sin(φ)·I)), the same with tan(p) = −g·sin(φ),
    m·cos(p) = 1/(g·cos(φ)) and a gain of s·g·cos(φ) after it. Phase noise: α·m·w through a pole at 1 − α has the
    variance m²·α/(2 − α).
    """
    if not (config.phase_noise_deg or config.iq_amplitude_db or config.iq_phase_deg or config.dc_dbc is not None):
        return None
    alpha = 1 - math.exp(-2 * math.pi * config.phase_noise_corner_hz / rate_hz)
    noise = math.radians(config.phase_noise_deg) * math.sqrt((2 - alpha) / alpha)
    g, phi = 10 ** (config.iq_amplitude_db / 20), math.radians(config.iq_phase_deg)
    mu, nu = iq_gains(config.iq_amplitude_db, config.iq_phase_deg)
    gain, p = abs(mu + nu) / math.hypot(1, g * math.sin(phi)) * g * math.cos(phi), -math.atan(g * math.sin(phi))
    dc = 0j
    if config.dc_dbc is not None:
        dc = np.sqrt(NOMINAL_POWER * linear(config.dc_dbc)) * np.exp(1j * np.deg2rad(config.dc_phase_deg)) / gain
    return {
        "phase_noise_db": 20 * math.log10(noise) if noise else SILENT_DB,
        "phase_noise_alpha": alpha,
        "magbal_db": -20 * math.log10(g * math.cos(phi) * math.cos(p)),
        "phasebal_deg": math.degrees(p),
        "dc": [float(dc.real), float(dc.imag)],
        "gain": gain,
    }
