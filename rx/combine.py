"""Combines the frames of one burst to payload symbols, and rebuilds the weights from them."""

import dataclasses

import numpy as np

from airnet_sdr.dsp import control
from airnet_sdr.dsp.errors import LinkError, NothingReceivedError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat, Header, payload_slots
from airnet_sdr.dsp.interleave import accumulate, collect
from airnet_sdr.dsp.reception import ReceivedFrame
from airnet_sdr.models.manifest import Manifest
from airnet_sdr.models.payload import ReceivedWeights, Section, SoftSymbols

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
        self._manifest: Manifest | None = None
        self._invalid: LinkError | None = None  # what is wrong with a manifest that was decoded
        self._next_try, self._undecoded = (
            1,
            False,
        )  # receptions for the next attempt; new LLRs since the last
        self.refused = False  # further frames cannot make it decodable

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

    def manifest(self, last: bool = False) -> Manifest | None:
        """The manifest, None until it is decoded.

        List decoding of a long manifest takes up to half a second. After a failure the next attempt waits for a quarter
        more frames, or, for the ``last`` attempt, for any new frame: this bounds the time spent on an undecodable
        burst. Raises LinkError for invalid content, each time.
        """
        if self._invalid is not None:
            raise self._invalid
        if self._manifest is None and self._undecoded and (last or self.num_received >= self._next_try):
            self._next_try, self._undecoded = self.num_received + max(1, self.num_received // 4), False
            data = control.decode_manifest(self._llr, self.header, self.fmt)
            if data is not None:
                try:
                    self._manifest = Manifest.from_bytes(data)
                except LinkError as error:
                    self._invalid = error
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
        return collect(self._matched, num, start), collect(self._inv_noise_var, num, start)


def rebuild(received: SoftSymbols, manifest: Manifest, numels: list[int], estimator: str = "linear") -> ReceivedWeights:
    """Decode the payload to tensors of ``numels`` weights: the last part that arrived is the result.

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
        try:
            decoded = part.decode(Section(received, start), numels, estimator)
            arrived = dataclasses.replace(decoded, part=part)
        except NothingReceivedError as error:
            lost = error
        start += part.num_symbols(numels)
    if arrived is None:
        raise lost
    return arrived
