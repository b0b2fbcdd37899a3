"""The parsers of what others send or store: for each its valid inputs, how they are changed, and what must hold.

A target takes any bytes. It returns the kind of its outcome, and raises a LinkError for what it refuses; any other
exception, and any broken promise, is a finding.
"""

import dataclasses
import functools
import json
import os
import random
import struct
import tempfile
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save as save_tensors

from airnet_sdr.dsp.errors import LinkError
from airnet_sdr.dsp.frame import (
    DEFAULT_FORMAT,
    MAX_MANIFEST_USES,
    VERSION,
    Header,
    frame_samples,
    manifest_capacity,
    payload_slots,
)
from airnet_sdr.dsp.radio import open_sink, open_source, parse
from airnet_sdr.dsp.radio.address import RADIOS
from airnet_sdr.dsp.radio.zmq_stream import MAX_MESSAGE_SAMPLES, samples_of, samples_wanted
from airnet_sdr.models import checkpoint as checkpoints
from airnet_sdr.models.beside import CodedState, State
from airnet_sdr.models.digital import compress
from airnet_sdr.models.digital.quantise import MAX_LEVEL, dequantise, quantise, step_code
from airnet_sdr.models.manifest import Manifest
from airnet_sdr.models.packing import tensors_of
from airnet_sdr.models.statistics import MadeUp
from airnet_sdr.tests.fuzz import seeds
from airnet_sdr.tests.fuzz.mutate import mutated, mutated_tree

NUMELS = (24, 4, 12, 3)  # of tensors that a digital body is decoded to
MOST_CHANNELS = 64  # of the architecture that a state is decoded for
Mutation = Callable[[random.Random, bytes, Sequence[bytes]], bytes]


@dataclasses.dataclass(frozen=True)
class Target:
    """A parser under attack.

    seeds : makes the valid inputs
    parse : parses one input; returns the kind of its outcome
    mutate : changes a valid input
    share : of the inputs of a long run
    """

    name: str
    seeds: Callable[[], Sequence[bytes]]
    parse: Callable[[bytes], Hashable]
    share: float
    mutate: Mutation = mutated

    def outcome(self, data: bytes) -> tuple:
        """The kind of outcome of an input; two inputs that take the same way have the same."""
        try:
            return True, self.parse(data)
        except LinkError as error:
            text = "".join(letter for letter in str(error) if not letter.isdigit())
            assert "\n" not in text, f"a message of several lines: {text!r}"
            return False, type(error).__name__, text[:24], text[-24:]


def parse_header(data: bytes) -> Hashable:
    """Any 10 bytes are a header, which says the same again; one that is consistent asks for bounded memory."""
    header = Header.from_bytes(data)
    assert header.to_bytes() == data
    consistent = header.consistent(DEFAULT_FORMAT)
    if consistent:
        assert 0 < payload_slots(header, DEFAULT_FORMAT) < frame_samples(header, DEFAULT_FORMAT)
        assert 0 < manifest_capacity(header, DEFAULT_FORMAT) < MAX_MANIFEST_USES
        assert header.burst_key.frame == 0 and header.burst_key.consistent(DEFAULT_FORMAT)
    return consistent, header.version == VERSION


def header_seeds() -> Sequence[bytes]:
    """Headers of real bursts."""
    return tuple(burst.header.to_bytes() for each in seeds.bursts().values() for burst in each)


def mutated_header(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """By fields more often than by bytes; always as long as a header."""
    if rng.random() < 0.7:
        return seeds.random_header(rng).to_bytes()
    return mutated(rng, data, others).ljust(len(data), b"\0")[: len(data)]


def parse_manifest(data: bytes) -> Hashable:
    """What is a manifest is written as one that means the same, and says how many symbols it needs."""
    manifest = Manifest.from_bytes(data)
    written = manifest.to_bytes()
    assert Manifest.from_bytes(written).to_bytes() == written
    try:
        needed = manifest.num_symbols(list(NUMELS))
    except LinkError:  # of another network
        needed = 0
    assert needed >= 0
    return manifest.scheme, len(manifest.card.widths) > 0, len(manifest.card.metrics) > 0, needed > 0


def parse_body(data: bytes) -> Hashable:
    """Every body is tensors of the right sizes with finite weights."""
    tensors = compress.decode(data, list(NUMELS))
    for tensor, numel in zip(tensors, NUMELS, strict=True):
        assert tensor.levels.shape == (numel,) and np.abs(tensor.levels).max() <= MAX_LEVEL
        assert np.isfinite(dequantise(tensor)).all()
    return tuple(int(np.abs(tensor.levels).max()).bit_length() for tensor in tensors)


def body_seeds() -> Sequence[bytes]:
    """Bodies of sparse and of full tensors."""
    rng = np.random.default_rng(4)
    shapes = ((4, 6), (4,), (3, 4), (3,))
    found = []
    for scale in (0.3, 1.0, 3.0, 40.0):
        tensors = [scale * rng.standard_normal(shape) for shape in shapes]
        found.append(compress.encode([quantise(tensor, step_code(1.0)) for tensor in tensors]))
    return tuple(found)


def parse_state(data: bytes) -> Hashable:
    """A state of the architecture's channels, or fewer, has finite differences, whatever its bytes."""
    state = CodedState.from_bytes(data)
    if state.num_channels > MOST_CHANNELS:
        raise LinkError(f"{state.num_channels} channels are not the architecture's")
    assert state.made_up is None or state.made_up.draw(1).shape == (1, *state.made_up.shape)
    if state.num_channels:
        assert state.difference.shape == (2, state.num_channels) and np.isfinite(state.difference).all()
    return len(state.exact) > 0, state.num_channels > 0, state.made_up is not None, state.num_levels


def state_seeds() -> Sequence[bytes]:
    """States with and without exact buffers, differences and made-up inputs, in coarse steps and in two."""
    rng = np.random.default_rng(5)
    found = [State(b"exact").to_bytes(0.1)]
    for made in (None, MadeUp((3, 8, 8), True, 120.0, 60.0), MadeUp((16,), False, 0.0, 1.0)):
        for scale in (0.3, 30.0):
            found.append(State(b"", (scale * rng.standard_normal((2, 20))).astype(np.float32), made).to_bytes(0.1))
    return tuple(found)


@functools.cache
def _folder() -> Path:
    """A folder for the files that a parser opens; in memory where there is such a place."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=place))
    with open_sink(f"file:{folder / 'seed.sigmf-meta'}") as sink:
        sink.send(np.ones(64, np.complex64), "cycle 0 frame 0")
        sink.send(np.ones(64, np.complex64), "cycle 0 frame 1")
    os.link(folder / "seed.sigmf-data", folder / "parsed.sigmf-data")
    return folder


def parse_recording(data: bytes) -> Hashable:
    """What is metadata has a rate and a carrier that can be, and samples to read."""
    path = _folder() / "parsed.sigmf-meta"
    path.write_bytes(data)
    with open_source(f"file:{path}") as source:
        assert 0 < source.rate_hz < 1e13 and 0 < source.freq_hz < 1e13
        block = source.read()
        assert block.dtype == np.complex64 and 0 < block.size <= 1024
        return len(source.warnings), block.size


@functools.cache
def recording_seeds() -> Sequence[bytes]:
    """The metadata that the sink writes, and some with fields that others write."""
    meta = json.loads((_folder() / "seed.sigmf-meta").read_text())
    more = {"core:num_channels": 1, "core:offset": 0, "core:extensions": [], "core:version": "1.2.0"}
    other = {**meta, "global": {**meta["global"], **more, "core:datatype": "ci16_le"}}
    return tuple(json.dumps(each).encode() for each in (meta, other))


def mutated_json(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """By values more often than by bytes."""
    if rng.random() < 0.75:
        return json.dumps(mutated_tree(rng, json.loads(data))).encode()
    return mutated(rng, data, others)


def parse_checkpoint(data: bytes) -> Hashable:
    """What is a checkpoint has finite tensors."""
    path = _folder() / "parsed.safetensors"
    path.write_bytes(data)
    checkpoint = checkpoints.load(path)
    assert all(np.isfinite(tensor).all() for tensor in checkpoint.tensors.values())
    return len(checkpoint.tensors), len(checkpoint.metadata)


@functools.cache
def checkpoint_seeds() -> Sequence[bytes]:
    """Checkpoints of the tiny network: as they are written, half as long, and with levels."""
    tensors = tensors_of(seeds.network())
    known = {"arch": seeds.TINY, "dataset": "none", "accuracy": "0.5"}
    levels = {**known, "steps": ",".join(["32768"] * len(tensors)), "parts": "8", "bits": "90", "validation": "0.5"}
    halves = {name: tensor.astype(np.float16) for name, tensor in tensors.items()}
    return (
        save_tensors(tensors, known),
        save_tensors(halves, {**known, "accuracy": "none"}),
        save_tensors(tensors, levels),
    )


def mutated_checkpoint(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """The header, which is JSON, by values; or the file by bytes."""
    if rng.random() < 0.3:
        return mutated(rng, data, others)
    length = int.from_bytes(data[:8], "little")
    tree, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    if rng.random() < 0.6:
        tree["__metadata__"] = mutated_tree(rng, tree["__metadata__"])
        if rng.random() < 0.7 and isinstance(tree["__metadata__"], dict):  # the format has texts only
            tree["__metadata__"] = {name: str(value) for name, value in tree["__metadata__"].items()}
    else:
        tree = mutated_tree(rng, tree)
    header = json.dumps(tree).encode()
    return struct.pack("<Q", len(header)) + header + body


def parse_message(data: bytes) -> Hashable:
    """A message is samples or none; a request asks for a bounded number."""
    samples, wanted = samples_of([memoryview(b"key"), memoryview(data)]), samples_wanted(data)
    assert samples is None or (samples.dtype == np.complex64 and 8 * samples.size == len(data))
    assert wanted is None or 0 < wanted <= MAX_MESSAGE_SAMPLES
    return samples is None, wanted is None


def parse_address(data: bytes) -> Hashable:
    """What is an address is the same address again."""
    address = parse(data.decode("latin-1"))
    assert parse(str(address)) == address
    return address.scheme, tuple(address.options)


def address_seeds() -> Sequence[bytes]:
    """The forms that the help shows."""
    forms = [form for radio in RADIOS.values() for form, _ in radio.help if form]
    forms += ["zmq:tcp://[::1]:5555?pattern=rep&bind=1", "soapy:driver=lime,channel=1,antenna=LNAW", "zmq:ipc:///tmp/x"]
    return tuple(form.replace("HOST:PORT", "127.0.0.1:5555").encode() for form in forms)


TARGETS = (
    Target("header", header_seeds, parse_header, 0.43, mutated_header),
    Target("manifest", seeds.manifests, parse_manifest, 0.155),
    Target("digital body", body_seeds, parse_body, 0.05),
    Target("state", state_seeds, parse_state, 0.01),
    Target("message", lambda: (bytes(64), b"\xff", b"\0\0\1\0"), parse_message, 0.215),
    Target("address", address_seeds, parse_address, 0.105),
    Target("recording", recording_seeds, parse_recording, 0.025, mutated_json),
    Target("checkpoint", checkpoint_seeds, parse_checkpoint, 0.01, mutated_checkpoint),
)
