"""What else is on the band: tones, sweeps, FM, frequency hops, packets, radar pulses, a second sender.

Each kind is a renewal process: waveforms of unit power, each drawn anew, with exponentially distributed gaps between
them such that the kind is on for the given share of the time. All lie in the occupied band of the link, in which the
centre of a narrow one is uniform.
"""

import math
from collections.abc import Iterator

import numpy as np

from airnet_sdr.dsp import control, ofdm
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, Header, frame_samples
from airnet_sdr.dsp.sequences import qpsk
from airnet_sdr.dsp.units import linear
from airnet_sdr.sim.channel.impairments.carrier import cfo

HALF_BAND = DEFAULT_FORMAT.num_active / DEFAULT_FORMAT.fft_size / 2  # cycles/sample
HOP_SYMBOL_RATE_HZ, HOP_INDEX = 1e6, 0.32  # Bluetooth BR: slot, GFSK
FM_DEVIATION_HZ, FM_AUDIO_HZ = 75e3, 15e3
DURATION_S = {  # of a waveform, uniform between the two
    "tones": (0.5e-3, 5e-3),
    "sweeps": (1e-3, 4e-3),
    "fm": (20e-3, 20e-3),
    "hops": (625e-6, 625e-6),
    "packets": (60e-6, 600e-6),
    "pulses": (2e-6, 10e-6),
}
SENDER_FRAMES, SENDER_SYMBOLS = 4, 4


def _carrier(frequency, rng):
    """Samples of exp(j·2π∫f) of instantaneous frequencies (n,) in cycles/sample, from a random phase."""
    turns = np.cumsum(np.asarray(frequency, np.float64)) + rng.uniform()
    return np.exp(2j * np.pi * (turns % 1)).astype(np.complex64)


def _duration(kind, rate_hz, rng) -> int:
    return max(1, round(rng.uniform(*DURATION_S[kind]) * rate_hz))


def _centre(rng, margin=0.0) -> float:
    reach = max(0.0, HALF_BAND - margin)
    return rng.uniform(-reach, reach)


def tone(rate_hz: float, rng) -> np.ndarray:
    """A carrier of 0.5 to 5 ms."""
    return _carrier(np.full(_duration("tones", rate_hz, rng), _centre(rng)), rng)


def sweep(rate_hz: float, rng) -> np.ndarray:
    """A linear chirp across the occupied band, up or down, in 1 to 4 ms."""
    num = _duration("sweeps", rate_hz, rng)
    return _carrier(rng.choice([-1, 1]) * np.linspace(-HALF_BAND, HALF_BAND, num), rng)


def fm(rate_hz: float, rng) -> np.ndarray:
    """20 ms of a carrier with ±75 kHz of deviation (rms a third), modulated by noise below 15 kHz."""
    from scipy.signal import firwin, lfilter  # slow to import, and a sender does without

    num = _duration("fm", rate_hz, rng)
    taps = firwin(255, min(FM_AUDIO_HZ, 0.4 * rate_hz), fs=rate_hz)
    audio = lfilter(taps, 1, rng.standard_normal(num + taps.size))[taps.size :] / np.sqrt(np.sum(taps**2))
    deviation = FM_DEVIATION_HZ / rate_hz
    return _carrier(_centre(rng, deviation) + deviation * np.clip(audio / 3, -1, 1), rng)


def hop(rate_hz: float, rng) -> np.ndarray:
    """A slot of 625 µs of GFSK at 1 Mb/s, modulation index 0.32, BT 0.5, some 1 MHz wide."""
    num, sps = _duration("hops", rate_hz, rng), rate_hz / HOP_SYMBOL_RATE_HZ
    bits = rng.choice([-1.0, 1.0], math.ceil(num / sps) + 1)
    wave = bits[(np.arange(num) / sps).astype(int)]
    width = np.sqrt(np.log(2)) / (2 * np.pi * 0.5) * sps  # standard deviation of the Gaussian filter, samples
    reach = math.ceil(4 * width)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    wave = np.convolve(wave, taps / taps.sum(), "same")
    return _carrier(_centre(rng, 0.4e6 / rate_hz) + HOP_INDEX / 2 / sps * wave, rng)


def packet(rate_hz: float, rng) -> np.ndarray:
    """60 to 600 µs of a signal much wider than the band, as an OFDM packet of 20 MHz is: white and Gaussian here."""
    return _gaussian(_duration("packets", rate_hz, rng), rng)


def pulse(rate_hz: float, rng) -> np.ndarray:
    """A radar's pulse: a carrier of 2 to 10 µs."""
    return _carrier(np.full(_duration("pulses", rate_hz, rng), _centre(rng)), rng)


def sender(rate_hz: float, rng) -> np.ndarray:
    """A second sender of this program: a short burst of its own, at another carrier and time."""
    fmt = DEFAULT_FORMAT
    header = Header(int(rng.integers(1 << 32)), 0, SENDER_FRAMES, SENDER_SYMBOLS, 1)
    headers = [Header(header.burst_id, i, SENDER_FRAMES, SENDER_SYMBOLS, 1) for i in range(SENDER_FRAMES)]
    slots = qpsk(rng.integers(0, 2, (SENDER_FRAMES, 2 * SENDER_SYMBOLS * fmt.slots_per_symbol)))
    slots[:, fmt.header_symbols :] = _gaussian(slots[:, fmt.header_symbols :].size, rng).reshape(SENDER_FRAMES, -1)
    slots[:, : fmt.header_symbols] = control.encode_headers(headers, fmt)
    samples = ofdm.modulate(ofdm.fill_grid(slots.astype(np.complex64), fmt), fmt)
    assert samples.size == SENDER_FRAMES * frame_samples(header, fmt)
    return samples * _carrier(np.full(samples.size, rng.uniform(-0.04, 0.04)), rng)


KINDS = {
    "tones": tone,
    "sweeps": sweep,
    "fm": fm,
    "hops": hop,
    "packets": packet,
    "pulses": pulse,
    "sender": sender,
}


def _gaussian(num, rng):
    return np.float32(np.sqrt(0.5)) * rng.standard_normal(2 * num, dtype=np.float32).view(np.complex64)


def mean_samples(kind: str, rate_hz: float) -> float:
    """Mean length of a waveform."""
    if kind == "sender":
        return float(sender(rate_hz, np.random.default_rng(0)).size)
    return float(np.mean(DURATION_S[kind])) * rate_hz


class Interference:
    """Adds events (kind, sir_db, share): on for a share of the time, sir_db is signal over interference meanwhile."""

    def __init__(self, events, rate_hz: float, rng: np.random.Generator, signal_power: float = 1.0):
        rngs = rng.spawn(len(events))
        self._sources = [
            _Stream(_waveforms(kind, share, rate_hz, rng), np.float32(np.sqrt(signal_power / linear(sir_db))))
            for (kind, sir_db, share), rng in zip(events, rngs, strict=True)
        ]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        y = x.copy()
        for source in self._sources:
            source.add_to(y)
        return y


def _waveforms(kind, share, rate_hz, rng) -> Iterator[tuple[int, np.ndarray]]:
    """Gaps, in samples, each with the waveform after it, from a place that is typical of the process."""
    mean_gap = mean_samples(kind, rate_hz) * (1 - share) / share
    if rng.uniform() < share:  # on at the first sample
        first = KINDS[kind](rate_hz, rng)
        yield 0, first[rng.integers(first.size) :]
    while True:
        gap = round(rng.exponential(mean_gap))
        yield gap, KINDS[kind](rate_hz, rng)


class _Stream:
    """Gaps and waveforms in turn, added block by block."""

    def __init__(self, parts: Iterator[tuple[int, np.ndarray]], gain: np.float32):
        self._parts, self._gain = parts, gain
        self._gap, self._waveform = 0, np.empty(0, np.complex64)  # what is left of each

    def add_to(self, y: np.ndarray) -> None:
        """Add what follows to y (n,) complex64."""
        at = 0
        while at < y.size:
            if not self._gap and not self._waveform.size:
                self._gap, self._waveform = next(self._parts)
            silent = min(self._gap, y.size - at)
            self._gap -= silent
            at += silent
            count = min(self._waveform.size, y.size - at)
            y[at : at + count] += self._gain * self._waveform[:count]
            self._waveform = self._waveform[count:]
            at += count


class Tone:
    """Adds a steady carrier: its frequency in cycles/sample, its power."""

    def __init__(self, frequency: float, power: float):
        self._omega, self._gain, self._start = 2 * np.pi * frequency, np.complex64(np.sqrt(power)), 0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        y = x + cfo(np.full(x.size, self._gain), self._omega, self._start)
        self._start += x.size
        return y
