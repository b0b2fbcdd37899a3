"""Impairments at single samples: interference bursts, gain steps, drops, repeats, junk, cut recordings.

An event is a tuple that begins with ``at``, its first sample, counted at the impairment's own input. With ``every``
None each event happens once; with a number it recurs after ``at`` at exponentially distributed intervals of that mean
(a Poisson process), drawn from ``rng``.
"""

import heapq

import numpy as np

from airnet_sdr.dsp.units import linear


def _occurrences(events, every, rng):
    """The events (at, *rest), sorted by at."""
    if every is None:
        yield from sorted(events)
        return
    queue = [(event[0] + rng.exponential(every), k) for k, event in enumerate(events)]
    heapq.heapify(queue)
    while queue:
        at, k = queue[0]
        yield (int(at), *events[k][1:])
        heapq.heapreplace(queue, (at + rng.exponential(every), k))


class _Timeline:
    """The events of a stream, block by block."""

    def __init__(self, events, every, rng):
        self._source = _occurrences(tuple(events), every, rng)
        self._next = next(self._source, None)
        self._active = []
        self._start = 0

    def begun(self, num: int) -> list:
        """The events of the next num samples, with at counted from the first of them."""
        found = []
        while self._next is not None and self._next[0] < self._start + num:
            found.append((self._next[0] - self._start, *self._next[1:]))
            self._next = next(self._source, None)
        self._start += num
        return found

    def spans(self, num: int) -> list:
        """(first, stop, *rest) of the events (at, num_samples, *rest) that overlap the next num samples."""
        found = [(at, at + length, *rest) for at, length, *rest in self._active + self.begun(num)]
        self._active = [(first - num, stop - first, *rest) for first, stop, *rest in found if stop > num]
        return [(max(first, 0), min(stop, num), *rest) for first, stop, *rest in found]


class Bursts:
    """Interference: events (at, num_samples, level_db), white Gaussian noise of level_db over signal_power.

    Other waveforms and narrow bands are not modelled.
    """

    def __init__(self, events, rng: np.random.Generator, signal_power: float = 1.0, every: float | None = None):
        self._timeline = _Timeline(events, every, rng)
        self._rng, self._power = rng, signal_power

    def __call__(self, x: np.ndarray) -> np.ndarray:
        spans = self._timeline.spans(x.size)
        y = x.copy() if spans else x
        for first, stop, level_db in spans:
            noise = self._rng.standard_normal(2 * (stop - first), dtype=np.float32).view(np.complex64)
            y[first:stop] += np.float32(np.sqrt(self._power * linear(level_db) / 2)) * noise
        return y


class GainSteps:
    """AGC steps: events (at, gain_db), the gain from ``at`` on, 0 dB before. Steps are abrupt and keep the phase."""

    def __init__(self, events, rng: np.random.Generator, every: float | None = None):
        self._timeline = _Timeline(events, every, rng)
        self._gain = np.float32(1)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        y = x * self._gain
        for at, gain_db in self._timeline.begun(x.size):
            self._gain = np.float32(np.sqrt(linear(gain_db)))
            y[at:] = x[at:] * self._gain
        return y


class Drops:
    """Lost samples: events (at, num_samples), x[at : at + num_samples] is removed from the stream."""

    def __init__(self, events, rng: np.random.Generator, every: float | None = None):
        self._timeline = _Timeline(events, every, rng)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        spans = self._timeline.spans(x.size)
        return np.delete(x, np.r_[tuple(slice(first, stop) for first, stop in spans)]) if spans else x


class Repeats:
    """A stale buffer: events (at, num_samples), the num_samples before x[at] are repeated before x[at]."""

    def __init__(self, events, rng: np.random.Generator, every: float | None = None):
        self._timeline = _Timeline(events, every, rng)
        self._longest = max((num for _, num in events), default=0)
        self._past = np.zeros(0, dtype=np.complex64)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        seen = np.concatenate([self._past, x])
        pieces, begin = [], self._past.size
        for at, num in self._timeline.begun(x.size):
            stop = at + self._past.size
            pieces += [seen[begin:stop], seen[max(stop - num, 0) : stop]]
            begin = stop
        pieces.append(seen[begin:])
        self._past = seen[max(seen.size - self._longest, 0) :]
        return np.concatenate(pieces)


class Cut:
    """A cut recording: x[start:stop]; stop None keeps the end."""

    def __init__(self, start: int, stop: int | None = None):
        self._start, self._stop = start, stop

    def __call__(self, x: np.ndarray) -> np.ndarray:
        y = x[self._start : self._stop]
        self._start = max(self._start - x.size, 0)
        self._stop = None if self._stop is None else max(self._stop - x.size, 0)
        return y


def junk(num: int, full_scale: float, rng: np.random.Generator) -> np.ndarray:
    """Samples of a transmitter before its burst (urh#659): I and Q each uniform in ±full_scale; (num,) complex64."""
    return rng.uniform(-full_scale, full_scale, 2 * num).astype(np.float32).view(np.complex64)
