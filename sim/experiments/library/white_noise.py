"""The payload without its waveform: every symbol in white noise equivalent to the receiver's.

Preambles and pilots are omitted, but the loss by estimation from them is modelled. The error e of the channel estimate
is a factor 1 + e on a symbol, so symbols of more power lose more; noise taken for signal is equal on all:

    y = (1 + e) x + n,   Var e = a/S,   Var n = (1 + b/S) / S.

With P pilots a would be 1/P (`dsp.theory.channel_estimation_loss`); both were measured on tensors of different powers
over the whole link, at -5 to 20 dB: at unit power they cost 0.17 dB at -5 dB, 0.09 at 0, 0.06 from 10 on.
`sim/experiments/methods.py --link` compares the accuracy of both ways.
"""

from collections.abc import Callable

import numpy as np

from airnet_sdr.tx.burst import Burst

ESTIMATE_ERROR, ADDED_NOISE = 0.0132, 0.0085  # a and b


class WhiteNoise:
    """A burst's payload, received at linear SNR `snr` per symbol: `SoftSymbols` in place of a combiner's."""

    run: Callable = map

    def __init__(self, burst: Burst, snr: float, seed: int):
        rng = np.random.default_rng(seed)
        error, noise = (
            rng.standard_normal((burst.stream.size, 2), dtype=np.float32).view(np.complex64)[:, 0] for _ in range(2)
        )
        error *= np.float32(np.sqrt(ESTIMATE_ERROR / snr / 2))
        noise *= np.float32(np.sqrt((1 + ADDED_NOISE / snr) * snr / 2))
        self._matched = np.float32(snr) * (1 + error) * burst.stream + noise
        self._inv_noise_var = np.float32(snr)

    @property
    def capacity(self) -> int:
        """Payload symbols received."""
        return self._matched.size

    @property
    def symbols_received(self) -> int:
        """All payload symbols."""
        return self.capacity

    def soft(self, start: int, num: int) -> tuple[np.ndarray, np.ndarray]:
        """From ``start``, equalised symbols over noise_var (num,) complex64, and 1/noise_var (num,) float32."""
        return self._matched[start : start + num], np.full(num, self._inv_noise_var, np.float32)
