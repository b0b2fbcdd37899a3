"""The payload without its waveform: every symbol in white noise of known variance, as the receiver would have it.

What is left out are preambles, pilots and everything estimated from them: the implementation loss, some 0.1 dB
(`python sim/bench.py --only loss`). `sim/methods.py --link` shows how close the two are.
"""

import numpy as np

from tx.pipeline import Burst


class WhiteNoise:
    """A burst's payload, received at linear SNR `snr` per symbol: what `rx.pipeline.rebuild` needs of a combiner."""

    run = map

    def __init__(self, burst: Burst, snr: float, seed: int):
        rng = np.random.default_rng(seed)
        noise = rng.standard_normal((burst.stream.size, 2), dtype=np.float32).view(np.complex64)[:, 0]
        self._statistic = np.float32(snr) * burst.stream + np.float32(np.sqrt(snr / 2)) * noise
        self._information = np.float32(snr)

    @property
    def capacity(self) -> int:
        """Payload symbols that were received."""
        return self._statistic.size

    def soft(self, start: int, num: int) -> tuple[np.ndarray, np.ndarray]:
        """Matched-filter statistic and information (num,) of the payload stream from ``start``."""
        return self._statistic[start : start + num], np.full(num, self._information, np.float32)
