"""The laws by which receivers' SNRs are distributed, and what a curve of accuracy against SNR comes to under them.

Fading is flat and constant over a transmission, so a receiver's accuracy is the curve's value at its SNR, and every
number is an integral over the curve, not a mean over a few gains.
"""

import dataclasses

import numpy as np

from airnet_sdr.dsp.units import linear

SNR_DB = np.arange(-30.0, 40.01, 0.25)  # the grid of the integrals
CHANCE = 10.0  # percent, of a receiver without a network


@dataclasses.dataclass(frozen=True, eq=False)
class Law:
    """Probabilities of the points of `SNR_DB`, and the share of receivers that the worst case leaves out."""

    name: str
    weights: np.ndarray
    left_out: float

    def mean(self, curve: np.ndarray) -> float:
        """Mean accuracy of a curve over `SNR_DB`."""
        return float(self.weights @ curve)

    def quantile(self, curve: np.ndarray, share: float) -> float:
        """The accuracy that ``share`` of the receivers do not exceed."""
        reached = np.flatnonzero(self.weights)
        order = reached[np.argsort(curve[reached], kind="stable")]
        total = np.cumsum(self.weights[order])
        return float(curve[order[np.searchsorted(total, share, side="right").clip(max=len(order) - 1)]])

    def summary(self, curve: np.ndarray) -> dict[str, float]:
        """Mean, 5 % quantile and worst case of a curve."""
        return {"mean": self.mean(curve), "p05": self.quantile(curve, 0.05), "worst": self.worst(curve)}

    @property
    def is_known(self) -> bool:
        """Whether all receivers have one SNR."""
        return np.count_nonzero(self.weights) == 1

    @property
    def worst_point(self) -> int:
        """The point of `SNR_DB` that the worst case is at, of a curve that rises."""
        if self.left_out == 0:
            return int(np.flatnonzero(self.weights)[0])
        return int(np.searchsorted(np.cumsum(self.weights), self.left_out))

    def worst(self, curve: np.ndarray) -> float:
        """The lowest accuracy on the law's SNRs; of unbounded laws, at the SNR that 1 % of receivers are below."""
        return float(curve[self.weights > 0].min() if self.left_out == 0 else curve[self.worst_point])


def uniform(low_db: float, high_db: float) -> Law:
    """Uniform in dB."""
    inside = ((SNR_DB >= low_db) & (SNR_DB <= high_db)).astype(float)
    return Law("uniform", inside / inside.sum(), 0.0)


def rayleigh(mean_db: float) -> Law:
    """Exponential of this mean, the SNR under Rayleigh fading."""
    edges = np.concatenate([[0.0], linear((SNR_DB[1:] + SNR_DB[:-1]) / 2), [np.inf]])
    return Law(f"rayleigh{mean_db:g}", -np.diff(np.exp(-edges / linear(mean_db))), 0.01)


def known(snr_db: float) -> Law:
    """One SNR, which is known when the transmission is planned."""
    return Law(f"known{snr_db:g}", (SNR_DB == snr_db).astype(float), 0.0)


LAWS = {law.name: law for law in (uniform(-5, 20), rayleigh(10), rayleigh(15))}
KNOWN = {snr_db: known(snr_db) for snr_db in (-5, 0, 5, 10, 15, 20)}
