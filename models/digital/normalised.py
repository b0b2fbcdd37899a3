"""Weights that a quantised network divides by their own norm, which may therefore not all become 0.

Weight norm (Salimans and Kingma, arXiv 1602.07868) divides each channel of a tensor by its norm, spectral norm (Miyato
et al., arXiv 1802.05957) a whole tensor by its largest singular value. With coarse steps all of a small channel is 0,
and the network answers 0/0. PyTorch keeps both under names of their own, by which they are known here, those of
`torch.nn.utils.parametrizations` and of the functions before them.
"""

import re
from collections.abc import Iterator, Mapping

import numpy as np

from airnet_sdr.models.packing import real_view

_WEIGHT_NORM = (  # and the norms
    (r"(.*\bparametrizations\..+\.original)1", (r"\g<1>0",)),
    ("(.*)_v", (r"\g<1>_g",)),
)
_SPECTRAL_NORM = (  # and the two singular vectors
    (r"(.*\bparametrizations\..+)\.original", (r"\g<1>.0._u", r"\g<1>.0._v")),
    ("(.*)_orig", (r"\g<1>_u", r"\g<1>_v")),
)


def anchors(tensors: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Of each of the named tensors the indices (A,) int64 into `packing.real_view` of it, flat, of weights that
    quantising must leave other than 0: the largest of what is divided by its norm, and none of other tensors."""
    found = {name: np.zeros(0, np.int64) for name in tensors}
    for name, tensor in tensors.items():
        if not tensor.size:
            continue
        for (norms,) in _partners(name, _WEIGHT_NORM, tensors):
            if tensors[norms].ndim in (0, tensor.ndim):
                found[name] = _largest(real_view(tensor), [k for k, n in enumerate(tensors[norms].shape) if n > 1])
        for u, v in _partners(name, _SPECTRAL_NORM, tensors):
            terms = _terms(real_view(tensor), real_view(tensors[u]), real_view(tensors[v]))
            for key, indices in zip((name, u, v), zip(*terms, strict=True), strict=False):
                found[key] = np.unique(indices)
    return list(found.values())


def _partners(name: str, patterns, tensors: Mapping[str, np.ndarray]) -> Iterator[list[str]]:
    """The tensors that one of this name comes with."""
    for pattern, partners in patterns:
        if match := re.fullmatch(pattern, name):
            names = [match.expand(partner) for partner in partners]
            if all(each in tensors for each in names):
                yield names


def _largest(weights: np.ndarray, apart: list[int]) -> np.ndarray:
    """Flat indices of the largest weight at each place along the axes ``apart``."""
    index = np.moveaxis(np.arange(weights.size).reshape(weights.shape), apart, range(len(apart)))
    rows = index.reshape(int(np.prod(index.shape[: len(apart)])), -1)
    return rows[np.arange(len(rows)), np.abs(weights).reshape(-1)[rows].argmax(axis=1)]


def _terms(weights: np.ndarray, u: np.ndarray, v: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Flat indices of the largest term of u·W·v, the singular value, for every axis that the rows of W may be."""
    for axis, size in enumerate(weights.shape):
        index = np.moveaxis(np.arange(weights.size).reshape(weights.shape), axis, 0).reshape(size, -1)
        if index.shape == (u.size, v.size):
            row, column = divmod(
                int(np.abs(u.reshape(-1, 1) * weights.reshape(-1)[index] * v.reshape(-1)).argmax()), v.size
            )
            yield int(index[row, column]), row, column
