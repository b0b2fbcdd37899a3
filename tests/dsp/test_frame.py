import dataclasses

import numpy as np
import pytest

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.frame import (
    DEFAULT_FORMAT,
    FrameFormat,
    Header,
    frame_samples,
    layout_burst,
    manifest_capacity,
    manifest_slots,
    payload_slots,
)

FMT = DEFAULT_FORMAT


def random_header(rng):
    """Any header that a sender may make."""
    while True:
        num_frames = int(rng.integers(1, 1 << int(rng.integers(1, 15))))
        frame, steps = int(rng.integers(num_frames)), int(rng.integers(1, 64))
        header = Header(int(rng.integers(1 << 32)), frame, num_frames, int(rng.integers(1, 65)), steps)
        if header.consistent(FMT):
            return header


def test_headers_round_trip():
    rng = np.random.default_rng(1)
    for _ in range(2000):
        header = random_header(rng)
        data = header.to_bytes()
        assert len(data) == 10 and Header.from_bytes(data) == header


def test_any_ten_bytes_are_a_header_and_the_same_bytes_again():
    rng = np.random.default_rng(2)
    for data in [b"\0" * 10, b"\xff" * 10, *(rng.bytes(10) for _ in range(2000))]:
        header = Header.from_bytes(data)
        assert header.to_bytes() == data
        header.consistent(FMT)


@pytest.mark.parametrize("field, value", [
    ("burst_id", 1 << 32), ("burst_id", -1), ("frame", 16384), ("num_frames", 0), ("num_frames", 16385),
    ("num_symbols", 0), ("num_symbols", 65), ("num_chunk_steps", 64), ("version", 16), ("flags", 16),
])  # fmt: skip
def test_a_field_that_does_not_fit_is_an_input_error(field, value):
    header = dataclasses.replace(Header(1, 2, 3, 4, 5), **{field: value})
    with pytest.raises(InputError, match=f"{field}.*{value}"):
        header.to_bytes()


@pytest.mark.parametrize("fields", [
    {"frame": 4}, {"frame": 16383, "num_frames": 9}, {"num_symbols": 1, "num_chunk_steps": 5},
    {"num_symbols": 5, "num_chunk_steps": 63}, {"num_chunk_steps": 0}, {"num_frames": 1, "num_chunk_steps": 1},
])  # fmt: skip
def test_hostile_headers_are_inconsistent(fields):
    """Frames past the last, no payload slot, no room for a manifest."""
    header = dataclasses.replace(Header(1, 0, 4, 8, 4), **fields)
    assert Header(1, 0, 4, 8, 4).consistent(FMT) and not header.consistent(FMT)


def test_active_subcarriers_surround_dc():
    assert FMT.num_active == FMT.subcarriers.size == np.unique(FMT.bins).size == 800
    assert 0 not in FMT.subcarriers and np.array_equal(FMT.subcarriers, -FMT.subcarriers[::-1])


def test_pilots_and_data_slots_share_out_every_symbol_and_pilots_visit_the_band():
    both = np.sort(np.concatenate([FMT.pilot_index, FMT.data_index], axis=1), axis=1)
    assert np.array_equal(both, np.tile(np.arange(FMT.num_active), (len(both), 1)))
    spacing = FMT.num_active // FMT.num_pilots
    visited = np.unique(FMT.pilot_index[: FMT.max_symbols_per_frame] % spacing)
    assert np.diff(np.r_[visited, visited[0] + spacing]).max() <= 4  # no gap in the band beyond 4 subcarriers
    assert np.unique(FMT.pilot_index[:spacing] % spacing).size == spacing


def test_tables_are_read_only():
    for table in (FMT.preamble, FMT.pilots, FMT.pilot_index, FMT.data_index, FMT.scramble, FMT.subcarriers):
        with pytest.raises(ValueError):
            table[0] = 0


@pytest.mark.parametrize("fields", [{"num_active": 801}, {"num_active": 1024}, {"num_pilots": 17}])
def test_a_senseless_numerology_is_an_input_error(fields):
    with pytest.raises(InputError):
        FrameFormat(**fields)


@pytest.mark.parametrize("manifest_bytes", [1, 30, 98, 200, 333, 700, 2000, 5000])
def test_any_burst_is_laid_out_consistently(manifest_bytes):
    """From 1 symbol to 3 million: all payload and manifest fit, in as many frames as stated."""
    rng = np.random.default_rng(manifest_bytes)
    sizes = {1, 2, 783, 784, 785, 3_000_000, *(int(n) for n in np.exp(rng.uniform(0, np.log(3e6), 150)))}
    for num_payload in sizes:
        header = layout_burst(num_payload, manifest_bytes, 5, FMT)
        assert header.consistent(FMT) and Header.from_bytes(header.to_bytes()) == header
        assert header.num_frames >= FMT.min_frames and header.num_symbols <= FMT.max_symbols_per_frame
        assert header.num_frames * payload_slots(header, FMT) >= num_payload
        assert manifest_capacity(header, FMT) >= manifest_bytes
        # no OFDM symbol is sent for nothing: with one fewer a frame the payload would not fit
        shorter = dataclasses.replace(header, num_symbols=max(header.num_symbols - 1, 1))
        assert header.num_symbols == 1 or header.num_frames * payload_slots(shorter, FMT) < num_payload


def test_too_large_a_model_is_an_input_error():
    with pytest.raises(InputError):
        layout_burst(400_000_000, 1000, 0, FMT)
    with pytest.raises(InputError):
        layout_burst(1000, 10_000_000, 0, FMT)


@pytest.mark.parametrize("num_payload, manifest_bytes, most_db", [
    (174_700, 98, 0.73), (160_000, 200, 0.93), (1_000_000, 300, 0.63), (3_000_000, 300, 0.63), (10_000, 60, 3.0),
])  # fmt: skip
def test_overhead_is_the_stated_one(num_payload, manifest_bytes, most_db):
    """Energy of all samples over that of the payload symbols, where a sample and a payload symbol have unit power."""
    header = layout_burst(num_payload, manifest_bytes, 0, FMT)
    payload_energy = num_payload * FMT.fft_size / FMT.num_active
    overhead_db = 10 * np.log10(header.num_frames * frame_samples(header, FMT) / payload_energy)
    assert 0.45 < overhead_db < most_db


def test_manifest_slots_are_six_a_bit_with_a_crc_of_32():
    assert manifest_slots(100) == 6 * 832
