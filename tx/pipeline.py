"""The sender's signal path: checkpoint -> weights -> UEP plan -> symbols -> frames -> samples."""

import dataclasses
import itertools
import zlib
from collections.abc import Iterator

import numpy as np

from dsp import control, ofdm, symbols
from dsp.frame import DEFAULT_FORMAT, FrameFormat, Header, frame_samples, layout_burst
from dsp.interleave import deal, interleave
from dsp.uep import POWER_STEP_DB
from dsp.units import db, linear
from models.digital import channel_code
from models.digital.channel_code import CodedPayload
from models.manifest import Manifest, TensorPlan, centre_and_scale

LEAD_SAMPLES = 4096
TAIL_SAMPLES = 16384
FRAMES_AHEAD = 16  # bounds what threads make before it is sent


@dataclasses.dataclass(frozen=True)
class Burst:
    """One cycle, ready to be modulated: header of frame 0, manifest and payload stream (num_payload,) complex64."""

    header: Header
    manifest: Manifest
    stream: np.ndarray
    fmt: FrameFormat = DEFAULT_FORMAT

    @property
    def num_samples(self) -> int:
        """Samples of one cycle."""
        return self.header.num_frames * frame_samples(self.header, self.fmt)


def prepare(
    model, dataset, accuracy, vectors, protection, seed: int = 0, fmt: FrameFormat = DEFAULT_FORMAT, widths=()
) -> Burst:
    """Map weight vectors to the payload stream and lay out the burst.

    vectors : list of (numel,) float32, one a tensor, in the architecture's order
    protection : copies (tensors,) int and power (tensors,) linear, see `dsp.uep`
    widths : of the network, () for its architecture's own
    seed : part of the burst id, so that the same model sent twice can be two bursts
    """
    plans, stream = [], []
    for weights, copies, power in zip(vectors, protection.copies, protection.power, strict=True):
        mean, scale = centre_and_scale(weights)
        power_db = POWER_STEP_DB * round(float(db(power)) / POWER_STEP_DB)  # as the receiver will know it
        plan = TensorPlan(mean, scale, int(copies), power_db)
        stream.append(symbols.repeat(symbols.to_symbols(weights, mean, scale), plan.copies, linear(plan.power_db)))
        plans.append(plan)
    return _lay_out(Manifest(model, dataset, accuracy, tuple(plans), tuple(widths)), np.concatenate(stream), seed, fmt)


def prepare_coded(
    model, dataset, accuracy, data: bytes, payload: CodedPayload, seed=0, fmt: FrameFormat = DEFAULT_FORMAT, widths=()
) -> Burst:
    """The digital counterpart of `prepare`: compressed weights, at most as many bytes as the payload carries."""
    manifest = Manifest(model, dataset, accuracy, (), tuple(widths), payload)
    return _lay_out(manifest, channel_code.encode(data, payload), seed, fmt)


def _lay_out(manifest, stream, seed, fmt) -> Burst:
    content = stream[:: max(1, stream.size >> 16)].tobytes() + np.bitwise_xor.reduce(stream.view(np.uint64)).tobytes()
    burst_id = zlib.crc32(manifest.to_bytes() + str(seed).encode() + content) & 0xFFF
    return Burst(layout_burst(stream.size, len(manifest.to_bytes()), burst_id, fmt), manifest, stream, fmt)


def transmission(burst: Burst, cycles: int = 1) -> Iterator[tuple[np.ndarray, str | None]]:
    """All that goes on the air: silence, ``cycles`` cycles of the burst (0: without end), silence, as (samples, label).

    Each frame is one item with a label. The silence after the burst also pushes its end through the filters on the way.
    """
    yield np.zeros(LEAD_SAMPLES, np.complex64), None
    for cycle in range(cycles) if cycles else itertools.count():
        for number, samples in enumerate(modulate(burst)):
            yield samples, f"cycle {cycle} frame {number}"
    yield np.zeros(TAIL_SAMPLES, np.complex64), None


def modulate(burst: Burst, run=map) -> Iterator[np.ndarray]:
    """The frames of one cycle in order, each (frame_samples,) complex64 of unit average power.

    ``run`` maps a function over the frames: `map`, or an executor's.
    """
    chunks = control.encode_manifest(burst.manifest.to_bytes(), burst.header, burst.fmt)
    rows = deal(burst.stream, burst.header.num_frames)

    def frame(number):
        header = dataclasses.replace(burst.header, frame=number)
        return modulate_frame(header, chunks[number], interleave(rows, header, burst.fmt), burst.fmt)

    for first in range(0, burst.header.num_frames, FRAMES_AHEAD):
        yield from run(frame, range(first, min(first + FRAMES_AHEAD, burst.header.num_frames)))


def modulate_frame(header: Header, chunk: np.ndarray, payload: np.ndarray, fmt: FrameFormat) -> np.ndarray:
    """One frame: preamble, then header, manifest chunk and payload slots among the pilots."""
    slots = np.concatenate([control.encode_header(header, fmt), chunk, payload])
    data = ofdm.modulate(ofdm.fill_grid(slots, header.num_symbols, fmt), fmt)
    return np.concatenate([ofdm.preamble_samples(fmt), data])
