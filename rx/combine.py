"""Frames of one burst combined to payload symbols, and the weights rebuilt from them."""

import dataclasses

import numpy as np

from airnet_sdr.dsp import control
from airnet_sdr.dsp.errors import LinkError, NothingReceivedError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat, Header, payload_slots
from airnet_sdr.dsp.interleave import accumulate, collect
from airnet_sdr.dsp.reception import ReceivedFrame
from airnet_sdr.models.manifest import Manifest
from airnet_sdr.models.payload import ReceivedWeights, Section, SoftSymbols

ADD_PARTS = 8  # of some frames, by their numbers: no two threads add to the same row


class BurstCombiner:
    """Collects the frames of one burst, over as many cycles as are heard, and combines them by their measured noise."""

    def __init__(self, header: Header, fmt: FrameFormat = DEFAULT_FORMAT, run=map):
        self.header, self.fmt = header, fmt
        self.run = run  # maps a function over parts of the work: `map`, or an executor's
        self.receptions: dict[int, int] = {}  # of each frame, by its number
        self.latest: ReceivedFrame | None = None
        self._sums = np.zeros(4)  # of snr, cfo, sco and erased OFDM symbols
        shape = (header.num_frames, payload_slots(header, fmt))  # pages that no frame fills cost no memory
        try:
            self._matched = np.zeros(shape, np.complex64)
            self._inv_noise_var = np.zeros(shape, np.float32)
        except MemoryError as error:
            raise LinkError(f"a burst of {shape[0]} frames of {shape[1]} symbols does not fit this memory") from error
        self._llr = np.zeros(control.manifest_block_bits(header, fmt), np.float32)
        self._manifest: Manifest | None = None
        self._next_try, self._undecoded = 1, False  # receptions from which a decoder tries again; whether there is news
        self.refused = False  # it cannot be rebuilt, whatever else comes

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
        """OFDM symbols of received frames of which nothing was usable."""
        return max(0, int(self._sums[3]))

    @property
    def complete(self) -> bool:
        """Whether every frame of the burst was received at least once."""
        return len(self.receptions) == self.header.num_frames

    @property
    def cycles(self) -> int:
        """The most often that any frame was received."""
        return max(self.receptions.values(), default=0)

    def manifest(self, last: bool = False) -> Manifest | None:
        """The manifest, once enough of it has been received.

        A list decoder takes up to half a second over a long manifest. After a failure it waits for a quarter more
        frames, or, where this is the ``last`` time to try, for any news, so that a burst that is never decoded costs
        little. Raises LinkError where the content makes no sense.
        """
        if self._manifest is None and self._undecoded and (last or self.num_received >= self._next_try):
            self._next_try, self._undecoded = self.num_received + max(1, self.num_received // 4), False
            data = control.decode_manifest(self._llr, self.header, self.fmt)
            if data is not None:
                self._manifest = Manifest.from_bytes(data)
        return self._manifest

    @property
    def capacity(self) -> int:
        """Payload symbols that the burst's frames hold."""
        return self._matched.size

    @property
    def symbols_received(self) -> int:
        """Payload symbols of the frames that were received."""
        return len(self.receptions) * self._matched.shape[1]

    def num_bytes(self, *more: ReceivedFrame) -> int:
        """Memory of the symbols of the frames received, and of ``more`` frames; those that did not come take none."""
        num_frames = len(self.receptions.keys() | {frame.header.frame for frame in more})
        return num_frames * self._matched.shape[1] * (self._matched.itemsize + self._inv_noise_var.itemsize)

    def soft(self, start: int, num: int) -> tuple[np.ndarray, np.ndarray]:
        """Of ``num`` payload symbols from ``start``, the copies of all cycles combined: matched-filter outputs (num,)
        complex64, which are the equalised symbols over their noise_var, and 1/noise_var (num,) float32; 0 where nothing
        was received."""
        return collect(self._matched, num, start), collect(self._inv_noise_var, num, start)


def rebuild(received: SoftSymbols, manifest: Manifest, numels: list[int], estimator: str = "linear") -> ReceivedWeights:
    """The weights of tensors of ``numels`` weights: each part of the payload in turn, the last that arrived counts.

    Raises NothingReceivedError where no part arrived, and LinkError where manifest and architecture do not fit each
    other.
    """
    needed = manifest.num_symbols(numels)
    if needed > received.capacity:
        raise LinkError(
            f"the manifest wants {needed} payload symbols, the frames hold {received.capacity}; "
            "the sender's architecture is another one"
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
