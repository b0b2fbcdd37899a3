"""The payload's scrambling: an inverse, no loss, and noise for whoever has another keystream."""

import numpy as np
import pytest

from airnet_sdr.dsp.privacy import BLOCK_SYMBOLS, Unscrambled, scramble


def keystream(seed):
    def of_block(number, num_bytes):
        return np.random.default_rng([seed, number]).bytes(num_bytes)

    return of_block


class Heard:
    """Symbols of a burst in noise of known variance."""

    run, capacity, symbols_received = map, 10**6, 10**6

    def __init__(self, symbols, information):
        self.symbols, self.information = symbols, information

    def soft(self, start, num):
        information = self.information[start : start + num]
        return self.symbols[start : start + num] * information, information


@pytest.fixture(params=[1, 2, 1000, BLOCK_SYMBOLS, 2 * BLOCK_SYMBOLS + 17])
def stream(request, rng):
    return rng.standard_normal((request.param, 2), np.float32).view(np.complex64)[:, 0]


def test_what_was_scrambled_is_found_again_piece_by_piece(stream, rng):
    sent = scramble(stream, keystream(1))
    information = rng.uniform(0.5, 2, stream.size).astype(np.float32)
    received = Unscrambled(Heard(sent, information), keystream(1), stream.size)
    for start, num in [(0, stream.size), (stream.size // 3, stream.size // 2), (stream.size - 1, 1)]:
        statistic, inverse = received.soft(start, num)
        np.testing.assert_allclose(statistic, stream[start : start + num] * inverse, atol=1e-5)
    assert np.allclose(np.sort(received.soft(0, stream.size)[1]), np.sort(information))
    assert np.sum(np.abs(sent) ** 2) == pytest.approx(np.sum(np.abs(stream) ** 2), rel=1e-5)
    past = received.soft(stream.size - 1, 3)
    assert past[0].shape == (3,) and not past[0][1:].any() and not past[1][1:].any()


def test_another_keystream_gives_noise(rng):
    stream = rng.standard_normal((5000, 2), np.float32).view(np.complex64)[:, 0]
    sent = scramble(stream, keystream(1))
    wrong, _ = Unscrambled(Heard(sent, np.ones(5000, np.float32)), keystream(2), 5000).soft(0, 5000)
    for other in (sent, wrong):
        correlation = np.abs(np.vdot(other, stream)) / np.vdot(stream, stream).real
        assert correlation < 4 / np.sqrt(5000)
    assert not np.allclose(np.abs(sent), np.abs(stream))  # permuted, not only turned


def test_blocks_have_keystreams_of_their_own():
    stream = np.tile(np.arange(1, BLOCK_SYMBOLS + 1, dtype=np.complex64), 2)
    sent = scramble(stream, keystream(3))
    first, second = np.abs(sent[:BLOCK_SYMBOLS]).round(), np.abs(sent[BLOCK_SYMBOLS:]).round()
    assert np.array_equal(np.sort(first), np.sort(second)) and np.mean(first == second) < 0.01
    assert np.corrcoef(first, np.arange(BLOCK_SYMBOLS))[0, 1] == pytest.approx(0, abs=0.03)
