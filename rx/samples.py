"""Samples in memory as a source: an array or an iterable of blocks."""

import numpy as np

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.radio import Address, RadioConfig, Source


class ArraySource(Source):
    """Reads complex64 (n,), or the blocks of an iterable in turn."""

    def __init__(self, samples, config: RadioConfig = RadioConfig()):
        super().__init__(Address("samples", "in memory"), config)
        try:
            self._blocks = iter([samples] if isinstance(samples, np.ndarray) else samples)
        except TypeError as error:
            raise InputError(
                "samples must be an array, an iterable of arrays or a radio address, as file:PATH.sigmf-meta; "
                f"got {type(samples).__name__}"
            ) from error

    def _read(self, timeout_s):
        block = next(self._blocks, None)
        if block is None:
            return None
        block = np.asarray(block)
        if block.ndim != 1 or block.dtype.kind != "c":
            raise InputError(f"samples must be complex numbers (n,); got {block.dtype} {block.shape}")
        return np.ascontiguousarray(block, np.complex64)
