import dataclasses
import math

import numpy as np
import pytest

from dsp.frame import DEFAULT_FORMAT, Header, layout_burst, payload_slots
from dsp.interleave import deinterleave, golden_stride, interleave, stream_residue
from tests.link import white

LAYOUTS = [layout_burst(*sizes, 0) for sizes in [(1, 30), (1000, 30), (10_000, 60), (60_000, 333), (160_000, 98)]]


def frames_of(header):
    return [dataclasses.replace(header, frame=f) for f in range(header.num_frames)]


@pytest.mark.parametrize("header", [*LAYOUTS, Header(0, 0, 1, 3, 4), Header(0, 0, 2, 1, 4)])
def test_the_interleaver_is_a_bijection(header):
    """Every stream position has one slot of one frame, and every slot one position."""
    slots, count = payload_slots(header, DEFAULT_FORMAT), header.num_frames
    stream = np.arange(slots * count).astype(np.complex64)
    sent = [interleave(stream, h) for h in frames_of(header)]
    assert np.array_equal(np.sort(np.concatenate(sent).real), stream.real)
    back = np.empty_like(stream)
    for h, frame in zip(frames_of(header), sent, strict=True):
        back[stream_residue(h) :: count] = deinterleave(frame, h)
    assert np.array_equal(back, stream)


def test_a_short_stream_leaves_its_slots_empty():
    header = layout_burst(5000, 50, 0)
    stream = white(5000, 1.0, 1)
    sent = [interleave(stream, h) for h in frames_of(header)]
    assert np.count_nonzero(np.concatenate(sent)) == 5000
    back = np.zeros(payload_slots(header, DEFAULT_FORMAT) * header.num_frames, np.complex64)
    for h, frame in zip(frames_of(header), sent, strict=True):
        back[stream_residue(h) :: header.num_frames] = deinterleave(frame, h)
    assert np.array_equal(back[:5000], stream) and not back[5000:].any()


def owners(header, num_payload):
    """The frame that carries each stream position (num_payload,)."""
    frame = np.empty(num_payload, int)
    for h in frames_of(header):
        frame[stream_residue(h) :: header.num_frames] = h.frame
    return frame


@pytest.mark.parametrize("num_payload", [10_000, 175_000, 1_000_000])
def test_a_lost_frame_costs_every_layer_its_fair_share(num_payload):
    """Between 0.7 and 1.3 of 1/F of any layer of 10·F symbols or more, wherever it lies in the stream."""
    header = layout_burst(num_payload, 98, 0)
    owner = owners(header, num_payload)
    rng = np.random.default_rng(2)
    for _ in range(300):
        length = int(np.exp(rng.uniform(np.log(10 * header.num_frames), np.log(num_payload))))
        start = int(rng.integers(num_payload - length + 1))
        share = np.bincount(owner[start : start + length], minlength=header.num_frames) / length * header.num_frames
        assert 0.7 <= share.min() and share.max() <= 1.3


@pytest.mark.parametrize("copies", [2, 3, 4])
def test_copies_of_a_symbol_travel_in_different_frames(copies):
    header = layout_burst(copies * 40_000, 98, 0)
    assert header.num_frames >= copies
    groups = np.sort(owners(header, copies * 40_000).reshape(-1, copies), axis=1)
    assert np.all(np.diff(groups, axis=1) > 0)


def test_neighbours_of_a_frame_are_far_apart_in_time_and_frequency():
    """A lost OFDM symbol takes a sparse sample: 1.5 times its share of any 100 neighbours in a frame at most."""
    header = layout_burst(160_000, 98, 0)
    slots = payload_slots(header, DEFAULT_FORMAT)
    order = deinterleave(np.arange(slots), header)
    symbol = (order + DEFAULT_FORMAT.header_symbols + header.num_chunk_steps * DEFAULT_FORMAT.chunk_step) // 784
    for start in range(0, slots - 100, 97):
        counts = np.bincount(symbol[start : start + 100])
        assert counts.max() <= max(1.5 * 100 / header.num_symbols, 100 / header.num_symbols + 2)


def test_golden_stride_is_coprime_for_every_modulus():
    for modulus in range(1, 3000):
        stride = golden_stride(modulus)
        assert math.gcd(stride, modulus) == 1 and (modulus < 20 or 0.6 < stride / modulus < 0.75)
