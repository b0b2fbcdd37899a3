"""From unit average power to a converter's full scale: the only home of the back-off and of the clip count."""

import numpy as np

from airnet_sdr.dsp.radio.config import BACKOFF_DB

NOMINAL_POWER = 10 ** (-BACKOFF_DB / 10)  # mean |x|² of a burst at a sink's output, full scale 1.0


def to_full_scale(samples: np.ndarray, backoff_db: float | None = BACKOFF_DB) -> tuple[np.ndarray, int]:
    """Scale samples of unit average power to an rms `backoff_db` below full scale 1.0 and clip I and Q each at ±1.

    Of the power, half is in each component: sigma = 10^(-backoff_db/20) / sqrt(2). At 12 dB sigma is 0.178 and full
    scale / sigma is 5.6; OFDM is near enough Gaussian, and 2·Q(5.6) clips one component in 5·10⁷. The price is
    converter range only: rounding to 12 bits (-2048…2047) leaves noise 1/(6·2²²), 62 dB below the signal.

    Takes complex64 (n,); None for `backoff_db` passes the samples as they are, unscaled and unclipped. Returns a new
    complex64 (n,), and the number of components that were clipped. NaN passes through: whoever makes samples checks.
    """
    if backoff_db is None:
        return np.array(samples, np.complex64), 0
    components = np.ascontiguousarray(samples, np.complex64).view(np.float32) * np.float32(10 ** (-backoff_db / 20))
    num_clipped = 0
    if components.size and not (components.max() <= 1 and components.min() >= -1):
        num_clipped = int(np.count_nonzero(np.abs(components) > 1))
        np.clip(components, -1, 1, out=components)
    return components.view(np.complex64), num_clipped
