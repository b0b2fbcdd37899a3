"""A band as somebody recorded it: any SigMF recording as the background, at the rate of the link."""

from fractions import Fraction

import numpy as np

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.radio import RadioConfig, open_source

MAX_SAMPLES = 1 << 25  # of the recording and at the link's rate: 256 MiB


def read_recording(path: str, rate_hz: float) -> np.ndarray:
    """The recording's samples (n,) complex64, resampled to rate_hz; of a long one the first 2^25."""
    with open_source(f"file:{path}", RadioConfig(rate_hz=rate_hz)) as source:
        blocks, total = [], 0
        ratio = Fraction(rate_hz / source.rate_hz).limit_denominator(1000)
        if not 1e-3 < ratio < 1e3:
            raise InputError(f"background {path} has {source.rate_hz:g} samples a second: too far from {rate_hz:g}")
        most = int(MAX_SAMPLES / max(1.0, float(ratio)))
        while total < most and (block := source.read()) is not None:
            blocks.append(block[: most - total])
            total += blocks[-1].size
    samples = np.concatenate(blocks)
    if not samples.any():
        raise InputError(f"background {path} is silent: its {samples.size} samples are 0")
    if ratio == 1:
        return samples
    from scipy.signal import resample_poly  # slow to import, and a sender does without

    return resample_poly(samples, ratio.numerator, ratio.denominator).astype(np.complex64)


class Recorded:
    """Adds a recording (n,) complex64, over and over from a place drawn, at a mean power."""

    def __init__(self, recording: np.ndarray, mean_power: float, rng: np.random.Generator):
        power = float(np.mean(np.abs(recording) ** 2, dtype=np.float64))
        self._recording = recording * np.float32(np.sqrt(mean_power / power))
        self._at = int(rng.integers(recording.size))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        places = (self._at + np.arange(x.size)) % self._recording.size
        self._at = (self._at + x.size) % self._recording.size
        return x + self._recording[places]
