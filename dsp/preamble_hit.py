"""The channel from a preamble of which a part of the band was hit: least squares over what fits.

Iteratively reweighted (Holland and Welsch 1977): the subcarriers of a cell count by the noise over the energy of the
cell's residual, the noise being that of the cells that fit best. The taps have a Gaussian prior of the channel's power,
so that a part of the band that says nothing does not let the rest run away.
"""

import functools

import numpy as np

from airnet_sdr.dsp.frame import FrameFormat

CELL = 8
TURNS = 6
QUIET = 0.3  # quantile of the cells' residuals taken for noise...
QUIET_SHARE = 0.79  # ...and what it is of the mean: of a gamma distribution of shape 8
STRONG = 3.0  # times the median energy: at the beginning, without a channel, such a cell counts less
FITS = 2.5  # times the noise: such a cell counts in full
FAINTEST, STIFFEST = 1e-30, 1e30  # power of a channel and weight of its prior, so that silence has none


@functools.lru_cache(maxsize=4)
def _cell_grams(fmt: FrameFormat, basis_of):
    """B^H·B over the subcarriers of each cell, B the widest basis: (cells, rank, rank) complex64."""
    basis = basis_of(fmt)[0].astype(np.complex64)
    by_cell = basis.reshape(-1, CELL, basis.shape[1])
    return np.einsum("ckr,cks->crs", by_cell.conj(), by_cell)


def channel_of_clean_cells(observed: np.ndarray, fmt: FrameFormat, basis_of) -> tuple[np.ndarray, float, int]:
    """Channel (num_active,) complex64, noise variance and index of the delay window, from y·x* of one preamble.

    ``basis_of`` gives the bases of all windows, see `estimate.window_bases`.
    """
    basis, adjoint, stacked, _, offsets = basis_of(fmt)
    grams = _cell_grams(fmt, basis_of)
    energy = np.sum(np.abs(observed.reshape(-1, CELL)) ** 2, axis=1)
    weight = np.minimum(1, STRONG * np.median(energy) / np.maximum(energy, 1e-30))
    noise, power = float(np.median(energy)) / CELL, float(np.median(energy)) / CELL
    best, h_hat = offsets.size - 2, None
    for turn in range(TURNS):
        gram = np.tensordot(weight.astype(np.float32), grams, axes=1)
        right = adjoint @ (observed * np.repeat(weight, CELL).astype(np.float32))
        candidates = []
        # the window is chosen at last: before, its noise is not known
        for w in range(offsets.size - 1) if turn == TURNS - 1 else [offsets.size - 2]:
            part = stacked[offsets[w] : offsets[w + 1]]
            rank = part.shape[0]
            ridge = min(noise * rank / max(power * fmt.num_active, FAINTEST), STIFFEST)
            inner = part @ gram @ part.conj().T + ridge * np.eye(rank, dtype=np.complex64)
            h = basis @ (part.conj().T @ np.linalg.solve(inner, part @ right))
            residual = np.sum(np.abs((observed - h).reshape(-1, CELL)) ** 2, axis=1)
            candidates.append((float(weight @ residual) + 2 * rank * noise, w, h, residual, rank))
        _, best, h_hat, residual, rank = min(candidates, key=lambda candidate: candidate[0])
        free = max(0.1, 1 - rank / max(CELL * float(weight.sum()), 1.0))  # of the residual's degrees of freedom
        noise = float(np.quantile(residual, QUIET)) / QUIET_SHARE / CELL / free
        noise = max(noise, 1e-6 * power)
        power = float(np.mean(np.abs(h_hat) ** 2))
        excess = residual / CELL / noise
        weight = np.where(excess < FITS, 1.0, 1 / np.maximum(excess, 1))
    return h_hat.astype(np.complex64), noise, best
