import itertools

import numpy as np
import pytest

from airnet_sdr.dsp import polar

CODES = [(64, 20), (256, 72), (1024, 72), (1024, 300)]  # (block_bits, num_info)


def llrs(words, ebn0_scale, rng):
    """LLRs of BPSK words (blocks, bits) in noise of standard deviation ``ebn0_scale``."""
    received = 1 - 2.0 * words + ebn0_scale * rng.standard_normal(words.shape)
    return (2 * received / ebn0_scale**2).astype(np.float32)


def test_transform_is_the_kronecker_power_and_its_own_inverse():
    matrix = np.array([[1]])
    for _ in range(6):
        matrix = np.kron(matrix, [[1, 0], [1, 1]])
    bits = np.random.default_rng(1).integers(0, 2, (50, 64), dtype=np.uint8)
    assert np.array_equal(polar.transform(bits), bits @ matrix % 2)
    assert np.array_equal(polar.transform(polar.transform(bits)), bits)


def test_the_most_reliable_positions_by_beta_expansion():
    weight = [sum(2 ** (j / 4) for j in range(10) if i >> j & 1) for i in range(1024)]
    best = sorted(sorted(range(1024), key=weight.__getitem__)[-72:])
    assert polar.info_positions(1024, 72).tolist() == best


@pytest.mark.parametrize("block_bits, num_info", CODES + [(2, 1), (2, 2), (8, 8), (16384, 1500)])
def test_without_noise_decoding_inverts_encoding(block_bits, num_info):
    rng = np.random.default_rng(2)
    for list_size in (1, 2, 8, 32):
        info = rng.integers(0, 2, num_info, dtype=np.uint8)
        decoded = polar.decode(4 - 8.0 * polar.encode(info, block_bits), num_info, list_size)
        assert decoded.shape[1] == num_info and np.array_equal(decoded[0], info)


def test_a_full_list_is_maximum_likelihood():
    """With as many paths as words the likeliest candidate has the highest correlation of all 2^k words."""
    rng = np.random.default_rng(3)
    info = np.array(list(itertools.product([0, 1], repeat=5)), np.uint8)
    words = np.array([polar.encode(row, 16) for row in info])
    for llr in llrs(words[rng.integers(0, 32, 200)], 1.5, rng):
        candidates = polar.decode(llr, 5, 32)
        correlation = (1 - 2.0 * np.array([polar.encode(c, 16) for c in candidates])) @ llr
        assert len(np.unique(candidates, axis=0)) == 32
        assert np.all(np.diff(correlation) <= 1e-3)
        assert np.array_equal(candidates[0], info[np.argmax((1 - 2.0 * words) @ llr)])


def test_a_longer_list_errs_less():
    rng = np.random.default_rng(4)
    info = rng.integers(0, 2, (300, 72), dtype=np.uint8)
    noisy = llrs(np.array([polar.encode(row, 256) for row in info]), 1.5, rng)
    errors = [
        sum(not (polar.decode(llr, 72, size) == row).all(axis=1).any() for llr, row in zip(noisy, info, strict=True))
        for size in (1, 8, 32)
    ]
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("block_bits, num_info, noise", [(1024, 96, 1.9), (512, 150, 1.05)])  # 1.9: QPSK at -5.6 dB
def test_against_sionna(block_bits, num_info, noise):
    """Code words identical; with a list of 8 decisions agree on 99 % of noisy blocks; block errors within 2 %.

    Ours is min-sum, Sionna's exact: successive cancellation alone errs 1 or 2 % apart.
    """
    pytest.importorskip("sionna")
    import torch
    from sionna.phy.fec.polar import PolarEncoder, PolarSCDecoder, PolarSCLDecoder

    rng = np.random.default_rng(5)
    frozen = np.setdiff1d(np.arange(block_bits), polar.info_positions(block_bits, num_info))
    info = rng.integers(0, 2, (300, num_info), dtype=np.uint8)
    words = np.array([polar.encode(row, block_bits) for row in info])
    assert np.array_equal(PolarEncoder(frozen, block_bits)(torch.tensor(info, dtype=torch.float32)).numpy(), words)
    noisy = llrs(words, noise, rng)
    for decoder, size, least in (
        (PolarSCDecoder(frozen, block_bits), 1, 0.95),
        (PolarSCLDecoder(frozen, block_bits, list_size=8), 8, 0.99),
    ):
        theirs = decoder(torch.tensor(-noisy)).numpy()  # Sionna's LLR is log P(1)/P(0)
        ours = np.array([polar.decode(llr, num_info, size)[0] for llr in noisy])
        assert np.mean((ours == theirs).all(axis=1)) >= least
        assert np.mean((ours != info).any(axis=1)) <= np.mean((theirs != info).any(axis=1)) + 0.02


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38])
def test_llrs_that_are_no_numbers_are_decoded_as_some_word(value):
    """The kernels sort by sums of LLRs, and a NaN among them once wrote beyond an array."""
    rng = np.random.default_rng(8)
    llr = rng.standard_normal((4, 1024)).astype(np.float32)
    llr[:2, ::3] = value
    llr[2] = value
    for row in llr:
        for list_size in (1, 8, 32):
            words = polar.decode(row, 96, list_size)
            assert words.shape == (list_size, 96) and words.max() <= 1
    assert polar.decode_rows(llr, 96).shape == (4, 96)
    assert np.abs(polar.bounded(llr)).max() <= polar.MAX_LLR
