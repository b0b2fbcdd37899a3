"""The simulated air: the impairments in the order of two radios and the air between them.

    TX   junk before the burst, converter clips
    air  delay, echoes or a fading profile; the receiver's clock samples the sum; interference
    RX   noise, mixer (carrier offset, phase noise, IQ imbalance, DC), gain steps, converter
    host samples dropped or repeated, recording cut

Noise enters at the first amplifier: after the air, so that echoes and fading do not shape it; after the receiver's
clock, because thermal noise is white at any sampling rate and interpolation would colour it; and before mixer, gain and
converter, which act on it as on the signal. Both radios' oscillators are lumped into the
receiver's mixer, as only their difference is seen. A transmitter's own IQ imbalance and carrier leak are not modelled.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT
from airnet_sdr.dsp.units import linear
from airnet_sdr.sim.channel import impairments as imp
from airnet_sdr.sim.channel.config import ChannelConfig

BLOCK = 8192  # samples processed at once: the output does not depend on the input's block lengths


class Channel:
    """Samples through the air, block by block: ``process(block)`` as often as needed, then ``flush()`` once.

    The concatenated output depends on config, rates and seed only, bit for bit, not on the input's block lengths. Up to
    8192 + 64 samples are held back until more input or ``flush`` comes. signal_power is the mean power of a sample
    inside a burst. Each impairment draws from its own stream of the seed: one more does not change the others' draws.
    """

    def __init__(self, config: ChannelConfig, rate_hz: float, freq_hz: float, seed: int = 0, signal_power: float = 1.0):
        self.config = config
        if not (rate_hz > 0 and freq_hz > 0 and signal_power > 0):
            raise InputError(f"channel: rate {rate_hz}, frequency {freq_hz} and power {signal_power} must be above 0")
        if config.doppler_hz > rate_hz / 5000:
            raise InputError(f"channel: doppler_hz is {config.doppler_hz:g}: at most rate/5000 = {rate_hz / 5000:g}")
        for name, hz in (("cfo_hz", config.cfo_hz), *(("tones", freq_hz) for freq_hz, _ in config.tones)):
            if abs(hz) > rate_hz / 2:
                raise InputError(f"`{name}` must be within half the rate, ±{rate_hz / 2:g} Hz; got {hz:g}")
        # a burst's power lies on the active subcarriers, the noise on all
        self.noise_var = 0.0 if config.snr_db is None else _noise_var(config.snr_db, signal_power)
        self.sco = 1e-6 * config.sco_ppm if config.sco_ppm is not None else config.cfo_hz / freq_hz
        if abs(self.sco) > 0.01:
            raise InputError(
                f"channel: the clock is {1e6 * self.sco:g} ppm off: at most 10000; check freq_hz {freq_hz:g}"
            )
        names = ("junk", "fading", "bursts", "noise", "phase", "gain", "drops", "repeats", "interference", "background")
        streams = np.random.SeedSequence(seed).spawn(len(names))
        rngs = {name: np.random.default_rng(stream) for name, stream in zip(names, streams, strict=True)}
        self._multipath = multipath(config, rate_hz, rngs["fading"])
        self._stages = list(self._make_stages(rate_hz, signal_power, rngs))
        rail = np.sqrt(signal_power / 2)
        lead = imp.junk(config.junk_samples, rail * _amplitude(config.junk_db), rngs["junk"])
        silence = np.zeros(math.floor(config.delay_samples), dtype=np.complex64)
        self._pending = np.concatenate([silence, lead])  # unprocessed input

    def _make_stages(self, rate_hz, power, rngs) -> Iterator[Callable]:
        """The block diagram; each stage takes and returns complex64 samples, some have a ``flush``."""
        c, every = self.config, self.config.events_every_samples
        rail = np.sqrt(power / 2)
        if c.tx_clip_db is not None:
            yield lambda x: imp.clip(x, rail * _amplitude(c.tx_clip_db))
        if self._multipath is not None:
            yield self._multipath
        if self.sco or c.delay_samples % 1:
            yield imp.Resampler(self.sco, c.delay_samples % 1)
        if c.bursts:
            yield imp.Bursts(c.bursts, rngs["bursts"], power, every)
        if c.interference:
            yield imp.Interference(c.interference, rate_hz, rngs["interference"], power)
        for freq_hz, sir_db in c.tones:
            yield imp.Tone(freq_hz / rate_hz, power / linear(sir_db))
        if c.background is not None:
            recording = imp.read_recording(c.background, rate_hz)
            yield imp.Recorded(recording, _noise_var(c.background_snr_db, power), rngs["background"])
        if self.noise_var:
            yield lambda x: imp.awgn(x, self.noise_var, rngs["noise"])
        if c.cfo_hz:
            yield _Mixer(2 * np.pi * c.cfo_hz / rate_hz)
        if c.phase_noise_deg:
            yield imp.PhaseNoise(np.deg2rad(c.phase_noise_deg), c.phase_noise_corner_hz / rate_hz, rngs["phase"])
        if c.iq_amplitude_db or c.iq_phase_deg:
            yield lambda x: imp.iq_imbalance(x, c.iq_amplitude_db, c.iq_phase_deg)
        if c.dc_dbc is not None:
            yield lambda x: imp.dc_offset(x, c.dc_dbc, c.dc_phase_deg, power)
        if c.gain_steps:
            yield imp.GainSteps(c.gain_steps, rngs["gain"], every)
        if c.bits is not None:
            full_scale = np.sqrt((power + self.noise_var) / 2) * _amplitude(c.full_scale_db)
            yield lambda x: imp.quantise(x, full_scale, c.bits)
        if c.drops:
            yield imp.Drops(c.drops, rngs["drops"], every)
        if c.repeats:
            yield imp.Repeats(c.repeats, rngs["repeats"], every)
        if c.cut_start_samples or c.cut_stop_samples is not None:
            yield imp.Cut(c.cut_start_samples, c.cut_stop_samples)

    def process(self, block: np.ndarray) -> np.ndarray:
        """Process a block, complex64 of any length; returns the finished samples, complex64."""
        samples = np.concatenate([self._pending, np.asarray(block, dtype=np.complex64)])
        stop = samples.size // BLOCK * BLOCK
        outputs = [self._run(samples[start : start + BLOCK]) for start in range(0, stop, BLOCK)]
        self._pending = samples[stop:].copy()
        return _joined(outputs)

    def flush(self) -> np.ndarray:
        """The remaining samples, after the end of the input."""
        head = self.process(np.zeros(0, dtype=np.complex64))
        return _joined([head, self._run(self._pending, last=True)])

    def _run(self, x, last=False):
        for stage in self._stages:
            y = stage(x)
            x = np.concatenate([y, stage.flush()]) if last and hasattr(stage, "flush") else y
        return x

    def frequency_response(self, freqs) -> np.ndarray:
        """H(f) of echoes and fading at the first sample, f in cycles/sample; 1 without them.

        Delay and offsets are not included.
        """
        if self._multipath is None:
            return np.ones(np.shape(freqs), dtype=np.complex128)
        return self._multipath.frequency_response(freqs)


class _Mixer:
    """The carrier offset of a stream."""

    def __init__(self, cfo: float):
        self._cfo, self._start = cfo, 0

    def __call__(self, x):
        y = imp.cfo(x, self._cfo, self._start)
        self._start += x.size
        return y


def _joined(blocks) -> np.ndarray:
    return np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.complex64)


def _amplitude(level_db: float) -> float:
    return float(np.sqrt(linear(level_db)))


def _noise_var(snr_db: float, signal_power: float) -> float:
    """Noise power of a sample at an SNR per payload symbol."""
    return float(signal_power / DEFAULT_FORMAT.occupancy / linear(snr_db))


def multipath(config: ChannelConfig, rate_hz: float, rng) -> imp.Multipath | None:
    """The filter of the echoes or of the profile, with fading.

    A profile has unit mean power. The gains a_l of echoes are scaled so that |H|² has mean 1 over the occupied band,
    Σ_l Σ_m a_l*·a_m·sinc(occupied·(d_l − d_m)) = 1, and snr_db stays the mean SNR.
    """
    fades = config.tdl is not None or config.doppler_hz > 0 or config.rician_k_db is not None
    if not (config.echoes or fades):
        return None
    if config.tdl is not None:
        delays, gains = imp.profile(config.tdl, rate_hz)
    else:
        delays, levels_db, phases_deg = np.array([(0.0, 0.0, 0.0), *config.echoes]).T
        gains = np.sqrt(linear(levels_db)) * np.exp(1j * np.deg2rad(phases_deg))
        overlap = np.sinc(DEFAULT_FORMAT.occupancy * (delays[:, None] - delays))
        gains /= np.sqrt(np.real(np.conj(gains) @ overlap @ gains))
    rician_k = None if config.rician_k_db is None else float(linear(config.rician_k_db))
    num = len(delays) if config.tdl is not None else 1
    fading = imp.Fading(num, config.doppler_hz / rate_hz, rng, rician_k) if fades else None
    return imp.Multipath(delays, gains, fading)
