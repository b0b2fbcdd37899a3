"""Levels and bytes: exact inverses, near the entropy, nothing hostile gets through."""

import hashlib
import struct

import numpy as np
import pytest

from airnet_sdr.dsp.errors import LinkError
from airnet_sdr.models.digital.compress import decode, encode
from airnet_sdr.models.digital.quantise import MAX_LEVEL, Quantised, dequantise, quantise, step_code, step_value

RNG = np.random.default_rng(1)
WEIGHTS = [RNG.standard_normal(20_000).astype(np.float32), RNG.laplace(0, 0.02, 5000).astype(np.float32)]


def entropy(levels):
    """Of the levels' own histogram, in bits."""
    share = np.unique(levels, return_counts=True)[1] / levels.size
    return float(-levels.size * np.sum(share * np.log2(share)))


@pytest.mark.parametrize("relative", [0.1, 0.5, 1, 2, 5])
def test_levels_come_back_within_4_percent_of_their_entropy(relative):
    """Levels without any pattern, where all that is learnt of one is in vain."""
    tensors = [quantise(weights, step_code(relative * weights.std())) for weights in WEIGHTS]
    data = encode(tensors)
    found = decode(data + bytes(9), [weights.size for weights in WEIGHTS])
    for sent, received in zip(tensors, found, strict=True):
        assert np.array_equal(sent.levels, received.levels)
        assert (sent.step_code, sent.shift_code) == (received.step_code, received.shift_code)
        assert np.array_equal(dequantise(sent), dequantise(received))
    least = sum(entropy(tensor.levels) for tensor in tensors)
    assert 8 * len(data) < 1.04 * least + 600


def test_channels_that_are_empty_cost_little():
    """Half the output and input channels: hardly more than the levels of the others do."""
    levels = np.round(np.random.default_rng(3).laplace(0, 1, (40, 50, 9))).astype(np.int32)
    levels[::2] = levels[:, 1::2] = 0
    tensor = Quantised(levels.reshape(-1), 32768, 0, (40, 9))
    data = encode([tensor])
    assert np.array_equal(decode(data, [levels.size])[0].levels, tensor.levels)
    least = entropy(levels[1::2, ::2])
    assert 8 * len(data) < 1.15 * least + 500 < 0.8 * entropy(levels)


def test_the_bytes_are_these_on_every_machine():
    levels = np.arange(-60, 120, dtype=np.int32) ** 3 % 7 - 3
    assert hashlib.sha256(encode([Quantised(levels, 32768, -5, (4, 9))])).hexdigest()[:16] == "9a56ef3265433825"


def test_levels_of_more_than_a_byte_each():
    levels = np.random.default_rng(4).integers(-MAX_LEVEL, MAX_LEVEL + 1, 300).astype(np.int32)
    data = encode([Quantised(levels, 32768, 0)])
    assert len(data) > 330 and np.array_equal(decode(data, [300])[0].levels, levels)


@pytest.mark.parametrize("shape", [(70_000, 2), (3, 2, 20, 20), (5, 7), (4, 3, 3, 3)])
def test_tensors_of_any_shape(shape):
    weights = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    tensor = quantise(weights, step_code(1.0))
    assert np.array_equal(decode(encode([tensor]), [weights.size])[0].levels, tensor.levels)


@pytest.mark.parametrize("levels", [[], [0, 0, 0], [5], [-MAX_LEVEL, MAX_LEVEL]])
def test_odd_tensors(levels):
    tensor = Quantised(np.array(levels, np.int32), 32768, 3)
    assert np.array_equal(decode(encode([tensor]), [len(levels)])[0].levels, tensor.levels)


def test_quantisation_error_is_that_of_a_uniform_quantiser():
    """step²/12 for a fine step without dead zone (Bennett 1948)."""
    weights = WEIGHTS[0]
    code = step_code(0.1)
    error = dequantise(quantise(weights, code, rounding=0.5)) - weights
    assert np.mean(error**2) == pytest.approx(step_value(code) ** 2 / 12, rel=0.03)


def test_rebuilding_at_the_centroid_does_not_bias():
    weights = WEIGHTS[1]
    tensor = quantise(weights, step_code(1.5 * weights.std()))
    outside = tensor.levels != 0
    error = np.abs(dequantise(tensor)) - np.abs(weights)
    assert abs(error[outside].mean()) < 0.01 * weights.std()


def test_step_codes_are_inverses_over_the_whole_range():
    assert all(step_code(step_value(code)) == code for code in range(0, 65536, 257))


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x00\x00\xff\x00\x01\x01", b"\x80\x00\x00\x05\x00\x03\x01", bytes(7), b"\x80"]
)
def test_what_is_no_network_is_refused(data):
    with pytest.raises(LinkError):
        decode(data, [10])


def test_bytes_as_they_are_written_are_never_too_few():
    """However they end, of many sizes: the decoder stops past their end."""
    for seed in range(300):
        rng = np.random.default_rng(seed)
        levels = np.clip(np.round(rng.laplace(0, rng.choice([0.05, 1, 30]), rng.integers(1, 200))), -127, 127)
        tensor = Quantised(levels.astype(np.int32), 32768, 0)
        data = encode([tensor, tensor])
        assert all(np.array_equal(found.levels, levels) for found in decode(data, [levels.size] * 2))


def test_few_bytes_are_not_decoded_to_many_levels():
    """Zeros behind the end would go on as ever larger levels."""
    head = struct.pack(">HbBHB", 32768, 0, MAX_LEVEL, 1, 1)
    with pytest.raises(LinkError, match="7 bytes end within 50000 weights"):
        decode(head, [50_000])
    with pytest.raises(LinkError, match="end within"):
        decode(head * 2 + bytes(8), [100, 50_000])


def test_any_bytes_give_levels_within_bounds():
    for seed in range(50):
        data = np.random.default_rng(seed).bytes(60)
        try:
            (tensor,) = decode(data, [500])
        except LinkError:
            continue
        assert tensor.levels.size == 500 and np.abs(tensor.levels).max() <= MAX_LEVEL
        assert np.isfinite(dequantise(tensor)).all()
