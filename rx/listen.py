"""Listening: samples in, bursts out, until enough bursts are complete or the timeout ends."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from airnet_sdr.dsp.burst import FrameReceiver
from airnet_sdr.dsp.errors import LinkError, RadioTimeoutError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat, Header, frame_samples
from airnet_sdr.dsp.radio import Source
from airnet_sdr.dsp.reception import ReceivedFrame
from airnet_sdr.dsp.sync import MAX_CFO
from airnet_sdr.rx.combine import BurstCombiner
from airnet_sdr.rx.config import ListenConfig

IDLE_S = 1.0  # a complete burst is reported after this long without samples...
SILENT_FRAMES = 1.5  # ...or after this many frame lengths without a frame
MAX_BURSTS = 16  # kept at a time; a further one replaces the one with the fewest frames
MAX_BYTES = 4 << 30  # for the symbols of all bursts


class Listener:
    """Sorts the frames of a stream by burst and detects the end of a burst."""

    def __init__(
        self,
        fmt: FrameFormat = DEFAULT_FORMAT,
        max_cfo: float = MAX_CFO,
        num_threads: int = 1,
        max_bytes: int = MAX_BYTES,
    ):
        self.receiver = FrameReceiver(fmt, max_cfo, num_threads)
        self.max_bytes = max_bytes  # for the symbols of all bursts
        self.num_ignored = 0  # frames dropped for lack of memory
        self.bursts: dict[Header, BurstCombiner] = {}
        self.current: BurstCombiner | None = None  # the burst of the last frame
        self.last: ReceivedFrame | None = None
        self.on_frame: Callable[[ReceivedFrame], None] = lambda frame: None  # called with every frame
        self.seconds = 0.0  # processing time so far

    def push(self, samples: np.ndarray) -> int:
        """Process the next samples; returns the number of frames found."""
        return self._timed(self.receiver.push, samples)

    def finish(self) -> int:
        """Process the end of the stream; returns the number of frames found in it."""
        return self._timed(self.receiver.finish)

    def _timed(self, find, *samples) -> int:
        started = time.perf_counter()
        num_found = self._collect(find(*samples))
        self.seconds += time.perf_counter() - started
        return num_found

    def _collect(self, frames: list[ReceivedFrame]) -> int:
        for key, group in itertools.groupby(frames, lambda frame: frame.header.burst_key):
            of_burst = list(group)
            burst = self._burst(key, of_burst)
            self.last = of_burst[-1]
            if burst is None:
                self.num_ignored += len(of_burst)
                continue
            self.current = burst
            burst.add(*of_burst)
            for frame in of_burst:
                self.on_frame(frame)
        return len(frames)

    def _burst(self, key: Header, frames: list[ReceivedFrame]) -> BurstCombiner | None:
        """The burst of that key, new or known; None where there is no memory for these frames of it.

        Bursts of few frames are forgotten first.
        """
        if key not in self.bursts:
            if len(self.bursts) == MAX_BURSTS:
                self._forget(self.bursts)
            try:
                self.bursts[key] = BurstCombiner(key, self.receiver.fmt, self.receiver.run)
            except LinkError:
                return None
        burst = self.bursts[key]
        while self.num_bytes - burst.num_bytes() + burst.num_bytes(*frames) > self.max_bytes:
            others = self.bursts.keys() - {key}
            if not others:
                return None
            self._forget(others)
        return burst

    @property
    def num_bytes(self) -> int:
        """Memory of the symbols of all bursts."""
        return sum(burst.num_bytes() for burst in self.bursts.values())

    def _forget(self, keys: Iterable[Header]) -> None:
        """Drop the burst with the fewest frames, complete ones last."""
        del self.bursts[min(keys, key=lambda key: (self.bursts[key].complete, self.bursts[key].num_received))]

    def ranked(self) -> list[BurstCombiner]:
        """The bursts not refused, best first: complete ones, then those with most frames."""
        bursts = [burst for burst in self.bursts.values() if not burst.refused]
        return sorted(bursts, key=lambda burst: (burst.complete, burst.num_received), reverse=True)

    @property
    def best(self) -> BurstCombiner | None:
        """The first of `ranked`, None if nothing was received."""
        return next(iter(self.ranked()), None)

    def decoded(self) -> list[BurstCombiner]:
        """The complete bursts with a decoded manifest."""
        return [burst for burst in self.bursts.values() if _decoded(burst)]

    def ready(self, cycles: int = 1, idle: bool = False) -> list[BurstCombiner]:
        """The bursts of `decoded` that are over: another burst or silence has followed, the stream is ``idle``, or they
        were received ``cycles`` times."""
        over = idle or self.silent_frames > SILENT_FRAMES
        return [
            burst
            for burst in self.decoded()
            if over or burst is not self.current or min(burst.receptions.values()) >= cycles
        ]

    @property
    def silent_frames(self) -> float:
        """Frame lengths since the end of the last frame."""
        if self.last is None:
            return 0.0
        length = frame_samples(self.last.header, self.receiver.fmt)
        return (self.receiver.num_samples - self.last.start) / length - 1


def listen(source: Source, listener: Listener, config: ListenConfig) -> Iterator[BurstCombiner]:
    """Feed the listener from the source; yields bursts to report.

    Complete bursts are yielded when over, with ``follow`` at each new cycle. At the end of the stream, or after
    ``timeout_s`` without a frame, the others follow, best first. A burst that the caller marks ``refused`` is not
    yielded again. Raises RadioTimeoutError if no sample comes within ``timeout_s``.
    """
    quiet_since = time.monotonic()
    reported: dict[Header, int] = {}
    while True:
        waiting = not _decoded(listener.current)
        try:
            block = source.read(config.timeout_s if waiting else min(IDLE_S, config.timeout_s))
        except RadioTimeoutError:
            if listener.receiver.num_samples == 0:
                raise
            ready = [] if config.follow else listener.ready(idle=True)
            yield from _reported(ready, reported)
            if time.monotonic() - quiet_since < config.timeout_s and (config.follow or ready):
                continue
            break
        if block is None:
            break
        if listener.push(block):
            quiet_since = time.monotonic()
        ready = listener.decoded() if config.follow else listener.ready(config.cycles)
        yield from _reported(ready, reported)
        if time.monotonic() - quiet_since > config.timeout_s:
            break
    listener.finish()
    left = [burst for burst in listener.ranked() if burst.header not in reported]
    yield from left[:1] if config.follow else left


def _reported(bursts: list[BurstCombiner], reported: dict[Header, int]) -> Iterator[BurstCombiner]:
    """The bursts that are new or have a new cycle."""
    for burst in bursts:
        cycles = min(burst.receptions.values())
        if not burst.refused and cycles > reported.get(burst.header, 0):
            reported[burst.header] = cycles
            yield burst


def _decoded(burst: BurstCombiner | None) -> bool:
    """Whether a burst is complete and its manifest decoded, be its content valid or not."""
    if burst is None or burst.refused or not burst.complete:
        return False
    try:
        return burst.manifest() is not None
    except LinkError:  # whoever rebuilds the burst meets it again, and refuses the burst
        return True
