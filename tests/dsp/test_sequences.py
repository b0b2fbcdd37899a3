import numpy as np
import pytest

from airnet_sdr.dsp.frame import DEFAULT_FORMAT
from airnet_sdr.dsp.sequences import gold, qpsk


def slow_gold(c_init, num_bits):
    """TS 38.211 clause 5.2.1, letter by letter."""
    x1 = [1] + [0] * 30
    x2 = [c_init >> i & 1 for i in range(31)]
    for n in range(1600 + num_bits):
        x1.append((x1[n + 3] + x1[n]) % 2)
        x2.append((x2[n + 3] + x2[n + 2] + x2[n + 1] + x2[n]) % 2)
    return [(x1[n + 1600] + x2[n + 1600]) % 2 for n in range(num_bits)]


@pytest.mark.parametrize("c_init", [0, 1, 2, 3, 662, 0x2AAAAAAA, 2**31 - 1])
def test_gold_is_the_sequence_of_ts_38_211(c_init):
    assert gold(c_init, 2001).tolist() == slow_gold(c_init, 2001)


def test_shorter_sequences_are_prefixes():
    long = gold(7, 300)
    for n in (0, 1, 27, 28, 29, 56, 299):
        assert np.array_equal(gold(7, n), long[:n])


def test_qpsk_follows_clause_5_1_3_and_has_unit_power():
    points = qpsk(np.array([0, 0, 0, 1, 1, 0, 1, 1], np.uint8))
    assert points.dtype == np.complex64
    assert points * np.sqrt(2) == pytest.approx(np.array([1 + 1j, 1 - 1j, -1 + 1j, -1 - 1j]), abs=1e-6)
    assert np.abs(qpsk(gold(5, 2000))) == pytest.approx(1, abs=1e-6)


def test_preamble_and_pilots_are_nearly_uncorrelated():
    """Peak of the normalised frequency correlation at any shift; random sequences of n have about ln(n)/n in power."""
    for sequence in (DEFAULT_FORMAT.preamble, DEFAULT_FORMAT.pilots.reshape(-1)):
        size = sequence.size
        power = np.abs(np.correlate(sequence, sequence, "full")) ** 2 / size**2
        power[size - 1] = 0
        assert power.max() < 2.5 * np.log(size) / size
