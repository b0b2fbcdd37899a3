"""The sender's signal path: checkpoint -> weights -> UEP plan -> symbols -> frames -> samples."""

import dataclasses
import itertools
import zlib
from collections.abc import Iterator

import numpy as np

from airnet_sdr.dsp import control, expansion, ofdm, symbols
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat, Header, frame_samples, layout_burst
from airnet_sdr.dsp.interleave import deal, interleave
from airnet_sdr.dsp.uep import POWER_STEP_DB
from airnet_sdr.dsp.units import db, linear
from airnet_sdr.models.digital import channel_code
from airnet_sdr.models.digital.channel_code import CodedPayload
from airnet_sdr.models.manifest import Manifest, TensorPlan, normalisation
from airnet_sdr.tx.plan import Hybrid

LEAD_SAMPLES = 4096
TAIL_SAMPLES = 16384
TILE_FRAMES = 4  # modulated in one call: what they take in memory stays near a core
TILES_AHEAD = 8  # bounds what threads make before it is sent, twice as many
PART_WEIGHTS = 1 << 17


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
    model, dataset, accuracy, vectors, protection, seed: int = 0, fmt: FrameFormat = DEFAULT_FORMAT, widths=(), run=map
) -> Burst:
    """Map weight vectors to the payload stream and lay out the burst.

    vectors : list of (numel,) float32, one a tensor, in the architecture's order
    protection : copies (tensors,) int, power (tensors,) linear and curves (tensors,), see `dsp.uep`
    widths : of the network, () for its architecture's own
    seed : part of the burst id, so that the same model sent twice can be two bursts
    run : maps a function over parts of the work, `map` or an executor's
    """
    plans = _plans(vectors, protection, run)
    stream = _map_weights(vectors, plans, run)
    return _lay_out(Manifest(model, dataset, accuracy, plans, tuple(widths)), stream, seed, fmt, run)


def _plans(vectors, protection, run=map) -> tuple[TensorPlan, ...]:
    """How each tensor travels, as the receiver will know it."""
    plans = []
    for weights, copies, power, curve in zip(
        vectors, protection.copies, protection.power, protection.curves, strict=True
    ):
        mean, scale, density = normalisation(weights, curve, run)
        power_db = POWER_STEP_DB * round(float(db(power)) / POWER_STEP_DB)
        plans.append(TensorPlan(mean, scale, int(copies), power_db, density, curve))
    return tuple(plans)


def _map_weights(vectors, plans, run) -> np.ndarray:
    """The payload stream: each tensor's symbols, as often and as strong as planned."""
    lengths = [(weights.size + 1) // 2 * plan.uses for weights, plan in zip(vectors, plans, strict=True)]
    stream = np.empty(sum(lengths), np.complex64)
    parts = []
    for weights, plan, out in zip(vectors, plans, np.split(stream, np.cumsum(lengths)[:-1]), strict=True):
        step = PART_WEIGHTS // 2 * plan.uses
        places = range(0, out.size, step)
        parts += [(weights[i * PART_WEIGHTS :][:PART_WEIGHTS], plan, out[p : p + step]) for i, p in enumerate(places)]

    def fill(part):
        weights, plan, out = part
        sent = symbols.to_symbols(weights, plan.mean, plan.scale)
        if plan.curve is not None:
            sent = expansion.expand(sent, plan.curve)
        out[:] = symbols.repeat(sent, plan.copies, linear(plan.power_db))

    for _ in run(fill, parts):
        pass
    return stream


def prepare_coded(
    model, dataset, accuracy, data: bytes, payload: CodedPayload, seed=0, fmt: FrameFormat = DEFAULT_FORMAT, widths=()
) -> Burst:
    """The digital counterpart of `prepare`: compressed weights, at most as many bytes as the payload carries."""
    manifest = Manifest(model, dataset, accuracy, (), tuple(widths), payload)
    return _lay_out(manifest, channel_code.encode(data, payload), seed, fmt)


def prepare_hybrid(
    model, dataset, accuracy, hybrid: Hybrid, seed=0, fmt: FrameFormat = DEFAULT_FORMAT, widths=()
) -> Burst:
    """A digital base and its analog refinement: the coded symbols of the one, then the symbols of the other."""
    plans = _plans(hybrid.residual, hybrid.protection)
    coded = channel_code.encode(hybrid.data, hybrid.payload)
    stream = np.concatenate([coded, _map_weights(hybrid.residual, plans, map)])
    return _lay_out(Manifest(model, dataset, accuracy, plans, tuple(widths), hybrid.payload), stream, seed, fmt)


def _lay_out(manifest, stream, seed, fmt, run=map) -> Burst:
    parts = np.array_split(stream.view(np.uint64), 1 + 2 * stream.size // PART_WEIGHTS)
    parity = np.bitwise_xor.reduce(list(run(np.bitwise_xor.reduce, parts)))
    content = stream[:: max(1, stream.size >> 16)].tobytes() + parity.tobytes()
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

    ``run`` maps a function over tiles of frames: `map`, or an executor's.
    """
    chunks = control.encode_manifest(burst.manifest.to_bytes(), burst.header, burst.fmt)
    rows = deal(burst.stream, burst.header.num_frames, run)

    def tile(numbers):
        headers = [dataclasses.replace(burst.header, frame=number) for number in numbers]
        payload = interleave(rows, headers, burst.fmt)
        return modulate_frames(headers, chunks[numbers.start : numbers.stop], payload, burst.fmt)

    numbers = range(burst.header.num_frames)
    tiles = [numbers[first : first + TILE_FRAMES] for first in numbers[::TILE_FRAMES]]
    groups = (run(tile, tiles[first : first + TILES_AHEAD]) for first in range(0, len(tiles), TILES_AHEAD))
    # an executor makes the group after while one is sent
    for group, _ in itertools.pairwise(itertools.chain(groups, [None])):
        yield from itertools.chain.from_iterable(group)


def modulate_frames(headers: list[Header], chunks: np.ndarray, payload: np.ndarray, fmt: FrameFormat) -> np.ndarray:
    """Frames (frames, frame_samples): preamble, then header, manifest chunk and payload slots among the pilots."""
    slots = np.concatenate([control.encode_headers(headers, fmt), chunks, payload], axis=1)
    return ofdm.modulate(ofdm.fill_grid(slots, fmt), fmt).reshape(len(headers), -1)


def modulate_frame(header: Header, chunk: np.ndarray, payload: np.ndarray, fmt: FrameFormat) -> np.ndarray:
    """One frame (frame_samples,)."""
    return modulate_frames([header], chunk[None], payload[None], fmt)[0]
