"""From a stream of samples to demodulated frames: the receiver's synchronisation, frame by frame.

Frames of a burst follow each other without a gap, so after one frame the next preamble is looked for where it must be;
only where it is not, everything since the last preamble is searched.
"""

import dataclasses
import itertools
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit

from dsp import control, equalise, ofdm
from dsp.frame import DEFAULT_FORMAT, VERSION, FrameFormat, Header, frame_samples
from dsp.sync import MAX_CFO, Acquisition, PreambleDetector

SCAN_SAMPLES = 1 << 18
MIN_WORK = 1 << 13  # samples worth searching
BATCH = 4  # frames received at a time, in parallel where there are threads
MARGIN = 64  # samples that the window of a frame may move
MIN_TAIL = 4  # OFDM symbols of a frame without preamble that are worth believing
WAIT = "wait"
LARGEST = 1e8  # beyond, a sample is no number: its fourth power must not overflow single precision
TABLE = 64


@dataclasses.dataclass(frozen=True)
class ReceivedFrame:
    """A frame whose header passed its CRC, with the soft values of its slots (see `equalise.soft_slots`).

    start : index of its first sample in the stream, by its strongest path; cfo in rad/sample; sco a ratio; snr per
        payload symbol, linear; channel at the preamble
    window : stream index from which the FFT windows are counted
    erased : (num_symbols,) bool, OFDM symbols of which nothing is usable
    chunk, chunk_information : of the slots of the manifest chunk; statistic, information : of the payload slots
    supplement : these are symbols of a frame without its preamble: of one that was torn, or cut at its beginning
    """

    header: Header
    start: int
    window: int
    cfo: float
    sco: float
    snr: float
    noise_var: float
    channel: equalise.ChannelEstimate
    erased: np.ndarray
    chunk: np.ndarray
    chunk_information: np.ndarray
    statistic: np.ndarray
    information: np.ndarray
    supplement: bool = False

    @property
    def erased_symbols(self) -> int:
        """OFDM symbols of which nothing is usable."""
        return int(self.erased.sum())


class FrameReceiver:
    """Turns blocks of samples of any length into `ReceivedFrame`s; memory is bounded by a frame and a scan block."""

    def __init__(self, fmt: FrameFormat = DEFAULT_FORMAT, max_cfo: float = MAX_CFO, num_threads: int = 1):
        self.fmt = fmt
        self.detector = PreambleDetector(fmt, max_cfo)
        self._header_symbols = math.ceil(fmt.header_symbols / fmt.slots_per_symbol)
        self.num_samples = 0
        self.num_not_finite = 0
        self.other_versions: set[int] = set()
        self._pool = ThreadPoolExecutor(num_threads) if num_threads > 1 else None
        self._blocks: list[np.ndarray] = []
        self._waiting = 0  # samples in the blocks
        self._buffer = np.empty(0, np.complex64)
        self._origin = 0  # stream index of the buffer's first sample
        self._cursor = 0  # stream index from which preambles are searched
        self._candidates: list[int] = []  # stream indices found by the last scan, rising
        self._lock: ReceivedFrame | None = None  # a frame that the next BATCH are expected to follow...
        self._last: ReceivedFrame | None = None
        self._followed = 0  # ...of which so many have

    def push(self, samples: np.ndarray) -> list[ReceivedFrame]:
        """Take the next samples (n,) complex64; frames that became complete, in order."""
        samples = np.ascontiguousarray(samples, np.complex64)
        rails = samples.view(np.float32)
        if not (rails.max(initial=0) <= LARGEST and rails.min(initial=0) >= -LARGEST):  # a NaN fails both
            good = np.abs(samples) <= LARGEST
            self.num_not_finite += int(samples.size - good.sum())
            samples = np.where(good, samples, np.complex64(0))
        self.num_samples += samples.size
        self._blocks.append(samples)
        self._waiting += samples.size
        if self._waiting >= MIN_WORK:
            return self._run(final=False)
        self._blocks[-1] = samples.copy()  # the caller may reuse its array
        return []

    def finish(self) -> list[ReceivedFrame]:
        """The stream has ended: frames that were waiting for more, the last one possibly cut."""
        return self._run(final=True)

    def _run(self, final: bool) -> list[ReceivedFrame]:
        self._buffer = np.concatenate([self._buffer, *self._blocks])
        self._blocks.clear()
        self._waiting = 0
        frames = []
        while (found := self._follow(final) if self._lock else self._search(final)) is not None:
            frames += found
            if found:
                self._last = found[-1]
                self._cursor = found[-1].start + self.detector.length
                self._candidates.clear()
        history = self.fmt.max_symbols_per_frame * self.fmt.symbol_samples  # a frame may be read backwards
        keep = min([self._cursor, *self._candidates[:1]]) - MARGIN - history - self._origin
        drop = min(max(0, keep), self._buffer.size)
        self._buffer = self._buffer[drop:]
        self._origin += drop
        return frames

    def _follow(self, final: bool) -> list[ReceivedFrame] | None:
        """The frames that follow the lock without a gap, BATCH at most; [] when there is none, None to wait for
        samples.

        Where each is expected depends on the lock alone, so what is received does not depend on how the stream is cut.
        """
        lock = self._lock
        length = frame_samples(lock.header, self.fmt) / (1 + lock.sco)
        ready = int((self._origin + self._buffer.size - MARGIN - lock.start) // length) - 1 - self._followed
        count = BATCH - self._followed if final else min(BATCH - self._followed, ready)
        if count <= 0:
            return None
        steps = range(self._followed + 1, self._followed + count + 1)
        expected = [lock.start - self._origin + round(step * length) for step in steps]
        outcomes = (self._pool.map if self._pool else map)(lambda s: self._receive(s, final, lock), expected)
        frames = list(itertools.takewhile(lambda outcome: isinstance(outcome, ReceivedFrame), outcomes))
        self._followed += len(frames)
        if len(frames) < count:
            self._lock = None
        elif self._followed == BATCH:
            self._lock, self._followed = frames[-1], 0
        return frames

    def _search(self, final: bool) -> list[ReceivedFrame] | None:
        """The next frame found by scanning, in a list; [] when a candidate was none, None to wait for samples."""
        while not self._candidates:
            block = self._buffer[self._cursor - self._origin :][:SCAN_SAMPLES]
            if block.size < (self.detector.length if final else MIN_WORK):
                return None
            starts = self.detector.scan(block, self._pool.map if self._pool else map)
            self._candidates = [self._cursor + int(start) for start in starts]
            self._cursor += block.size - self.detector.length + 1
        outcome = self._receive(self._candidates[0] - self._origin, final)
        if outcome is WAIT:
            return None
        self._candidates.pop(0)
        if outcome is None:
            return []
        self._lock, self._followed = outcome, 0
        return [*self._predecessor(outcome), outcome]

    def _receive(self, start: int, final: bool, lock: ReceivedFrame | None = None):
        """The frame at buffer index start, None when there is none, WAIT when its samples have not all come."""
        fmt = self.fmt
        acquisition = self.detector.acquire(self._buffer, start, lock and lock.cfo)
        if acquisition is None:
            return None
        margin = 0 if final else MARGIN
        available = (self._buffer.size - acquisition.start - margin) // fmt.symbol_samples - 1
        if available < self._header_symbols:
            return None if final else WAIT
        # what follows the lock is as long as the lock: its symbols are transformed with the header's
        num_symbols = lock.header.num_symbols if lock else self._header_symbols
        shift = window_shift(self._buffer, acquisition, fmt)
        channel, grid = open_frame(self._buffer, acquisition, shift, num_symbols, fmt)
        header = read_header(channel, grid[: self._header_symbols], fmt)
        if header is None:
            return None
        if header.version != VERSION:
            self.other_versions.add(header.version)
            return None
        if available < header.num_symbols and not final:
            return WAIT
        if header.num_symbols != num_symbols:
            channel, grid = open_frame(self._buffer, acquisition, shift, header.num_symbols, fmt)
        return self._demodulate(acquisition, shift, header, channel, grid[:available])

    def _demodulate(self, acquisition, shift, header, channel, grid) -> ReceivedFrame:
        fmt = self.fmt
        tracking = equalise.track(grid, channel, fmt)
        leakage = (tracking.residual_cfo * fmt.fft_size / 2) ** 2 / 3 * channel.power
        if leakage > 0.02 * channel.noise_var:  # intercarrier interference (Moose 1994): correct it and look again
            acquisition = dataclasses.replace(acquisition, cfo=acquisition.cfo + tracking.residual_cfo)
            channel, grid = open_frame(self._buffer, acquisition, shift, len(grid), fmt)
            tracking = equalise.track(grid, channel, fmt)
        erased = np.ones(header.num_symbols, bool)
        erased[: len(grid)] = ~np.isfinite(tracking.noise_var)
        place = (self._origin + acquisition.start, self._origin + acquisition.start + shift)
        return self._frame(header, place, acquisition.cfo, grid, channel, tracking, erased)

    def _frame(self, header, place, cfo, grid, channel, tracking, erased, supplement=False) -> ReceivedFrame:
        """Soft slots and estimates of a frame as far as its symbols are not erased."""
        fmt = self.fmt
        statistic, information = equalise.soft_slots(grid, channel, tracking, fmt)
        missing = (header.num_symbols - len(grid)) * fmt.slots_per_symbol
        if missing:
            statistic, information = np.pad(statistic, (0, missing)), np.pad(information, (0, missing))
        if supplement:
            statistic.reshape(header.num_symbols, -1)[erased] = 0
            information.reshape(header.num_symbols, -1)[erased] = 0
        noise_var = float(tracking.noise_var.min())  # the frame's: symbols that were hit have more
        if not np.isfinite(noise_var):
            noise_var = channel.noise_var
        body = fmt.header_symbols + header.num_chunk_steps * fmt.chunk_step
        return ReceivedFrame(
            header=header,
            start=place[0],
            window=place[1],
            cfo=cfo + tracking.residual_cfo,
            sco=tracking.sco,
            snr=equalise.mean_snr(channel, noise_var),
            noise_var=noise_var,
            channel=channel,
            erased=erased,
            chunk=statistic[fmt.header_symbols : body],
            chunk_information=information[fmt.header_symbols : body],
            statistic=statistic[body:],
            information=information[body:],
            supplement=supplement,
        )

    def _predecessor(self, frame: ReceivedFrame) -> list[ReceivedFrame]:
        """What can be read backwards from a frame found by searching: the end of a frame that was torn by lost or
        repeated samples, or whose preamble was cut off or hit. A list of one supplement, or of none.
        """
        fmt, last = self.fmt, self._last
        if frame.header.frame == 0:
            return []
        header = dataclasses.replace(frame.header, frame=frame.header.frame - 1)
        length = frame_samples(header, fmt)
        torn = last is not None and last.header == header and abs(frame.start - last.start - length) < length
        if torn and not last.erased.any():
            return []
        if not torn and last is not None and last.start > frame.start - 2 * length + fmt.symbol_samples:
            return []
        back = header.num_symbols * fmt.symbol_samples
        bodies = _bodies(self._buffer, frame.window - back - self._origin, frame.cfo, header.num_symbols, fmt)
        grid = ofdm.demodulate(bodies, fmt) * np.complex64(np.exp(1j * frame.cfo * back))
        tracking = equalise.track(grid, frame.channel, fmt, sco_before=frame.sco)
        erased = ~np.isfinite(tracking.noise_var)
        if torn:
            erased |= ~last.erased
        else:  # what is there reaches up to this preamble; noise may look like a symbol or two
            first = np.max(np.nonzero(erased)[0], initial=-1) + 1
            erased[: first if header.num_symbols - first >= MIN_TAIL else None] = True
        if erased.all():
            return []
        place = (frame.start - length, frame.window - length)
        return [self._frame(header, place, frame.cfo, grid, frame.channel, tracking, erased, supplement=True)]


def window_shift(samples: np.ndarray, acquisition: Acquisition, fmt: FrameFormat) -> int:
    """Samples by which the FFT windows move so that the first path falls on tap FIRST_PATH_TAP."""
    early = -equalise.FIRST_PATH_TAP
    spectrum = ofdm.demodulate(_bodies(samples, acquisition.start + early, acquisition.cfo, 1, fmt), fmt)[0]
    return early + equalise.first_path(spectrum, fmt) - equalise.FIRST_PATH_TAP


def open_frame(samples, acquisition: Acquisition, shift: int, num_symbols: int, fmt: FrameFormat):
    """Channel estimate from the preamble and the grid (num_symbols, num_active) of the OFDM symbols after it."""
    bodies = _bodies(samples, acquisition.start + shift, acquisition.cfo, 1 + num_symbols, fmt)
    grid = ofdm.demodulate(bodies, fmt)
    return equalise.estimate_channel(grid[0], fmt), grid[1:]


def read_header(channel: equalise.ChannelEstimate, grid: np.ndarray, fmt: FrameFormat) -> Header | None:
    """Header from the first OFDM symbols of a frame, with the preamble's channel and carrier offset alone."""
    statistic, _ = equalise.soft_slots(grid, channel, fmt=fmt)
    return control.decode_header(statistic[: fmt.header_symbols], fmt)


def _bodies(samples, start, cfo, count, fmt):
    """Carrier-corrected bodies (count, fft_size) complex64 of the symbols from ``start`` on."""
    out = np.zeros((count, fmt.fft_size), np.complex64)
    _derotate(samples, start + fmt.prefix_samples, fmt.symbol_samples, cfo, out)
    return out


@njit(cache=True, nogil=True, fastmath=True)
def _derotate(samples, start, hop, cfo, out):
    """out[t, n] = samples[start + t·hop + n]·exp(-j·cfo·(t·hop + n)); samples outside the array count as 0."""
    table = np.empty(TABLE, np.complex64)  # a table of phasors leaves one turn for every TABLE samples
    for i in range(TABLE):
        table[i] = np.exp(-1j * cfo * i)
    for t in range(out.shape[0]):
        for first in range(0, out.shape[1], TABLE):
            turn = np.complex64(np.exp(-1j * cfo * (t * hop + first)))
            base = start + t * hop + first
            count = min(TABLE, out.shape[1] - first)
            if base >= 0 and base + count <= samples.size:
                for i in range(count):
                    out[t, first + i] = samples[base + i] * (table[i] * turn)
            else:
                for i in range(max(0, -base), min(count, samples.size - base)):
                    out[t, first + i] = samples[base + i] * (table[i] * turn)
