"""Hostile bursts through the whole receiver: frames -> samples -> synchronisation -> manifest -> weights -> report."""

import dataclasses
import json
import random
from collections.abc import Callable, Hashable

import numpy as np

from airnet_sdr.dsp import control
from airnet_sdr.dsp.errors import LinkError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, Header, manifest_capacity, payload_slots
from airnet_sdr.rx.receiver import receive
from airnet_sdr.tests.fuzz import seeds
from airnet_sdr.tests.fuzz.mutate import mutated
from airnet_sdr.tx.burst import Burst, modulate, modulate_frames

MOST_FRAMES, MOST_SAMPLES = 8, 60_000  # of a burst: a hostile sender's air is as dear as another's
MOST_CODED = 1 << 14  # uses of a manifest that are coded; a longer one is noise to the receiver
SLOW_SCHEMES = 0.05  # share of bursts whose payload is decoded by a channel code, which takes 50 ms
LEVELS = (0.0, 1e-30, 1e-3, 1.0, 30.0, 1e7, 1e30, np.inf, np.nan)


def attack(seed: int) -> Hashable:
    """One reception of hostile samples, which follow from the seed; returns the kind of its outcome.

    Any exception but a LinkError, and any report that is no JSON, is a finding.
    """
    samples = hostile_samples(random.Random(seed))
    try:
        reception = receive(samples, evaluate="none", architecture=seeds.TINY, timeout_s=5)
    except LinkError as error:
        return type(error).__name__, str(error).split(" ", 1)[0]
    report = json.dumps(reception.report, allow_nan=False)
    return "received", reception.report["scheme"], len(reception.report["warnings"]), bool(report)


def hostile_samples(rng: random.Random) -> np.ndarray:
    """One or two bursts, each hostile in its own way, on one air, complex64 (n,)."""
    cuts = [np.zeros(rng.randrange(2000), np.complex64)]
    for _ in range(rng.choice((1, 1, 1, 2))):
        cuts += [hostile_burst(rng), np.zeros(rng.choice((0, 100, 3000)), np.complex64)]
    samples = np.concatenate(cuts)[:MOST_SAMPLES]
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        samples = rng.choice(AIR)(rng, samples)
    return np.ascontiguousarray(samples, np.complex64)


def hostile_burst(rng: random.Random) -> np.ndarray:
    """The samples of a burst of which header, manifest, payload or order of frames is not what it should be."""
    kinds = seeds.bursts()
    slow = rng.random() < SLOW_SCHEMES
    burst = rng.choice(rng.choice([kinds[kind] for kind in kinds if (kind != "analog") == slow] or [kinds["analog"]]))
    kind = rng.random()
    if kind < 0.1:
        return np.concatenate(_shuffled(rng, list(modulate(burst))))
    header, manifest = burst.header, burst.manifest.to_bytes()
    if kind < 0.75:
        manifest = mutated(rng, manifest, seeds.manifests())
    if kind > 0.5:
        header = hostile_header(rng, header)
    return np.concatenate(_shuffled(rng, list(frames_of(rng, burst, header, manifest))))


def hostile_header(rng: random.Random, header: Header) -> Header:
    """A header that passes its CRC, and some of whose fields say what they like."""
    other = seeds.random_header(rng)
    names = rng.sample([name for name, _, _ in Header._LAYOUT], rng.choice((1, 1, 2)))
    return dataclasses.replace(header, **{name: getattr(other, name) for name in names})


def frames_of(rng: random.Random, burst: Burst, header: Header, manifest: bytes):
    """Frames under the header, as many as are worth the time, each (frame_samples,) complex64.

    The manifest is coded for this header, so that the receiver decodes it whatever it says.
    """
    fmt = DEFAULT_FORMAT
    if payload_slots(header, fmt) <= 0 or not manifest_capacity(header, fmt):
        header = burst.header  # there is no way to send it
    num, steps = min(header.num_frames, MOST_FRAMES), header.num_chunk_steps * fmt.chunk_step
    room = manifest_capacity(header, fmt)
    coded = header.num_frames * steps <= MOST_CODED
    chunks = control.encode_manifest(manifest[:room], header, fmt)[:num] if coded else np.ones((num, steps))
    generator = np.random.default_rng(rng.getrandbits(32))
    for number in range(num):
        of_frame = dataclasses.replace(header, frame=number if rng.random() < 0.95 else header.frame)
        payload = np.resize(burst.stream, payload_slots(header, fmt)) * np.complex64(rng.choice((1, 1, 1, 0, 4)))
        if rng.random() < 0.2:
            payload = generator.standard_normal(payload.size).astype(np.complex64)
        yield modulate_frames(
            [of_frame], chunks[number : number + 1].astype(np.complex64), payload[None].astype(np.complex64), fmt
        )[0]


def _shuffled(rng, frames: list[np.ndarray]) -> list[np.ndarray]:
    """The frames in another order, with some repeated or missing, now and then."""
    kind = rng.random()
    if kind < 0.1:
        rng.shuffle(frames)
    elif kind < 0.2:
        frames = [frame for frame in frames for _ in range(rng.choice((0, 1, 2)))]
    return frames or [np.zeros(1, np.complex64)]


def _noise(rng, samples):
    generator = np.random.default_rng(rng.getrandbits(32))
    noise = generator.standard_normal((samples.size, 2), np.float32).view(np.complex64)[:, 0]
    return samples + np.float32(rng.choice((0.01, 0.1, 0.5, 2))) * noise


def _carrier(rng, samples):
    with np.errstate(all="ignore"):
        return samples * np.exp(1j * rng.uniform(-0.5, 0.5) * np.arange(samples.size)).astype(np.complex64)


def _hit(rng, samples):
    """A stretch at another level, of numbers that are none, or lost."""
    samples, start = samples.copy(), rng.randrange(samples.size)
    stop = start + rng.choice((1, 100, 3000))
    if rng.random() < 0.3:
        return np.delete(samples, slice(start, stop)) if samples.size > stop - start else samples
    with np.errstate(all="ignore"):
        samples[start:stop] *= np.float32(rng.choice(LEVELS))
    return samples


def _scaled(rng, samples):
    with np.errstate(all="ignore"):
        return samples * np.complex64(rng.choice(LEVELS) * np.exp(2j * np.pi * rng.random()))


def _cut(rng, samples):
    return samples[rng.randrange(samples.size) :]


AIR: tuple[Callable, ...] = (_noise, _carrier, _hit, _scaled, _cut)
