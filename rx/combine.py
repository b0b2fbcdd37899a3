"""Combines the frames of one burst to payload symbols, and rebuilds the weights from them."""

import copy
import dataclasses

import numpy as np

from airnet_sdr.dsp import control
from airnet_sdr.dsp.errors import LinkError, NothingReceivedError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat, Header, payload_slots
from airnet_sdr.dsp.interleave import accumulate, collect, likeness
from airnet_sdr.dsp.privacy import Unscrambled
from airnet_sdr.dsp.reception import ReceivedFrame
from airnet_sdr.dsp.scrambling import SCRAMBLED, turn_back
from airnet_sdr.models.manifest import Manifest
from airnet_sdr.models.payload import ReceivedWeights, Section, SoftSymbols
from airnet_sdr.models.plan_config import SEAL_BYTES
from airnet_sdr.models.seal import KEYED, Key, Seal

SAME_PAYLOAD = 0.5  # likeness of two receptions of a frame: 1 for one content, 0 for two
SAME_CARRIER = 2.0  # rad an OFDM symbol between frames of one sender: 753 Hz at 2.5 MS/s
ADD_PARTS = 8  # parts of the frames, by frame number: no two threads add to the same row


class BurstCombiner:
    """Collects the frames of one burst over all received cycles, and combines them by their measured noise."""

    def __init__(self, header: Header, fmt: FrameFormat = DEFAULT_FORMAT, run=map):
        self.header, self.fmt = header, fmt
        self.run = run  # maps a function over parts of the work: `map`, or an executor's
        self.receptions: dict[int, int] = {}  # receptions of each frame, by frame number
        self.latest: ReceivedFrame | None = None
        self._sums = np.zeros(4)  # sums of snr, cfo, sco and erased OFDM symbols
        shape = (header.num_frames, payload_slots(header, fmt))  # the rows of missing frames use no memory
        try:
            self._matched = np.zeros(shape, np.complex64)
            self._inv_noise_var = np.zeros(shape, np.float32)
        except MemoryError as error:
            raise LinkError(f"a burst of {shape[0]} frames of {shape[1]} symbols does not fit this memory") from error
        self._llr = np.zeros(control.manifest_block_bits(header, fmt), np.float32)
        self.seal: Seal | None = None  # of a burst that has one, once the manifest is decoded
        self.manifest_bytes = b""  # the manifest as it was decoded, padded
        self._manifest: Manifest | None = None
        self._invalid: str | None = None  # what is wrong with a manifest that was decoded
        self._next_try = 1  # receptions for the next attempt
        self._undecoded = False  # LLRs are new since the last
        self._quickly_tried = 0  # receptions at the last attempt
        self.refused = False  # further frames cannot make it decodable
        self.reported = 0  # whole cycles when it was last given to evaluation
        self.failed = 0  # receptions when an evaluation was in vain; 0: it was not, or is on

    def add(self, *frames: ReceivedFrame) -> None:
        """Add frames; a frame that was received before is combined with its earlier receptions."""

        def sum_up(part):
            for frame in frames:
                if frame.header.frame % ADD_PARTS == part:
                    accumulate(frame.statistic, frame.header, self._matched)
                    accumulate(frame.information, frame.header, self._inv_noise_var)

        for _ in self.run(sum_up, sorted({frame.header.frame % ADD_PARTS for frame in frames})):
            pass
        for frame in frames:
            number = frame.header.frame
            control.add_llr(frame.chunk, number * frame.chunk.size, self._llr, self.fmt)
            self._undecoded = True
            if frame.supplement:
                self._sums[3] -= np.sum(~frame.erased)
                continue
            self.receptions[number] = self.receptions.get(number, 0) + 1
            self.latest = frame
            self._sums += frame.snr, frame.cfo, frame.sco, frame.erased_symbols

    def agrees(self, frame: ReceivedFrame) -> bool:
        """Whether the frame can be of the sender of the frames before it.

        Its payload must be that of an earlier reception of the same frame. Where there is none, or noise hides it, the
        carrier must be near that of the frame before: a sender drifts slowly, and two are rarely as near.
        """
        if self.latest is None:
            return True
        if frame.header.frame in self.receptions and not frame.supplement:
            same = likeness(frame.statistic, frame.information, frame.header, self._matched, self._inv_noise_var)
            if same is not None:
                return same > SAME_PAYLOAD
        return same_carrier(frame, self.latest, self.fmt)

    def snapshot(self) -> "BurstCombiner":
        """A copy that later frames do not change, for another thread: it maps over parts of the work by itself."""
        copied = copy.copy(self)
        copied.run, copied.receptions = map, dict(self.receptions)
        for name in ("_sums", "_matched", "_inv_noise_var", "_llr"):
            setattr(copied, name, getattr(self, name).copy())
        return copied

    @property
    def num_received(self) -> int:
        """Frames received, repeats included."""
        return sum(self.receptions.values())

    @property
    def sync(self) -> tuple[float, float, float]:
        """Means over the frames: SNR per payload symbol (linear), cfo (rad/sample), sco."""
        return tuple(self._sums[:3] / max(self.num_received, 1))

    @property
    def erased_symbols(self) -> int:
        """Unusable OFDM symbols of received frames."""
        return max(0, int(self._sums[3]))

    @property
    def complete(self) -> bool:
        """Whether every frame of the burst was received at least once."""
        return len(self.receptions) == self.header.num_frames

    @property
    def cycles(self) -> int:
        """The largest number of receptions of a frame."""
        return max(self.receptions.values(), default=0)

    @property
    def whole_cycles(self) -> int:
        """The smallest number of receptions of a frame, 0 unless the burst is complete."""
        return min(self.receptions.values()) if self.complete else 0

    @property
    def num_since_failure(self) -> int:
        """Receptions since an evaluation was in vain; 0 if it was not."""
        return self.num_received - self.failed if self.failed else 0

    def note_failure(self, error: LinkError, num_received: int | None = None) -> None:
        """Note that an evaluation, of the first ``num_received`` receptions, failed: for good, or, where nothing was
        received, until more frames come."""
        self.refused = not isinstance(error, NothingReceivedError)
        self.failed = self.num_received if num_received is None else num_received

    def manifest(self, last: bool = False, thorough: bool = True) -> Manifest | None:
        """The manifest, None until it is decoded.

        List decoding of a long manifest takes up to half a second. After a failure the next attempt waits for a quarter
        more frames, or, for the ``last`` attempt, for any new frame: this bounds the time spent on an undecodable
        burst. An attempt that is not ``thorough`` takes a fortieth of the time, which strong signals need; a thorough
        one may follow. Raises LinkError for invalid content, each time.
        """
        if self._invalid is not None:
            raise LinkError(self._invalid)  # a new one: each raise lengthens the traceback, which holds the symbols
        if self._manifest is None and self._undecoded and (last or self.num_received >= self._next_try):
            if thorough:
                self._next_try, self._undecoded = self.num_received + max(1, self.num_received // 4), False
            elif self._quickly_tried == self.num_received:
                return None
            self._quickly_tried = self.num_received
            data = control.decode_manifest(self._llr, self.header, self.fmt, thorough)
            if data is not None:
                try:
                    if self.header.flags & KEYED:
                        self.seal, data = Seal.from_bytes(data), data[SEAL_BYTES:]
                    self.manifest_bytes = data
                    self._manifest = Manifest.from_bytes(data)
                except LinkError as error:
                    self._invalid = str(error)
                    raise
        return self._manifest

    @property
    def capacity(self) -> int:
        """Payload symbols in all frames of the burst."""
        return self._matched.size

    @property
    def symbols_received(self) -> int:
        """Payload symbols in the received frames."""
        return len(self.receptions) * self._matched.shape[1]

    def num_bytes(self, *more: ReceivedFrame) -> int:
        """Memory of the symbols of the frames received, and of ``more`` frames; those that did not come take none."""
        num_frames = len(self.receptions.keys() | {frame.header.frame for frame in more})
        return num_frames * self._matched.shape[1] * (self._matched.itemsize + self._inv_noise_var.itemsize)

    def soft(self, start: int, num: int) -> tuple[np.ndarray, np.ndarray]:
        """For ``num`` payload symbols from ``start``, combined over cycles: equalised symbols over their noise_var,
        complex64 (num,), and 1/noise_var, float32 (num,); both 0 for symbols not received."""
        statistic = collect(self._matched, num, start)
        if self.header.flags & SCRAMBLED:
            statistic = turn_back(statistic, start)
        return statistic, collect(self._inv_noise_var, num, start)


def same_carrier(one: ReceivedFrame, other: ReceivedFrame, fmt: FrameFormat = DEFAULT_FORMAT) -> bool:
    """Whether two frames can be of one oscillator."""
    return abs(one.cfo - other.cfo) * fmt.symbol_samples < SAME_CARRIER


def unsealed(burst: BurstCombiner, key: Key, num: int) -> SoftSymbols:
    """The ``num`` payload symbols of a sealed burst, in their own order and phase."""
    return Unscrambled(burst, key.keystream(burst.header, burst.seal.counter), num)


def rebuild(received: SoftSymbols, manifest: Manifest, numels: list[int], estimator: str = "linear") -> ReceivedWeights:
    """Decode the payload to tensors of ``numels`` weights: the last weights that arrived are the result, with what was
    sent beside them.

    Raises NothingReceivedError if no part arrived, and LinkError if manifest and architecture do not match.
    """
    needed = manifest.num_symbols(numels)
    if needed > received.capacity:
        raise LinkError(
            f"the manifest needs {needed} payload symbols, the frames hold {received.capacity}; "
            "the sender has another architecture"
        )
    start, arrived, lost = 0, None, None
    for part in manifest.parts:
        section = Section(received, start)
        start += part.num_symbols(numels)
        try:
            if part.role == "weights":
                alone = True  # until weights arrive, what belongs to them is skipped
                decoded = part.decode(section, numels, estimator)
                arrived, alone = dataclasses.replace(decoded, part=decoded.part or part), False
            elif not alone:
                arrived = dataclasses.replace(arrived, **{part.role: part.decode(section)})
        except NothingReceivedError as error:
            if part.role != "weights":
                arrived = None
            lost = error
    if arrived is None:
        raise lost
    return arrived
