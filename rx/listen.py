"""Listening: samples in, bursts out, until enough bursts are complete or the timeout ends."""

import dataclasses
import time
from collections.abc import Callable, Iterator

import numpy as np

from airnet_sdr.dsp.burst import FrameReceiver
from airnet_sdr.dsp.errors import LinkError, RadioTimeoutError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat, Header, frame_samples
from airnet_sdr.dsp.radio import Source
from airnet_sdr.dsp.reception import ReceivedFrame
from airnet_sdr.dsp.sync import MAX_CFO
from airnet_sdr.models.seal import Seal
from airnet_sdr.rx.combine import BurstCombiner, same_carrier
from airnet_sdr.rx.config import ListenConfig

IDLE_S = 1.0  # a complete burst is reported after this long without samples...
SILENT_FRAMES = 1.5  # ...or after this many frame lengths without a frame
MAX_BURSTS = 16  # kept at a time
OVER_FRAMES = 64  # frame lengths after which a burst that is not heard is over: senders may take turns
HEAD_START_S, SEARCH_SHARE = 1.0, 0.5  # of attempts to decode what does not decode
MAX_SENDERS = 4  # of one header that are told apart
MAX_BYTES = 4 << 30  # for the symbols of all bursts
MAX_LOSSES = 10_000  # losses of samples that are remembered


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
        self.accepted: Seal | None = None  # of the sealed burst that was received last
        self.num_ignored = 0  # frames dropped for lack of memory
        self.bursts: dict[Header, BurstCombiner] = {}
        self.current: BurstCombiner | None = None  # the burst of the last frame
        self.last: ReceivedFrame | None = None
        self.on_frame: Callable[[ReceivedFrame], None] = lambda frame: None  # called with every frame
        self.seconds = 0.0  # processing time so far...
        self.search_seconds = 0.0  # ...and that of manifests that did not decode

    def push(self, samples: np.ndarray) -> int:
        """Process the next samples; returns the number of frames found."""
        return self._timed(self.receiver.push, samples)

    def finish(self) -> int:
        """Process the end of the stream; returns the number of frames found in it."""
        return self._timed(self.receiver.finish)

    def _timed(self, find, *samples) -> int:
        started = time.perf_counter()
        num_found = self._collect(find(*samples))
        del self.receiver.losses[:-MAX_LOSSES]
        self.seconds += time.perf_counter() - started
        return num_found

    def _collect(self, frames: list[ReceivedFrame]) -> int:
        """Add the frames to their bursts, those that follow one another of one sender together."""
        together: dict[int, ReceivedFrame] = {}  # by their frame numbers
        sender = last = None
        for frame in frames:
            if together and (frame.header.frame in together or not self._continues(sender, last, frame)):
                self._add(sender, list(together.values()))
                together = {}
            if not together:
                sender = self._sender(frame)
            together[frame.header.frame] = last = frame
        if together:
            self._add(sender, list(together.values()))
        return len(frames)

    def _sender(self, frame: ReceivedFrame) -> Header:
        """The key of the burst that the frame belongs to: of several senders with one header, by its frame number."""
        for number in range(MAX_SENDERS):
            key = dataclasses.replace(frame.header, frame=number)
            if key not in self.bursts or self.bursts[key].agrees(frame):
                break
        return key

    def _continues(self, sender: Header, last: ReceivedFrame, frame: ReceivedFrame) -> bool:
        """Whether a frame is of the sender of the ``last`` one, which is not in its burst yet."""
        if not frame.header.same_burst(sender) or not same_carrier(frame, last, self.receiver.fmt):
            return False
        return sender not in self.bursts or self.bursts[sender].agrees(frame)

    def _add(self, key: Header, frames: list[ReceivedFrame]) -> None:
        burst = self._burst(key, frames)
        self.last = frames[-1]
        if burst is None:
            self.num_ignored += len(frames)
            return
        self.current = burst
        burst.add(*frames)
        for frame in frames:
            self.on_frame(frame)

    def _burst(self, key: Header, frames: list[ReceivedFrame]) -> BurstCombiner | None:
        """The burst of that key, new or known; None where there is no memory for these frames of it."""
        if key not in self.bursts:
            if len(self.bursts) == MAX_BURSTS:
                self._forget(list(self.bursts), frames[-1])
            try:
                self.bursts[key] = BurstCombiner(key, self.receiver.fmt, self.receiver.run)
            except LinkError:
                return None
        burst = self.bursts[key] = self.bursts.pop(key)  # they are in the order in which they were last heard
        while self.num_bytes - burst.num_bytes() + burst.num_bytes(*frames) > self.max_bytes:
            others = [other for other in self.bursts if other != key]
            if not others:
                return None
            self._forget(others, frames[-1])
        return burst

    @property
    def num_bytes(self) -> int:
        """Memory of the symbols of all bursts."""
        return sum(burst.num_bytes() for burst in self.bursts.values())

    def _forget(self, keys: list[Header], now: ReceivedFrame) -> None:
        """Drop one of these bursts, which are in the order in which they were last heard.

        One of a single frame first, then one that is over, at last the one of fewest frames: neither a stray frame nor
        those who send many headers cost a burst that is on the air.
        """

        def worth(key):
            burst = self.bursts[key]
            if burst.num_received <= 1:
                return False, False, 0
            length = frame_samples(burst.header, self.receiver.fmt)
            heard = now.start - burst.latest.start < OVER_FRAMES * length
            return True, heard, burst.num_received if heard else 0

        del self.bursts[min(keys, key=worth)]

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
        return [burst for burst in self.bursts.values() if self.is_decoded(burst)]

    def is_decoded(self, burst: BurstCombiner | None) -> bool:
        """Whether a burst is complete and its manifest decoded, be its content valid or not.

        List decoding of what does not decode is bounded, whatever arrives: to `SEARCH_SHARE` of the time that the
        signal processing took. Beyond, manifests are decoded quickly alone, which strong signals bear.
        """
        if burst is None or burst.refused or not burst.complete:
            return False
        started = time.perf_counter()
        thorough = self.search_seconds < HEAD_START_S + SEARCH_SHARE * self.seconds
        try:
            decoded = burst.manifest(thorough=thorough) is not None
        except LinkError:  # whoever rebuilds the burst meets it again, and refuses the burst
            return True
        if not decoded:
            self.search_seconds += time.perf_counter() - started
        return decoded

    def ready(self, cycles: int = 1, idle: bool = False) -> list[BurstCombiner]:
        """The bursts of `decoded` that are over: another burst or silence has followed, the stream is ``idle``, or they
        were received ``cycles`` times."""
        over = idle or self.silent_frames > SILENT_FRAMES
        return [burst for burst in self.decoded() if over or burst is not self.current or burst.whole_cycles >= cycles]

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
    yielded again; one whose evaluation was in vain (`BurstCombiner.note_failure`) is after as many frames as a cycle
    has, and at the end. Raises RadioTimeoutError if no sample comes within ``timeout_s``.
    """
    quiet_since = time.monotonic()
    while True:
        waiting = not listener.is_decoded(listener.current)
        try:
            block = source.read(config.timeout_s if waiting else min(IDLE_S, config.timeout_s))
        except RadioTimeoutError:
            if listener.receiver.num_samples == 0:
                raise
            ready = [] if config.follow else listener.ready(idle=True)
            yield from _due(ready)
            if time.monotonic() - quiet_since < config.timeout_s and (config.follow or ready):
                continue
            break
        if block is None:
            break
        if listener.push(block):
            quiet_since = time.monotonic()
        ready = listener.decoded() if config.follow else listener.ready(config.cycles)
        yield from _due(ready)
        if time.monotonic() - quiet_since > config.timeout_s:
            break
    listener.finish()
    left = [burst for burst in listener.ranked() if not burst.reported]
    yield from [burst for burst in listener.ranked() if burst.num_since_failure]
    yield from left[:1] if config.follow else left


def _due(bursts: list[BurstCombiner]) -> Iterator[BurstCombiner]:
    """The bursts that are new or have a new cycle, or a cycle's worth of frames since their evaluation was in vain."""
    for burst in bursts:
        cycles, worth = burst.whole_cycles, burst.num_since_failure >= burst.header.num_frames
        if not burst.refused and (worth or cycles != burst.reported):
            burst.reported, burst.failed = cycles, 0
            yield burst
