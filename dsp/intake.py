"""A stream's samples as the receiver takes them: in whole blocks, numbers alone, cleaned of pulses and tones."""

from collections.abc import Callable

import numpy as np

from airnet_sdr.dsp.blanking import BLOCK
from airnet_sdr.dsp.excision import clean_blocks

TAKEN = 256 * BLOCK  # samples taken by one thread at a time


class Intake:
    """Samples that came and wait until they are `size` enough to be taken.

    ``run`` maps a function over parts of the work, `map` or an executor's.
    """

    def __init__(self, run: Callable = map):
        self.run = run
        self.size = 0
        self.num_not_finite = 0  # of the samples taken, which count as 0
        self._blocks: list[np.ndarray] = []

    def push(self, samples: np.ndarray) -> None:
        """The next samples (n,) complex64, contiguous; `keep` before their array is used again."""
        self._blocks.append(samples)
        self.size += samples.size

    def keep(self) -> None:
        """Copy the samples of the last `push`, as the caller may reuse its array."""
        self._blocks[-1] = self._blocks[-1].copy()

    def take(self, buffer: np.ndarray, whole: bool) -> np.ndarray:
        """The buffer (n,) complex64 and behind it what has come, in a new array: all of it with ``whole``, else whole
        blocks, which begin at multiples of BLOCK from the stream's first sample. The rest is kept."""
        num = self.size if whole else self.size // BLOCK * BLOCK
        samples = np.empty(buffer.size + num, np.complex64)
        samples[: buffer.size] = buffer
        new = samples[buffer.size :]

        def fill(first):
            part = new[first : first + TAKEN]
            self._copy(first, part)
            return clean_blocks(part)

        self.num_not_finite += sum(self.run(fill, range(0, num, TAKEN)))
        rest = np.empty(self.size - num, np.complex64)
        self._copy(num, rest)
        self._blocks, self.size = [rest], rest.size
        return samples

    def _copy(self, first: int, part: np.ndarray) -> None:
        """The waiting samples from the one numbered ``first`` on."""
        stop, start = first + part.size, 0
        for block in self._blocks:
            begin, end = max(first, start), min(stop, start + block.size)
            if begin < end:
                part[begin - first : end - first] = block[begin - start : end - start]
            start += block.size
