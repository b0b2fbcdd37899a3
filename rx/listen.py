"""Listening: samples in, bursts out, until the bursts that were asked for are complete or patience ends."""

import itertools
import time
from collections.abc import Callable, Iterator

import numpy as np

from airnet_sdr.dsp.burst import FrameReceiver
from airnet_sdr.dsp.errors import RadioTimeoutError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat, Header, frame_samples
from airnet_sdr.dsp.radio import Source
from airnet_sdr.dsp.reception import ReceivedFrame
from airnet_sdr.dsp.sync import MAX_CFO
from airnet_sdr.rx.combine import BurstCombiner
from airnet_sdr.rx.config import ListenConfig

IDLE_S = 1.0  # a complete burst is reported once no samples have come for this long...
SILENT_FRAMES = 1.5  # ...or no frame in this many frame lengths of samples
MAX_BURSTS = 16  # remembered at a time; beyond, the one with the fewest frames is forgotten


class Listener:
    """Samples in, bursts out: sorts the frames of a stream by burst and knows when a burst is over."""

    def __init__(self, fmt: FrameFormat = DEFAULT_FORMAT, max_cfo: float = MAX_CFO, num_threads: int = 1):
        self.receiver = FrameReceiver(fmt, max_cfo, num_threads)
        self.bursts: dict[Header, BurstCombiner] = {}
        self.current: BurstCombiner | None = None  # the burst that the last frame belongs to
        self.last: ReceivedFrame | None = None
        self.on_frame: Callable[[ReceivedFrame], None] = lambda frame: None  # told of every frame
        self.seconds = 0.0  # of work so far

    def push(self, samples: np.ndarray) -> int:
        """Take the next samples; the number of frames found."""
        return self._timed(self.receiver.push, samples)

    def finish(self) -> int:
        """The stream has ended; the number of frames found in its rest."""
        return self._timed(self.receiver.finish)

    def _timed(self, find, *samples) -> int:
        started = time.perf_counter()
        num_found = self._collect(find(*samples))
        self.seconds += time.perf_counter() - started
        return num_found

    def _collect(self, frames: list[ReceivedFrame]) -> int:
        for key, of_burst in itertools.groupby(frames, lambda frame: BurstCombiner.key(frame.header)):
            of_burst = list(of_burst)
            self.current = self._burst(key)
            self.current.add(*of_burst)
            for frame in of_burst:
                self.on_frame(frame)
            self.last = of_burst[-1]
        return len(frames)

    def _burst(self, key: Header) -> BurstCombiner:
        """The burst of that key, new or known."""
        if key not in self.bursts:
            if len(self.bursts) == MAX_BURSTS:
                del self.bursts[min(self.bursts, key=lambda k: self.bursts[k].num_received)]
            self.bursts[key] = BurstCombiner(key, self.receiver.fmt, self.receiver.run)
        return self.bursts[key]

    @property
    def best(self) -> BurstCombiner | None:
        """The burst with the most frames."""
        return max(self.bursts.values(), key=lambda burst: burst.num_received, default=None)

    @property
    def silent_frames(self) -> float:
        """Frame lengths since the end of the last frame."""
        if self.last is None:
            return 0.0
        length = frame_samples(self.last.header, self.receiver.fmt)
        return (self.receiver.num_samples - self.last.start) / length - 1


def listen(source: Source, listener: Listener, config: ListenConfig) -> Iterator[BurstCombiner | None]:
    """Feed the listener; yields each burst to report: one at the end, and with ``follow`` one at each new cycle.

    None stands for no burst at all. Raises RadioTimeoutError when no sample comes within ``timeout_s``.
    """
    quiet_since = time.monotonic()
    reported: dict = {}
    while True:
        waiting = not _complete(listener.current)
        try:
            block = source.read(config.timeout_s if waiting else min(IDLE_S, config.timeout_s))
        except RadioTimeoutError:
            if listener.receiver.num_samples == 0:
                raise
            if config.follow and time.monotonic() - quiet_since < config.timeout_s:
                continue
            break
        if block is None:
            break
        if listener.push(block):
            quiet_since = time.monotonic()
        burst = listener.current
        if config.follow:
            if _complete(burst) and min(burst.receptions.values()) > reported.get(burst.header, 0):
                reported[burst.header] = min(burst.receptions.values())
                yield burst
        elif _complete(burst) and (
            listener.silent_frames > SILENT_FRAMES or min(burst.receptions.values()) >= config.cycles
        ):
            break
        if time.monotonic() - quiet_since > config.timeout_s:
            break
    listener.finish()
    burst = listener.best
    if not config.follow or burst is None or burst.header not in reported:
        yield burst


def _complete(burst: BurstCombiner | None) -> bool:
    return burst is not None and burst.complete and burst.manifest() is not None
