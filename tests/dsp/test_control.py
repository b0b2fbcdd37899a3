import dataclasses
from pathlib import Path

import numpy as np
import pytest

from airnet_sdr.dsp import control
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, VERSION, Header, layout_burst, manifest_capacity
from airnet_sdr.dsp.units import linear, power
from airnet_sdr.tests.dsp.test_frame import random_header
from airnet_sdr.tests.link import white

SENSITIVITY_DB = -6.5  # per symbol
HEADER_SENSITIVITY_DB = -6.0  # 0.5 dB lower one header in 1,500 fails


def decode_header(statistic):
    """The header of one frame, or None."""
    return control.decode_headers(statistic[None])[0]


def soft(sent, snr_db, seed):
    """conj(h)·y/noise_var of symbols in white noise."""
    noise_var = 1 / linear(snr_db)
    return (sent + white(sent.size, noise_var, seed).reshape(sent.shape)) / np.float32(noise_var)


def header_errors(trials, snr_db):
    rng = np.random.default_rng(1)
    headers = [random_header(rng) for _ in range(trials)]
    return sum(decode_header(soft(control.encode_header(h), snr_db, i)) != h for i, h in enumerate(headers))


def collect(statistic, header, frames=None):
    """LLRs of the manifest's code word from the chunks (num_frames, chunk) of some frames."""
    total = np.zeros(control.manifest_block_bits(header), np.float32)
    for frame in range(header.num_frames) if frames is None else frames:
        control.add_llr(statistic[frame], frame * statistic.shape[1], total)
    return total


def manifest_errors(trials, snr_db, num_payload, num_bytes):
    rng = np.random.default_rng(2)
    header = layout_burst(num_payload, num_bytes, 0)
    errors = 0
    for i in range(trials):
        data = rng.bytes(num_bytes)
        statistic = soft(control.encode_manifest(data, header), snr_db, i)
        decoded = control.decode_manifest(collect(statistic, header), header)
        errors += decoded is None or decoded[:num_bytes] != data
    return errors


def test_header_symbols_are_unit_power_qpsk():
    sent = control.encode_header(Header(1, 2, 3, 4, 5))
    assert sent.dtype == np.complex64 and sent.shape == (576,)
    assert np.abs(sent) == pytest.approx(1, abs=1e-6) and abs(sent.mean()) < 0.15


def test_headers_round_trip_without_noise():
    assert header_errors(300, 20) == 0


def test_headers_at_the_sensitivity():
    assert header_errors(300, HEADER_SENSITIVITY_DB) == 0


@pytest.mark.slow
def test_3000_headers_at_the_sensitivity():
    assert header_errors(3000, SENSITIVITY_DB) <= 6


@pytest.mark.parametrize("num_payload, num_bytes, trials", [(175_000, 98, 300), (10_000, 60, 300), (175_000, 200, 100)])
def test_manifests_at_the_sensitivity(num_payload, num_bytes, trials):
    assert manifest_errors(trials, SENSITIVITY_DB, num_payload, num_bytes) == 0


@pytest.mark.slow
@pytest.mark.parametrize("num_payload, num_bytes", [(175_000, 98), (175_000, 200)])
def test_3000_manifests_at_the_sensitivity(num_payload, num_bytes):
    assert manifest_errors(3000, SENSITIVITY_DB, num_payload, num_bytes) == 0


def test_inconsistent_headers_are_refused_though_their_crc_passes():
    for fields in ({"frame": 4}, {"num_symbols": 1, "num_chunk_steps": 5}, {"num_chunk_steps": 0}):
        header = dataclasses.replace(Header(9, 0, 4, 8, 4), **fields)
        assert decode_header(soft(control.encode_header(header), 10, 1)) is None


def test_headers_of_another_version_are_handed_on():
    header = dataclasses.replace(Header(9, 0, 4, 8, 4), version=VERSION + 1)
    assert decode_header(soft(control.encode_header(header), 0, 1)) == header


def test_a_header_of_version_1_is_told():
    """It had 512 symbols; others follow it."""
    first = np.load(Path(__file__).parent.parent / "golden" / "header_v1.npy", allow_pickle=False)
    assert decode_header(soft(np.concatenate([first, first[:64]]), 0, 1)).version == 1


def test_noise_seldom_passes_for_a_header():
    """42 candidates to a CRC of 16 bits: 6.4e-4 a trial, 1.3 expected of 2,000, more than 8 with probability 1e-5."""
    noise = white(2000 * 576, 1.0, 3).reshape(2000, 576)
    assert sum(decode_header(row) is not None for row in noise) <= 8


@pytest.mark.parametrize("value", [0.0, np.inf])
def test_erased_or_infinite_statistics_give_no_header(value):
    assert decode_header(np.full(576, value, np.complex64)) is None


@pytest.mark.parametrize("num_payload, num_bytes", [(1, 1), (1000, 30), (60_000, 400), (175_000, 98), (3_000_000, 800)])
def test_a_manifest_is_padded_to_its_capacity(num_payload, num_bytes):
    header = layout_burst(num_payload, num_bytes, 0)
    data = np.random.default_rng(4).bytes(num_bytes)
    sent = control.encode_manifest(data, header)
    assert sent.shape == (header.num_frames, header.num_chunk_steps * DEFAULT_FORMAT.chunk_step)
    assert np.abs(sent) == pytest.approx(1, abs=1e-6)
    decoded = control.decode_manifest(collect(soft(sent, 10, 5), header), header)
    assert decoded == data.ljust(manifest_capacity(header, DEFAULT_FORMAT), b"\0")


@pytest.mark.parametrize("snr_db, num_lost", [(-5.5, 1), (-2.5, 5), (10, 5)])
def test_the_manifest_survives_lost_frames(snr_db, num_lost):
    """Ten frames at the sensitivity, as many decibels above it as the energy lost: any set of frames may be missing."""
    header = layout_burst(175_000, 98, 0)
    assert header.num_frames == 10
    rng = np.random.default_rng(5)
    data = rng.bytes(98)
    sent = control.encode_manifest(data, header)
    for trial in range(50):
        kept = rng.permutation(10)[num_lost:]
        decoded = control.decode_manifest(collect(soft(sent, snr_db, trial), header, kept), header)
        assert (decoded or b"")[:98] == data, kept


def test_noise_is_no_manifest():
    header = layout_burst(10_000, 60, 0)
    for seed in range(20):
        noise = white(header.num_frames * header.num_chunk_steps * 64, 1.0, seed).reshape(header.num_frames, -1)
        assert control.decode_manifest(collect(noise, header), header) is None


def test_llrs_have_the_scale_of_log_likelihood_ratios():
    """A bit of QPSK at SNR S has an LLR of mean 2·S towards the bit sent and variance 4·S (ten Brink 2001)."""
    snr = 2.0
    header = Header(1, 2, 9, 4, 5)
    sent = control.encode_header(header)[:512]  # the code word, not yet repeated
    runs, clean = np.zeros((200, 1024), np.float32), np.zeros(1024, np.float32)
    for i, llr in enumerate(runs):
        control.add_llr(soft(sent, 10 * np.log10(snr), i), 0, llr)
    control.add_llr(sent, 0, clean)
    signed = runs * np.sign(clean)
    assert signed.mean() == pytest.approx(2 * snr, rel=0.02)
    assert signed.var() == pytest.approx(4 * snr, rel=0.03)
    assert power(clean) == pytest.approx(4, rel=1e-5)
