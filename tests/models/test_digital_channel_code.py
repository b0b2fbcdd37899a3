"""The coded chain: inverse, its waterfall against its own table and against the capacity, refusals."""

import dataclasses

import numpy as np
import pytest

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.units import linear
from airnet_sdr.models.digital.channel_code import MODULATIONS, BlockCode, CodedPayload, decode, encode
from airnet_sdr.models.digital.rate import arrival, best_payload, least_symbols, measure_threshold
from airnet_sdr.tests.link import white

pytest.importorskip("sionna", reason="the digital scheme needs sionna-no-rt")


def through(symbols, snr_db, seed):
    """Matched-filter outputs and SNRs of symbols in white noise."""
    snr = float(linear(snr_db))
    received = symbols + white(symbols.size, 1 / snr, seed)
    return (received * snr).astype(np.complex64), np.full(symbols.size, snr, np.float32)


@pytest.mark.parametrize("bits_per_symbol", MODULATIONS)
@pytest.mark.parametrize("num_bytes, rate", [(100, 0.1), (1000, 0.5), (3000, 0.6)])
def test_bytes_arrive_exactly_well_above_the_threshold(bits_per_symbol, num_bytes, rate):
    data = np.random.default_rng(1).bytes(num_bytes)
    payload = CodedPayload(num_bytes, round(8 * num_bytes / rate / bits_per_symbol) + 7, bits_per_symbol)
    symbols = encode(data, payload)
    assert symbols.dtype == np.complex64 and symbols.shape == (payload.num_symbols,)
    assert np.mean(np.abs(symbols) ** 2) == pytest.approx(1, abs=0.1)
    assert decode(*through(symbols, 30, 2), payload) == data


@pytest.mark.parametrize("bits_per_symbol", MODULATIONS)
@pytest.mark.parametrize("data", [b"", b"\xff" * 1000])
def test_symbols_have_unit_power_whatever_the_bytes(bits_per_symbol, data):
    """In every part of them: a payload is padded with zeros, which made one and the same QAM point in a row."""
    symbols = encode(data, CodedPayload(1000, 24_000 // bits_per_symbol, bits_per_symbol))
    for part in np.array_split(symbols, 4):
        assert np.mean(np.abs(part) ** 2) == pytest.approx(1, abs=0.1)
        assert abs(part.mean()) < 0.1


def test_noise_gives_none():
    payload = CodedPayload(500, 4000, 2)
    assert decode(*through(np.zeros(4000, np.complex64), 5, 3), payload) is None


def test_erased_symbols_are_bridged():
    data = bytes(range(200))
    payload = CodedPayload(200, 3000, 2)
    statistic, information = through(encode(data, payload), 12, 4)
    lost = np.random.default_rng(5).random(3000) < 0.3
    statistic[lost], information[lost] = 0, 0
    assert decode(statistic, information, payload) == data


@pytest.mark.parametrize("arguments", [(0, 10, 2), (100, 10, 2), (1000, 2000, 4), (10, 100, 3)])
def test_what_cannot_be_is_refused(arguments):
    with pytest.raises(InputError):
        CodedPayload(*arguments)


def test_too_many_bytes_are_refused():
    with pytest.raises(InputError, match="do not fit"):
        encode(bytes(11), CodedPayload(10, 400, 2))


@pytest.mark.parametrize("snr_db", [-5, 0, 10, 20, 25])
@pytest.mark.parametrize("num_symbols", [5000, 157_752])
def test_the_best_payload_is_between_the_capacity_and_three_and_a_half_decibels_below(snr_db, num_symbols):
    payload = best_payload(num_symbols, snr_db)
    assert arrival(payload, snr_db) >= 0.99 > arrival(payload, snr_db - 0.6)
    efficiency = 8 * payload.num_bytes / num_symbols
    assert np.log2(1 + linear(snr_db - 3.5)) < efficiency < np.log2(1 + linear(snr_db))


def test_more_snr_or_symbols_never_carry_less():
    by_snr = [best_payload(20_000, snr_db).num_bytes for snr_db in np.arange(-8, 30, 1.0)]
    by_symbols = [best_payload(num, 7).num_bytes for num in range(2000, 40_000, 2000)]
    assert by_snr == sorted(by_snr) and by_symbols == sorted(by_symbols)


@pytest.mark.parametrize("num_bytes, snr_db", [(500, -5), (3000, 5), (20_000, 20)])
def test_no_fewer_symbols_carry_as_many_bytes(num_bytes, snr_db):
    num = least_symbols(num_bytes, snr_db, 200_000)
    assert best_payload(num - 1, snr_db).num_bytes < num_bytes <= best_payload(num, snr_db).num_bytes
    with pytest.raises(InputError, match=f"{num - 1} symbols.*{num_bytes} bytes"):
        least_symbols(num_bytes, snr_db, num - 1)


def test_nothing_is_promised_where_nothing_is_carried():
    with pytest.raises(InputError, match="raise the SNR"):
        best_payload(20, -20)


def test_the_table_is_what_is_measured():
    """Another seed, the shortest block of each modulation: means within 4 standard errors and the search's step."""
    row = measure_threshold(2, 0.5, 1024, seed=7)
    expected = {"bits_per_symbol": 2, "info_bits": 1024}
    assert {key: row[key] for key in expected} == expected
    assert row["mean_db"] == pytest.approx(0.78, abs=4 * 0.26 * (2 / 24) ** 0.5 + 0.02)


def test_a_code_word_below_the_lowest_rate_is_repeated():
    block = BlockCode(1024, 5120, 2)
    assert block.rate == pytest.approx(0.1) and block.code_bits == 5120
    sent = block.encode(np.zeros((1, 125), np.uint8))
    assert np.array_equal(sent[:, :2560], sent[:, 2560:])


# work for what does not arrive


@pytest.fixture
def batches(monkeypatch):
    """Numbers of blocks that are asked to be decoded, none of which is, but the first few."""
    sizes, good = [], []

    def decode_none(block, statistic, information):
        sizes.append(len(statistic))
        passed = np.arange(len(statistic)) + sum(sizes[:-1]) < sum(good)
        return np.zeros((len(statistic), (block.info_bits - 24) // 8), np.uint8), passed

    monkeypatch.setattr(BlockCode, "decode", decode_none)
    return dataclasses.make_dataclass("Batches", ["sizes", "good"])(sizes, good)


def test_noise_takes_the_time_of_one_block(batches):
    payload = CodedPayload(100_000, 200_000, 8)
    assert payload.num_blocks > 90
    assert decode(*through(np.zeros(200_000, np.complex64), 25, 3), payload) is None
    assert batches.sizes == [1]


def test_a_block_that_fails_is_the_last_that_is_tried(batches):
    """The work after it was begun is at most that before it, and a block."""
    payload = CodedPayload(100_000, 200_000, 8)
    batches.good.append(20)
    assert decode(*through(np.zeros(200_000, np.complex64), 25, 3), payload) is None
    assert batches.sizes == [1, 2, 4, 8, 16]
    batches.good.append(1000)
    batches.sizes.clear()
    decode(*through(np.zeros(200_000, np.complex64), 25, 3), payload)
    assert sum(batches.sizes) == payload.num_blocks and max(batches.sizes) == 32


def test_more_bits_than_the_symbols_carry_are_not_tried(batches):
    payload = CodedPayload(10_000, 20_000, 8)  # 4 bits a symbol, which need 12 dB
    for snr_db, tried in ((3, []), (10, [1])):
        assert decode(*through(np.zeros(20_000, np.complex64), snr_db, 3), payload) is None
        assert batches.sizes == tried


def test_repeats_are_added_in_parts(monkeypatch):
    """With the same bytes, and fewer LLRs in memory."""
    data, payload = b"a", CodedPayload(1, 20_000, 2)
    soft, sizes = through(encode(data, payload), -15, 5), []
    demap = BlockCode._demap

    def watched(block, received, snr):
        sizes.append(received.numel())
        return demap(block, received, snr)

    monkeypatch.setattr(BlockCode, "_demap", watched)
    assert decode(*soft, payload) == data
    assert max(sizes) <= 64 * payload.block.code_bits // 2 < payload.num_symbols == sum(sizes)
