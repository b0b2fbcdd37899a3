"""The receiver's signal path: samples -> frames -> combined symbols -> weights."""

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np

from airnet_sdr.dsp import control, symbols
from airnet_sdr.dsp.burst import FrameReceiver
from airnet_sdr.dsp.errors import LinkError, NothingReceivedError
from airnet_sdr.dsp.expansion import LINE, posterior_mean
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat, Header, frame_samples, payload_slots
from airnet_sdr.dsp.interleave import accumulate, collect
from airnet_sdr.dsp.reception import ReceivedFrame
from airnet_sdr.dsp.sync import MAX_CFO
from airnet_sdr.dsp.units import linear
from airnet_sdr.models.digital import channel_code
from airnet_sdr.models.digital.channel_code import CodedPayload
from airnet_sdr.models.digital.scheme import weights_of
from airnet_sdr.models.manifest import Manifest, TensorPlan

CHUNK = 1 << 16  # symbols
ADD_PARTS = 8  # of some frames, by their numbers: no two threads add to the same row
MAX_BURSTS = 16  # remembered at a time; beyond, the one with the fewest frames is forgotten


class BurstCombiner:
    """Collects the frames of one burst, over as many cycles as are heard, and combines them by their measured noise."""

    def __init__(self, header: Header, fmt: FrameFormat = DEFAULT_FORMAT, run=map):
        self.header, self.fmt = header, fmt
        self.run = run  # maps a function over parts of the work: `map`, or an executor's
        self.heard: dict[int, int] = {}
        self.latest: ReceivedFrame | None = None
        self._sums = np.zeros(4)  # of snr, cfo, sco and erased OFDM symbols
        shape = (header.num_frames, payload_slots(header, fmt))  # pages that no frame fills cost no memory
        try:
            self._statistic = np.zeros(shape, np.complex64)
            self._information = np.zeros(shape, np.float32)
        except MemoryError as error:
            raise LinkError(f"a burst of {shape[0]} frames of {shape[1]} symbols does not fit this memory") from error
        self._llr = np.zeros(control.manifest_block_bits(header, fmt), np.float32)
        self._manifest: Manifest | None = None

    @staticmethod
    def key(header: Header) -> Header:
        """What frames of the same burst have in common."""
        return dataclasses.replace(header, frame=0)

    def add(self, *frames: ReceivedFrame) -> None:
        """Add frames; heard before, they are combined with what was heard."""

        def sum_up(part):
            for frame in frames:
                if frame.header.frame % ADD_PARTS == part:
                    accumulate(frame.statistic, frame.header, self._statistic)
                    accumulate(frame.information, frame.header, self._information)

        for _ in self.run(sum_up, sorted({frame.header.frame % ADD_PARTS for frame in frames})):
            pass
        for frame in frames:
            number = frame.header.frame
            control.add_llr(frame.chunk, number * frame.chunk.size, self._llr, self.fmt)
            if frame.supplement:
                self._sums[3] -= np.sum(~frame.erased)
                continue
            self.heard[number] = self.heard.get(number, 0) + 1
            self.latest = frame
            self._sums += frame.snr, frame.cfo, frame.sco, frame.erased_symbols

    @property
    def num_received(self) -> int:
        """Frames received, repeats included."""
        return sum(self.heard.values())

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
        return len(self.heard) == self.header.num_frames

    @property
    def cycles(self) -> int:
        """The most often that any frame was received."""
        return max(self.heard.values(), default=0)

    def manifest(self) -> Manifest | None:
        """The manifest, once enough of it has been received."""
        if self._manifest is None:
            data = control.decode_manifest(self._llr, self.header, self.fmt)
            if data is not None:
                self._manifest = Manifest.from_bytes(data)
        return self._manifest

    @property
    def capacity(self) -> int:
        """Payload symbols that the burst's frames hold."""
        return self._statistic.size

    def soft(self, start: int, num: int) -> tuple[np.ndarray, np.ndarray]:
        """Combined statistic and information (num,) of the payload stream from ``start``; 0 where nothing was heard."""
        return collect(self._statistic, num, start), collect(self._information, num, start)


@dataclasses.dataclass(frozen=True)
class ReceivedWeights:
    """Weights as estimated, a vector (numel,) float32 a tensor, and the NMSE that the receiver expects of each.

    None for digital weights: what the quantiser cost, the receiver does not know. A refined one it does: the error is
    that of what was left, and the weights have the power of the estimate and of the error.
    """

    vectors: list[np.ndarray]
    expected_nmse: list[float | None]


def rebuild(
    combiner: BurstCombiner, manifest: Manifest, numels: list[int], estimator: str = "linear"
) -> ReceivedWeights:
    """Combine copies and estimate the weights: by linear MMSE, NMSE 1/(1 + SNR after combining) each, or, with the
    estimator "bayes", by their posterior mean given the density that the manifest names.

    What came along a curve is decoded by its posterior mean either way: a curve folds, and a weight far out in a heavy
    tail, which no Gaussian would be, must not be taken for one on the turn below. Digital weights are decoded instead,
    and what is estimated of a hybrid is added to them. Raises NothingReceivedError where a code block was not decoded,
    and LinkError where manifest and architecture do not fit each other.
    """
    coded = manifest.coded
    if coded is not None and not manifest.tensors:
        return ReceivedWeights(_decode(combiner, coded, numels), [None] * len(numels))
    if len(numels) != len(manifest.tensors):
        raise LinkError(
            f"the manifest describes {len(manifest.tensors)} tensors, {manifest.model!r} has {len(numels)} here; "
            "use the sender's version of the architecture"
        )
    lengths = [(numel + 1) // 2 * plan.uses for numel, plan in zip(numels, manifest.tensors, strict=True)]
    start = 0 if coded is None else coded.num_symbols
    if start + sum(lengths) > combiner.capacity:
        raise LinkError(
            f"the manifest wants {start + sum(lengths)} payload symbols, the frames hold {combiner.capacity}; "
            "the sender's architecture is another one"
        )
    base = None if coded is None else _decode(combiner, coded, numels)
    vectors, expected = [], []
    for i, (numel, plan, length) in enumerate(zip(numels, manifest.tensors, lengths, strict=True)):
        vector, nmse = _estimate(combiner, plan, start, numel, estimator)
        if base is not None:
            vector += base[i]
            error = nmse * plan.scale**2
            nmse = error / (float(np.var(vector, dtype=np.float64)) + error) if error else 0.0
        vectors.append(vector)
        expected.append(nmse)
        start += length
    return ReceivedWeights(vectors, expected)


def _decode(combiner: BurstCombiner, coded: CodedPayload, numels: list[int]) -> list[np.ndarray]:
    """Digital weights (numel,) float32 a tensor: exactly as they were sent, or not at all."""
    if coded.num_symbols > combiner.capacity:
        raise LinkError(f"the manifest wants {coded.num_symbols} payload symbols, the frames hold {combiner.capacity}")
    data = channel_code.decode(*combiner.soft(0, coded.num_symbols), coded)
    if data is None:
        raise NothingReceivedError(
            f"the digital payload of {coded.num_blocks} code blocks was not decoded: a digital model arrives whole or "
            "not at all; raise the SNR, listen for more cycles, or plan for a lower --snr-db"
        )
    return weights_of(data, numels)


def _estimate(
    combiner: BurstCombiner, plan: TensorPlan, start: int, numel: int, estimator: str
) -> tuple[np.ndarray, float]:
    """The weights (numel,) float32 of one tensor, whose symbols begin at ``start``, and their expected NMSE."""
    vector, num_symbols = np.empty(numel, np.float32), (numel + 1) // 2

    def part(first):  # so much at a time stays in a core's cache
        num = min(CHUNK, num_symbols - first)
        soft = combiner.soft(start + first * plan.uses, num * plan.uses)
        soft = symbols.combine(*soft, plan.copies, linear(plan.power_db))
        if plan.curve is None and estimator == "linear":
            symbol, nmse = symbols.linear_mmse(*soft)
        else:
            symbol, nmse = posterior_mean(*soft, plan.curve or LINE, plan.density)
        out = vector[2 * first : 2 * (first + num)]
        out[:] = symbols.to_weights(symbol, out.size, plan.mean, plan.scale)
        return nmse * num

    return vector, sum(combiner.run(part, range(0, num_symbols, CHUNK))) / max(num_symbols, 1)


class Listener:
    """Samples in, bursts out: sorts the frames of a stream by burst and knows when a burst is over."""

    def __init__(self, fmt: FrameFormat = DEFAULT_FORMAT, max_cfo: float = MAX_CFO, num_threads: int = 1):
        self.receiver = FrameReceiver(fmt, max_cfo, num_threads)
        self.bursts: dict[Header, BurstCombiner] = {}
        self.current: BurstCombiner | None = None  # the burst that the last frame belongs to
        self.last: ReceivedFrame | None = None
        self.heard: Callable[[ReceivedFrame], None] = lambda frame: None  # told of every frame

    def push(self, samples: np.ndarray) -> int:
        """Take the next samples; the number of frames found."""
        return self._collect(self.receiver.push(samples))

    def finish(self) -> int:
        """The stream has ended; the number of frames found in its rest."""
        return self._collect(self.receiver.finish())

    def _collect(self, frames: list[ReceivedFrame]) -> int:
        for key, of_burst in itertools.groupby(frames, lambda frame: BurstCombiner.key(frame.header)):
            of_burst = list(of_burst)
            self.current = self._burst(key)
            self.current.add(*of_burst)
            for frame in of_burst:
                self.heard(frame)
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
