"""A burst: manifest and payload symbols, laid out in frames and modulated to samples."""

import dataclasses
import functools
import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from airnet_sdr.dsp import control, ofdm
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, FrameFormat, Header, frame_samples, layout_burst, manifest_capacity
from airnet_sdr.dsp.interleave import deal, interleave
from airnet_sdr.dsp.privacy import Keystream, scramble
from airnet_sdr.dsp.scrambling import SCRAMBLED, needs_scrambling, turn
from airnet_sdr.models.card import ModelCard
from airnet_sdr.models.manifest import Manifest
from airnet_sdr.models.payload import Part
from airnet_sdr.models.plan_config import SEAL_BYTES
from airnet_sdr.models.seal import KEYED, Key, Seal

LEAD_SAMPLES = 4096
TAIL_SAMPLES = 16384
TILE_FRAMES = 4  # frames modulated per call: they fit a core's cache
TILES_AHEAD = 8  # per group; threads are at most one group ahead of the sender
SHARE_WEIGHTS = 1 << 17  # weights per call of the checksum


@dataclasses.dataclass(frozen=True)
class Burst:
    """One cycle, ready to be modulated: header of frame 0, manifest and payload stream (num_payload,) complex64.

    `part_symbols` are the numbers of symbols of the manifest's parts, in stream order.
    """

    header: Header
    manifest: Manifest
    stream: np.ndarray
    part_symbols: tuple[int, ...]
    fmt: FrameFormat = DEFAULT_FORMAT
    seal: Seal | None = None
    keystream: Keystream | None = None  # that scrambles the stream on its way

    @property
    def manifest_bytes(self) -> bytes:
        """The manifest as it is coded, the seal before it."""
        return (b"" if self.seal is None else self.seal.to_bytes()) + self.manifest.to_bytes()

    @functools.cached_property
    def stream_on_air(self) -> np.ndarray:
        """The stream, under its key where the burst is sealed, otherwise turned where that avoids pulses."""
        if self.keystream is not None:
            return scramble(self.stream, self.keystream)
        return turn(self.stream) if self.header.flags & SCRAMBLED else self.stream

    @property
    def num_samples(self) -> int:
        """Samples of one cycle."""
        return self.header.num_frames * frame_samples(self.header, self.fmt)


def lay_out(
    card: ModelCard,
    parts: Sequence[tuple[Part, np.ndarray]],
    seed: int = 0,
    fmt: FrameFormat = DEFAULT_FORMAT,
    run: Callable = map,
    **fields,
) -> Burst:
    """The burst of a network: the manifest of its parts, and their symbols one after the other.

    parts : payload parts and their symbols (num_symbols,) complex64, as `encode` returns them
    seed : part of the burst id, to distinguish two bursts of the same model
    run : maps a function over parts of the work, `map` or an executor's
    fields : further fields of the manifest
    """
    manifest = Manifest(card, tuple(payload for payload, _ in parts), **fields)
    stream = parts[0][1] if len(parts) == 1 else np.concatenate([symbols for _, symbols in parts])
    shares = np.array_split(stream.view(np.uint64), 1 + 2 * stream.size // SHARE_WEIGHTS)
    parity = np.bitwise_xor.reduce(list(run(np.bitwise_xor.reduce, shares)))
    content = stream[:: max(1, stream.size >> 16)].tobytes() + parity.tobytes()
    burst_id = zlib.crc32(manifest.to_bytes() + str(seed).encode() + content)
    header = layout_burst(stream.size, len(manifest.to_bytes()), burst_id, fmt)
    if needs_scrambling(stream):
        header = dataclasses.replace(header, flags=SCRAMBLED)
    return Burst(header, manifest, stream, tuple(symbols.size for _, symbols in parts), fmt)


def sealed(burst: Burst, key: Key) -> Burst:
    """The burst for holders of a key alone, under the key's next counter."""
    manifest = burst.manifest.to_bytes()
    header = layout_burst(burst.stream.size, SEAL_BYTES + len(manifest), burst.header.burst_id, burst.fmt)
    header = dataclasses.replace(header, flags=header.flags | KEYED)
    padded = manifest.ljust(manifest_capacity(header, burst.fmt) - SEAL_BYTES, b"\0")
    seal = key.seal(header, padded, key.next_counter())
    return dataclasses.replace(burst, header=header, seal=seal, keystream=key.keystream(header, seal.counter))


def transmission(burst: Burst, cycles: int = 1) -> Iterator[tuple[np.ndarray, str | None]]:
    """Silence, ``cycles`` cycles of the burst (0: endless), silence, as (samples, label).

    Each frame is one item with a label. The silence after the burst flushes the filters on the way.
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
    chunks = control.encode_manifest(burst.manifest_bytes, burst.header, burst.fmt)
    rows = deal(burst.stream_on_air, burst.header.num_frames, run)

    def tile(numbers):
        headers = [dataclasses.replace(burst.header, frame=number) for number in numbers]
        payload = interleave(rows, headers, burst.fmt)
        return modulate_frames(headers, chunks[numbers.start : numbers.stop], payload, burst.fmt)

    numbers = range(burst.header.num_frames)
    tiles = [numbers[first : first + TILE_FRAMES] for first in numbers[::TILE_FRAMES]]
    groups = (run(tile, tiles[first : first + TILES_AHEAD]) for first in range(0, len(tiles), TILES_AHEAD))
    # an executor modulates the next group while one is sent
    for group, _ in itertools.pairwise(itertools.chain(groups, [None])):
        yield from itertools.chain.from_iterable(group)


def modulate_frames(headers: list[Header], chunks: np.ndarray, payload: np.ndarray, fmt: FrameFormat) -> np.ndarray:
    """Frames (frames, frame_samples): preamble, then header, manifest chunk and payload slots among the pilots."""
    slots = np.concatenate([control.encode_headers(headers, fmt), chunks, payload], axis=1)
    return ofdm.modulate(ofdm.fill_grid(slots, fmt), fmt).reshape(len(headers), -1)


def modulate_frame(header: Header, chunk: np.ndarray, payload: np.ndarray, fmt: FrameFormat) -> np.ndarray:
    """One frame (frame_samples,)."""
    return modulate_frames([header], chunk[None], payload[None], fmt)[0]
