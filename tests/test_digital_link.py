"""The coded chain over the real frames, soft bits by the receiver's own noise estimate: its waterfall beside 3GPP's
figure, and how often a whole model arrives."""

import numpy as np
import pytest

from models.digital import channel_code
from models.digital.channel_code import CodedPayload
from models.digital.rate import best_payload, waterfall
from rx.pipeline import BurstCombiner
from tests.link import on_air, receive, transmit
from tx.pipeline import prepare_coded

pytest.importorskip("sionna", reason="the digital scheme needs sionna-no-rt")

# The uplink's fixed reference channel G-FR1-A1-1 of 3GPP TS 38.104 (annex A.1): QPSK, code block of 2168 bits, 3600
# symbols. Its reference sensitivity, -101.7 dBm on 25 resource blocks (table 7.2.2-1) for 95 % of the throughput, less
# thermal noise in 4.5 MHz, the noise figure of 5 dB and the margin of 2 dB that TR 38.817-02 assumes, is -1.2 dB.
REFERENCE = CodedPayload(num_bytes=264, num_symbols=3600, bits_per_symbol=2)
REFERENCE_SNR_DB = -1.2


def arrives(payload, snr_db, seed):
    """Whether random bytes come out of the frames, the noise and the receiver as they went in."""
    data = np.random.default_rng(seed).bytes(payload.num_bytes)
    burst = prepare_coded("fashion", "none", None, data, payload, seed)
    frames = receive(on_air(transmit(burst), snr_db, cfo=0.05, seed=seed))
    if not frames:
        return False
    combiner = BurstCombiner(BurstCombiner.key(burst.header))
    combiner.add(*frames)
    return channel_code.decode(*combiner.soft(0, payload.num_symbols), payload) == data


def test_the_waterfall_is_within_a_decibel_of_3gpps_reference_channel():
    assert REFERENCE.block.info_bits == 2168 and REFERENCE.num_blocks == 1
    mean, sd = waterfall(REFERENCE)
    half_db, reliable_db = mean, mean + 1.645 * sd
    assert abs(reliable_db + 0.1 - REFERENCE_SNR_DB) < 1.0
    assert sum(arrives(REFERENCE, REFERENCE_SNR_DB, seed) for seed in range(20)) >= 19
    assert 4 <= sum(arrives(REFERENCE, half_db + 0.1, seed) for seed in range(24)) <= 20  # at its middle
    assert not any(arrives(REFERENCE, REFERENCE_SNR_DB - 2, seed) for seed in range(6))


@pytest.mark.slow
@pytest.mark.parametrize("snr_db", [0.0, 10.0])
def test_a_model_arrives_whole_in_99_of_100_trials_at_the_planned_snr(snr_db):
    """300 trials: more than 8 failures have a probability below 0.4 % at 1 %."""
    payload = best_payload(10_000, snr_db)
    assert sum(not arrives(payload, snr_db, seed) for seed in range(300)) <= 8


@pytest.mark.slow
@pytest.mark.parametrize("snr_db", [0.0, 10.0])
def test_no_model_arrives_two_decibels_below(snr_db):
    payload = best_payload(10_000, snr_db)
    assert not any(arrives(payload, snr_db - 2, seed) for seed in range(20))
