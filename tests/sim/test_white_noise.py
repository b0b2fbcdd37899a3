"""The payload in white noise is what the link delivers: tensors of every power arrive with the same error."""

import numpy as np
import pytest

from airnet_sdr.dsp.uep import Protection
from airnet_sdr.dsp.units import db, linear
from airnet_sdr.models.card import ModelCard
from airnet_sdr.models.payload.analog import encode_vectors
from airnet_sdr.rx.combine import rebuild
from airnet_sdr.sim.experiments.library.scoring import receive_burst
from airnet_sdr.sim.experiments.library.white_noise import WhiteNoise
from airnet_sdr.tx.burst import lay_out

NUMELS, POWERS = np.array([100_000, 40_000, 20_000]), np.array([0.4, 1.0, 6.0])


@pytest.mark.parametrize("snr_db", [-5, 0, 5, 15])
def test_tensors_of_different_power_arrive_as_over_the_link(snr_db):
    rng = np.random.default_rng(1)
    vectors = [rng.standard_normal(numel, np.float32) for numel in NUMELS]
    powers = POWERS * NUMELS.sum() / (POWERS @ NUMELS)  # of mean 1 over the payload
    encoded = encode_vectors(vectors, Protection(np.ones(3, np.int64), powers))
    burst = lay_out(ModelCard("fashion", "fashion-mnist", 0.9), [encoded], seed=1)
    errors = []
    for received in (WhiteNoise(burst, float(linear(snr_db)), 2), receive_burst(burst, snr_db, 2)):
        arrived = rebuild(received, burst.manifest, NUMELS.tolist()).vectors
        errors.append([np.mean((a - b) ** 2) for a, b in zip(arrived, vectors, strict=True)])
    ideal = 1 / (1 + powers * linear(snr_db))
    assert db(errors[0]) == pytest.approx(db(errors[1]), abs=0.1)
    assert 0.02 < db(errors[1][2] / ideal[2]) < 0.6 and db(errors[1]) != pytest.approx(db(ideal), abs=0.1)
