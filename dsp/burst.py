"""From a stream of samples to demodulated frames: the receiver's synchronisation, frame by frame.

Frames of a burst follow each other without a gap, so after one frame the next preamble is looked for where it must be;
only where it is not, everything since the last preamble is searched.
"""

import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from dsp import control, estimate, ofdm
from dsp.equalise import soft_slots
from dsp.estimate import FIRST_PATH_TAP, ChannelEstimate, mean_snr
from dsp.frame import DEFAULT_FORMAT, VERSION, FrameFormat, Header, frame_samples
from dsp.sync import MAX_CFO, Acquisition, PreambleDetector
from dsp.tracking import track

SCAN_SAMPLES = 1 << 18
MIN_WORK = 1 << 13  # samples worth searching
FIRST_BATCH, LARGEST_BATCH = 4, 16  # frames expected from a lock; threads share them
MARGIN = 64  # samples that the window of a frame may move
MIN_TAIL = 4  # OFDM symbols of a frame without preamble that are worth believing
WAIT = "wait"
LARGEST = 1e8  # beyond, a sample is no number: its fourth power must not overflow single precision


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
    channel: ChannelEstimate
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


@dataclasses.dataclass(frozen=True)
class Lock:
    """A frame that ``batch`` others are expected to follow without a gap, with a clock offset near ``sco``."""

    frame: ReceivedFrame
    sco: float
    batch: int


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
        self._num_groups = num_threads
        self._lock: Lock | None = None
        self._followed: list[ReceivedFrame] = []  # frames that have followed the lock
        self._last: ReceivedFrame | None = None

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
        """The frames that follow the lock without a gap; [] when there is none, None to wait for samples.

        Where each is expected depends on the lock alone, so what is received does not depend on how the stream is cut.
        """
        lock, done = self._lock, len(self._followed)
        length = frame_samples(lock.frame.header, self.fmt) / (1 + lock.sco)
        ready = int((self._origin + self._buffer.size - MARGIN - lock.frame.start) // length) - 1 - done
        count = lock.batch - done if final else min(lock.batch - done, ready)
        if count <= 0:
            return None
        steps = range(done + 1, done + count + 1)
        expected = [lock.frame.start - self._origin + round(step * length) for step in steps]
        size = -(-count // self._num_groups)
        groups = [expected[i : i + size] for i in range(0, count, size)]
        frames = []
        for group, found in zip(groups, self._map(lambda g: self._receive_group(g, final, lock), groups), strict=True):
            frames += found
            if len(found) < len(group):
                break
        self._followed += frames
        if len(frames) < count:
            self._lock, self._followed = None, []
        elif len(self._followed) == lock.batch:
            sco = sum(frame.sco for frame in self._followed) / lock.batch
            self._lock = Lock(frames[-1], sco, min(2 * lock.batch, LARGEST_BATCH))
            self._followed = []
        return frames

    def _map(self, function, items):
        return list((self._pool.map if self._pool else map)(function, items))

    def _search(self, final: bool) -> list[ReceivedFrame] | None:
        """The next frame found by scanning, in a list; [] when a candidate was none, None to wait for samples."""
        while not self._candidates:
            block = self._buffer[self._cursor - self._origin :][:SCAN_SAMPLES]
            if block.size < (self.detector.length if final else MIN_WORK):
                return None
            starts = self.detector.scan(block, self._map)
            self._candidates = [self._cursor + int(start) for start in starts]
            self._cursor += block.size - self.detector.length + 1
        outcome = self._receive_found(self._candidates[0] - self._origin, final)
        if outcome is WAIT:
            return None
        self._candidates.pop(0)
        if outcome is None:
            return []
        self._lock, self._followed = Lock(outcome, outcome.sco, FIRST_BATCH), []
        return [*self._predecessor(outcome), outcome]

    def _receive_found(self, start: int, final: bool):
        """The frame at buffer index start, None when there is none, WAIT when its samples have not all come."""
        acquisition = self.detector.acquire(self._buffer, start)
        if acquisition is None:
            return None
        available = self._available(acquisition, final)
        if available < self._header_symbols:
            return None if final else WAIT
        header = self._headers(*self._open([acquisition], self._header_symbols)[1:])[0]
        if header is None or header.version != VERSION:
            self.other_versions |= {header.version} if header else set()
            return None
        if available < header.num_symbols and not final:
            return WAIT
        opened = self._open([acquisition], min(header.num_symbols, available))
        return self._demodulate([acquisition], [header], *opened)[0]

    def _receive_group(self, starts: list[int], final: bool, lock: "Lock") -> list[ReceivedFrame]:
        """The frames of the lock's burst at the expected buffer indices, up to the first that is not there."""
        acquisitions = self.detector.acquire_near(self._buffer, starts, lock.frame.cfo)
        num_symbols = lock.frame.header.num_symbols
        whole = [a for a in acquisitions if self._available(a, final) >= num_symbols]
        if not whole:
            cut = self._receive_found(acquisitions[0].start, final) if acquisitions and final else None
            return [] if cut is None else [cut]
        opened = self._open(whole, num_symbols)
        headers = self._headers(*opened[1:])
        good = [bool(h) and (h.version, h.num_symbols) == (VERSION, num_symbols) for h in headers]
        count = [*good, False].index(False)
        if not count:
            return []
        shift, spectra, channel = opened
        frames = self._demodulate(
            whole[:count], headers[:count], shift[:count], spectra[:count], channel[:count], lock.sco
        )
        if count == len(whole) < len(starts) and final:
            frames += self._receive_group(starts[count:], final, lock)
        return frames

    def _available(self, acquisition, final):
        """OFDM symbols after the preamble whose samples have come."""
        margin = 0 if final else MARGIN
        return (self._buffer.size - acquisition.start - margin) // self.fmt.symbol_samples - 1

    def _open(self, acquisitions, num_symbols):
        """Shifts of the FFT windows, spectra of the preambles and of num_symbols after them, channels."""
        return open_frames(self._buffer, acquisitions, num_symbols, self.fmt)

    def _headers(self, spectra, channel):
        """Headers from the first OFDM symbols, with the preambles' channel and carrier offset alone."""
        statistic, _ = soft_slots(spectra[:, 1 : 1 + self._header_symbols], channel, fmt=self.fmt)
        return control.decode_headers(np.ascontiguousarray(statistic[:, : self.fmt.header_symbols]), self.fmt)

    def _demodulate(self, acquisitions, headers, shift, spectra, channel, sco=None) -> list[ReceivedFrame]:
        fmt = self.fmt
        tracking = track(spectra[:, 1:], channel, fmt, sco)
        leakage = (tracking.residual_cfo * fmt.fft_size / 2) ** 2 / 3 * channel.power
        turned = leakage > 0.02 * channel.noise_var  # intercarrier interference (Moose 1994): correct and look again
        if turned.any():
            cfos = [a.cfo + residual * again for a, residual, again in
                    zip(acquisitions, tracking.residual_cfo, turned, strict=True)]  # fmt: skip
            acquisitions = [dataclasses.replace(a, cfo=cfo) for a, cfo in zip(acquisitions, cfos, strict=True)]
            spectra, channel = look(self._buffer, acquisitions, shift, spectra.shape[1] - 1, fmt)
            tracking = track(spectra[:, 1:], channel, fmt, sco)
        soft = soft_slots(spectra[:, 1:], channel, tracking, fmt)
        frames = []
        for i, (acquisition, header) in enumerate(zip(acquisitions, headers, strict=True)):
            erased = np.ones(header.num_symbols, bool)
            erased[: spectra.shape[1] - 1] = ~np.isfinite(tracking.noise_var[i])
            start = self._origin + acquisition.start
            place = (start, start + int(shift[i]))
            frames.append(
                self._frame(header, place, acquisition.cfo, channel[i], tracking[i], erased, soft[0][i], soft[1][i])
            )
        return frames

    def _frame(
        self, header, place, cfo, channel, tracking, erased, statistic, information, supplement=False
    ) -> ReceivedFrame:
        """A frame of its estimates and the soft slots of the symbols there are; the rest counts as erased."""
        fmt = self.fmt
        missing = header.num_symbols * fmt.slots_per_symbol - statistic.size
        if missing:
            statistic, information = np.pad(statistic, (0, missing)), np.pad(information, (0, missing))
        if supplement:
            statistic.reshape(header.num_symbols, -1)[erased] = 0
            information.reshape(header.num_symbols, -1)[erased] = 0
        noise_var = float(tracking.noise_var.min())  # the frame's: symbols that were hit have more
        if not np.isfinite(noise_var):
            noise_var = float(channel.noise_var)
        body = fmt.header_symbols + header.num_chunk_steps * fmt.chunk_step
        return ReceivedFrame(
            header=header,
            start=place[0],
            window=place[1],
            cfo=cfo + float(tracking.residual_cfo),
            sco=float(tracking.sco),
            snr=mean_snr(channel, noise_var),
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
        spectra = ofdm.demodulate(
            self._buffer, [frame.window - back - self._origin], [frame.cfo], header.num_symbols, fmt
        ) * np.complex64(np.exp(1j * frame.cfo * back))
        channel = ChannelEstimate(
            frame.channel.h_hat[None], np.array([frame.channel.noise_var]), np.array([frame.channel.window])
        )
        tracking = track(spectra, channel, fmt, frame.sco, before=True)
        erased = ~np.isfinite(tracking.noise_var[0])
        if torn:
            erased |= ~last.erased
        else:  # what is there reaches up to this preamble; noise may look like a symbol or two
            first = np.max(np.nonzero(erased)[0], initial=-1) + 1
            erased[: first if header.num_symbols - first >= MIN_TAIL else None] = True
        if erased.all():
            return []
        place = (frame.start - length, frame.window - length)
        soft = soft_slots(spectra, channel, tracking, fmt)
        return [self._frame(header, place, frame.cfo, frame.channel, tracking[0], erased, soft[0][0], soft[1][0], True)]


def open_frames(samples: np.ndarray, acquisitions: list[Acquisition], num_symbols: int, fmt: FrameFormat):
    """Shifts of the FFT windows (frames,) that put the first path on FIRST_PATH_TAP, and what `look` finds there."""
    early = [a.start - FIRST_PATH_TAP for a in acquisitions]
    preambles = ofdm.demodulate(samples, early, [a.cfo for a in acquisitions], 1, fmt)[:, 0]
    shift = estimate.first_paths(preambles, fmt) - 2 * FIRST_PATH_TAP
    return shift, *look(samples, acquisitions, shift, num_symbols, fmt)


def look(samples, acquisitions: list[Acquisition], shift, num_symbols: int, fmt: FrameFormat):
    """Spectra (frames, 1 + num_symbols, fft_size) of the preambles and what follows, and the preambles' channels."""
    starts = [a.start + int(s) for a, s in zip(acquisitions, shift, strict=True)]
    spectra = ofdm.demodulate(samples, starts, [a.cfo for a in acquisitions], 1 + num_symbols, fmt)
    return spectra, estimate.estimate_channels(spectra[:, 0], fmt)
