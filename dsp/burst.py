"""From a stream of samples to demodulated frames: the receiver's synchronisation, frame by frame.

Frames of a burst follow each other without a gap, so after one frame the next preamble is looked for where it must be;
only where it is not, everything since the last preamble is searched.
"""

import dataclasses
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from airnet_sdr.dsp.bridge import bridge
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, VERSION, FrameFormat, control_slots, frame_samples
from airnet_sdr.dsp.intake import Intake
from airnet_sdr.dsp.losses import Loss, find_loss
from airnet_sdr.dsp.reception import (
    ReceivedFrame,
    header_symbols,
    open_frames,
    read_backwards,
    read_frames,
    read_headers,
)
from airnet_sdr.dsp.sync import MAX_CFO, PreambleDetector

SCAN_SAMPLES, MOST_SCANNED = 1 << 18, 1 << 20  # at a time, after a frame and after a while without one
MIN_WORK = 1 << 13  # samples worth searching
FIRST_BATCH, LARGEST_BATCH = 4, 256  # frames expected from a lock...
BATCH_SAMPLES = 1 << 21  # ...as long as no more samples than these
GROUP_SAMPLES = 1 << 19  # received by one thread at a time: more leave the cache, fewer wait for the interpreter
SAME_CARRIER = 0.5  # rad an OFDM symbol: what is left is well within what tracking searches
MAX_BACK = 2  # frames before the first that was found
HIT_PREAMBLE = 2.0  # times the noise of the preamble before
MARGIN = 64  # samples that the window of a frame may move
WAIT = "wait"


@dataclasses.dataclass(frozen=True)
class Lock:
    """A frame that ``batch`` others are expected to follow without a gap, with a clock offset near ``sco``."""

    frame: ReceivedFrame
    sco: float
    batch: int


class FrameReceiver:
    """Turns blocks of samples of any length into `ReceivedFrame`s; memory is bounded by two frames and a scan block."""

    def __init__(self, fmt: FrameFormat = DEFAULT_FORMAT, max_cfo: float = MAX_CFO, num_threads: int = 1):
        self.fmt = fmt
        self.detector = PreambleDetector(fmt, max_cfo)
        self.num_samples = 0
        self.other_versions: set[int] = set()
        self.losses: list[Loss] = []
        self.run = ThreadPoolExecutor(num_threads).map if num_threads > 1 else map
        self._intake = Intake(self.run)
        self._buffer = np.empty(0, np.complex64)
        self._origin = 0  # stream index of the buffer's first sample
        self._cursor = 0  # stream index from which preambles are searched
        self._candidates: list[int] = []  # stream indices found by the last scan, rising
        self._scanned = SCAN_SAMPLES
        self._num_threads = num_threads
        self._lock: Lock | None = None
        self._followed: list[ReceivedFrame] = []  # frames that have followed the lock
        self._last: ReceivedFrame | None = None

    def push(self, samples: np.ndarray) -> list[ReceivedFrame]:
        """Take the next samples (n,) complex64; frames that became complete, in order."""
        samples = np.ascontiguousarray(samples, np.complex64)
        if not samples.size:
            return []
        self.num_samples += samples.size
        self._intake.push(samples)
        if self._intake.size >= MIN_WORK:
            return self._run(final=False)
        self._intake.keep()
        return []

    @property
    def num_not_finite(self) -> int:
        """Samples that were no numbers, or beyond what radios give, and counted as 0."""
        return self._intake.num_not_finite

    def finish(self) -> list[ReceivedFrame]:
        """The stream has ended: frames that were waiting for more, the last one possibly cut."""
        return self._run(final=True)

    def _run(self, final: bool) -> list[ReceivedFrame]:
        self._buffer = self._intake.take(self._buffer, whole=final)
        frames = []
        while (found := self._follow(final) if self._lock else self._search(final)) is not None:
            frames += found
            if found:
                self._last = found[-1]
                self._cursor = found[-1].start + self.detector.length
                self._candidates.clear()
                self._scanned = SCAN_SAMPLES
        # frames may be read backwards, and samples may have been lost between two frames that are one apart
        history = (2 if self._lock else MAX_BACK + 1) * (self.fmt.max_symbols_per_frame + 1) * self.fmt.symbol_samples
        keep = min([self._cursor, *self._candidates[:1]]) - MARGIN - history - self._origin
        drop = min(max(0, keep), self._buffer.size)
        self._buffer = self._buffer[drop:]
        self._origin += drop
        return frames

    def _follow(self, final: bool) -> list[ReceivedFrame] | None:
        """The frames that follow the lock without a gap; [] when there is none, None to wait for samples.

        Where each is expected depends on the lock alone, so what is received does not depend on how the stream is cut.
        """
        lock, done = self._lock, len(self._followed)
        length = frame_samples(lock.frame.header, self.fmt) / (1 + lock.sco)
        # of a frame that is ready all samples have come, wherever its preamble is found
        ready = int((self._origin + self._buffer.size - 2 * MARGIN - lock.frame.start) // length) - 1 - done
        count = lock.batch - done if final else min(lock.batch - done, ready)
        if count <= 0:
            return None
        steps = range(done + 1, done + count + 1)
        expected = [lock.frame.start - self._origin + round(step * length) for step in steps]
        num_groups = -(-count // max(1, int(GROUP_SAMPLES // length)))
        num_groups = -(-num_groups // self._num_threads) * self._num_threads  # each thread has as much to do
        size = -(-count // num_groups)
        groups = [expected[i : i + size] for i in range(0, count, size)]
        received = itertools.chain(*self.run(lambda group: self._receive_group(group, final, lock), groups))
        frames = []
        near = self._followed[-1] if self._followed else lock.frame
        for frame in received:
            near = self._bridged(frame, near)
            if near is None:
                break
            frames.append(near)
        self._followed += frames
        if len(frames) < count:
            self._lock, self._followed = None, []
        elif len(self._followed) == lock.batch:
            sco = sum(frame.sco for frame in self._followed) / lock.batch
            most = min(LARGEST_BATCH, max(FIRST_BATCH, int(BATCH_SAMPLES // length)))
            self._lock = Lock(frames[-1], sco, min(2 * lock.batch, most))
            self._followed = []
        return frames

    def _search(self, final: bool) -> list[ReceivedFrame] | None:
        """The next frame found by scanning, in a list; [] when a candidate was none, None to wait for samples."""
        while not self._candidates:
            block = self._buffer[self._cursor - self._origin :][: self._scanned]
            if block.size < (self.detector.length if final else MIN_WORK):
                return None
            starts = self.detector.scan(block, self.run)
            self._candidates = [self._cursor + int(start) for start in starts]
            self._scanned = min(2 * self._scanned, MOST_SCANNED)
            self._cursor += block.size - self.detector.length + 1
        outcome = self._receive_found(self._candidates[0] - self._origin, final)
        if outcome is WAIT:
            return None
        self._candidates.pop(0)
        if outcome is None:
            return []
        self._lock, self._followed = Lock(outcome[0], outcome[0].sco, FIRST_BATCH), []
        if self._last is not None:
            loss = find_loss(self._buffer, self._origin, self._last, outcome[0], self.fmt)
            self.losses += [loss] if loss else []
        return [*self._before(outcome[0]), *outcome]

    def _before(self, frame: ReceivedFrame) -> list[ReceivedFrame]:
        """Frames before one that was found: those whose preambles were hit, then what else can be read backwards."""
        length = frame_samples(frame.header, self.fmt)
        frames = [frame]
        while len(frames) <= MAX_BACK and (self._last is None or self._last.start < frames[0].start - 1.5 * length):
            before = bridge(self._buffer, self._origin, frames[0], -1, self.fmt)
            if before is None:
                break
            frames.insert(0, before)
        return [*read_backwards(self._buffer, self._origin, frames[0], self._last, self.fmt), *frames[:-1]]

    def _receive_found(self, start: int, final: bool):
        """The frame at buffer index start in a list, None when there is none, WAIT when samples of it have not come."""
        acquisition = self.detector.acquire(self._buffer, start)
        if acquisition is None:
            return None
        acquisition = acquisition[None]  # some frames, of which there is one
        num_header = header_symbols(self.fmt)
        available = int(self._available(acquisition, final)[0])
        if available < num_header:
            return None if final else WAIT
        (header,) = read_headers(open_frames(self._buffer, acquisition, num_header, self.fmt), self.fmt)
        if header is None or header.version != VERSION:
            self.other_versions |= {header.version} if header else set()
            return None
        if available < header.num_symbols and not final:
            return WAIT
        num_symbols, num_control = min(header.num_symbols, available), control_slots(header, self.fmt)
        opened = open_frames(self._buffer, acquisition, num_symbols, self.fmt, num_control)
        (frame,) = read_frames(self._buffer, self._origin, opened, [header], self.fmt)
        return None if frame is None else [frame]

    def _receive_group(self, starts: list[int], final: bool, lock: Lock) -> list[ReceivedFrame | None]:
        """The frames of the lock's burst at the expected buffer indices, None where preamble or header is not there."""
        acquisition, confirmed = self.detector.acquire_each(self._buffer, starts, lock.frame.cfo)
        num_symbols = lock.frame.header.num_symbols
        available = self._available(acquisition, final)
        frames: list[ReceivedFrame | None] = [None] * len(starts)
        for cut in np.flatnonzero(confirmed & (available < num_symbols)):  # the stream has ended
            outcome = self._receive_found(starts[cut], final)
            frames[int(cut)] = None if outcome in (None, WAIT) else outcome[0]
        whole = np.nonzero(confirmed & (available >= num_symbols))[0]
        if not whole.size:
            return frames
        acquisition = acquisition[whole]
        # one preamble measures the carrier less well than the frame before did, whose oscillator it is
        near = np.abs(acquisition.cfo - lock.frame.cfo) < SAME_CARRIER / self.fmt.symbol_samples
        acquisition = dataclasses.replace(acquisition, cfo=np.where(near, lock.frame.cfo, acquisition.cfo))
        num_control = control_slots(lock.frame.header, self.fmt)
        opened = open_frames(self._buffer, acquisition, num_symbols, self.fmt, num_control)
        headers = read_headers(opened, self.fmt)
        good = [i for i, h in enumerate(headers) if h and h.layout == lock.frame.header.layout]
        if good:
            if len(good) < len(headers):
                opened = opened[good]
            found = read_frames(self._buffer, self._origin, opened, [headers[i] for i in good], self.fmt, lock.sco)
            for i, frame in zip(good, found, strict=True):
                frames[whole[i]] = frame
        return frames

    def _bridged(self, frame: ReceivedFrame | None, near: ReceivedFrame) -> ReceivedFrame | None:
        """The frame, or by what the one before it says where its preamble was hit; None where there is none."""
        if frame is not None and frame.channel.noise_var < HIT_PREAMBLE * near.channel.noise_var:
            return frame
        if frame is not None and frame.header != dataclasses.replace(near.header, frame=near.header.frame + 1):
            return frame
        bridged = bridge(self._buffer, self._origin, near, 1, self.fmt)
        if frame is None or (bridged is not None and bridged.noise_var < frame.noise_var):
            return bridged
        return frame

    def _available(self, acquisition, final):
        """OFDM symbols after the preambles whose samples have come (frames,)."""
        margin = 0 if final else MARGIN
        return (self._buffer.size - acquisition.start - margin) // self.fmt.symbol_samples - 1
