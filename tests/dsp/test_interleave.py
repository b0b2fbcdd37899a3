import dataclasses
import math

import numpy as np
import pytest

from airnet_sdr.dsp.frame import DEFAULT_FORMAT, Header, layout_burst, payload_slots
from airnet_sdr.dsp.interleave import GOLDEN, accumulate, collect, coprime, deal, interleave
from airnet_sdr.tests.link import white

LAYOUTS = [layout_burst(*sizes, 0) for sizes in [(1, 30), (1000, 30), (10_000, 60), (60_000, 333), (160_000, 98)]]


def frames_of(header):
    return [dataclasses.replace(header, frame=f) for f in range(header.num_frames)]


@pytest.mark.parametrize("num, num_frames", [(1, 1), (1, 4), (5, 4), (1000, 7), (100_003, 64), (100_003, 3)])
def test_dealing_and_collecting_are_inverse(num, num_frames):
    stream = white(num, 1.0, 1)
    rows = deal(stream, num_frames)
    assert rows.dtype == np.complex64 and rows.shape == (num_frames, -(-num // num_frames))
    padded = np.zeros(rows.size, np.complex64)
    padded[:num] = stream
    assert np.array_equal(rows, padded.reshape(-1, num_frames).T)
    assert np.array_equal(collect(rows, num), stream)
    wider = np.pad(rows, ((0, 0), (0, 5)), constant_values=np.nan)  # what lies past the stream is left out
    assert np.array_equal(collect(wider, num), stream)


@pytest.mark.parametrize("header", [*LAYOUTS, Header(0, 0, 1, 3, 4), Header(0, 0, 2, 1, 3)])
def test_the_interleaver_is_a_bijection(header):
    """Every stream position has one slot of one frame, and every slot one position."""
    slots, count = payload_slots(header, DEFAULT_FORMAT), header.num_frames
    stream = np.arange(slots * count).astype(np.complex64)
    sent = interleave(deal(stream, count), frames_of(header))
    assert np.array_equal(np.sort(np.concatenate(sent).real), stream.real)
    back = np.zeros((count, slots), np.complex64)
    for h, frame in zip(frames_of(header), sent, strict=True):
        accumulate(frame, h, back)
    assert np.array_equal(collect(back, stream.size), stream)


def test_a_short_stream_leaves_its_slots_empty_and_repeats_add_up():
    header = layout_burst(5000, 50, 0)
    stream = white(5000, 1.0, 1)
    rows = deal(stream, header.num_frames)
    sent = interleave(rows, frames_of(header))
    assert np.count_nonzero(np.concatenate(sent)) == 5000
    back = np.zeros((header.num_frames, payload_slots(header, DEFAULT_FORMAT)), np.complex64)
    for h, frame in [*zip(frames_of(header), sent, strict=True)] * 2:
        accumulate(frame, h, back)
    assert np.array_equal(collect(back, 5000), 2 * stream) and not collect(back, back.size)[5000:].any()


def owners(header, num_payload):
    """The frame that carries each stream position (num_payload,)."""
    rows = np.zeros((header.num_frames, payload_slots(header, DEFAULT_FORMAT)))
    for h in frames_of(header):
        accumulate(np.full(rows.shape[1], float(h.frame)), h, rows)
    return collect(rows, num_payload).astype(int)


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


def test_a_lost_ofdm_symbol_takes_a_sparse_sample():
    """Of any 200 stream neighbours in a frame at most twice the fair share lies in one OFDM symbol."""
    header = layout_burst(160_000, 98, 0)
    slots = payload_slots(header, DEFAULT_FORMAT)
    order = np.zeros((header.num_frames, slots), int)
    accumulate(np.arange(slots), header, order)  # frame 0 has row 0
    symbol = order[0] // DEFAULT_FORMAT.slots_per_symbol
    share = 200 * DEFAULT_FORMAT.slots_per_symbol / slots
    for start in range(0, slots - 200, 97):
        assert np.bincount(symbol[start : start + 200]).max() <= 2 * share


def test_strides_are_coprime_for_every_modulus():
    for modulus in range(1, 3000):
        for least in (modulus**0.5, GOLDEN * modulus):
            stride = coprime(modulus, least)
            assert math.gcd(stride, modulus) == 1 and least - 0.5 <= stride <= least + 20


def test_slots_that_do_not_fit_their_row_are_refused():
    header = layout_burst(1000, 50, 0)
    slots = payload_slots(header, DEFAULT_FORMAT)
    for size in (slots - 1, slots + 1):
        with pytest.raises(ValueError, match="does not fit"):
            accumulate(np.ones(size, np.complex64), header, np.zeros((header.num_frames, slots), np.complex64))
