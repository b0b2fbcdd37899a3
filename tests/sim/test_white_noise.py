"""The payload in white noise is what the link delivers: tensors of every power arrive with the same error."""

import numpy as np
import pytest

from airnet_sdr.dsp.uep import Protection
from airnet_sdr.dsp.units import db, linear
from airnet_sdr.models.card import ModelCard
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.payload.analog import encode_vectors
from airnet_sdr.models.payload.protection import protect
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.rx.combine import rebuild
from airnet_sdr.sim.experiments.grid.plans import MORE_POWER_DB
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
    assert db(errors[0]) == pytest.approx(db(errors[1]), abs=0.2)
    assert 0.02 < db(errors[1][2] / ideal[2]) < 0.6 and db(errors[1]) != pytest.approx(db(ideal), abs=0.1)


@pytest.mark.parametrize("snr_db", [0, 5, 20])
def test_a_tensor_of_15_db_is_not_taken_for_interference(snr_db):
    """By size, as the experiments try it: few strong symbols, the weights with the tails that weights have."""
    rng, numels = np.random.default_rng(1), [144, 4608, 18432, 73728, 202752, 15840]
    vectors = [rng.laplace(size=numel).astype(np.float32) for numel in numels]
    card = ModelCard("fashion", "fashion-mnist", 0.9)
    checkpoint = Checkpoint("fashion", "fashion-mnist", 0.9, dict(zip("abcdef", vectors, strict=True)))
    protection = protect(checkpoint, PlanConfig("size", snr_db=snr_db, max_power_db=MORE_POWER_DB))
    assert 14 < db(protection.power.max()) <= MORE_POWER_DB + 1e-9
    burst = lay_out(card, [encode_vectors(vectors, protection)], seed=1)
    errors = np.zeros((2, 6))
    for seed in range(4):
        for way, received in enumerate(
            (WhiteNoise(burst, float(linear(snr_db)), seed), receive_burst(burst, snr_db, seed))
        ):
            arrived = rebuild(received, burst.manifest, numels).vectors
            errors[way] += [np.mean((a - b) ** 2) for a, b in zip(arrived, vectors, strict=True)]
    assert db(errors[1][1:]) == pytest.approx(db(errors[0][1:]), abs=0.25)
    assert db(errors[1][0]) == pytest.approx(db(errors[0][0]), abs=1.0)  # of few weights
