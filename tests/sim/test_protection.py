"""Ways to divide a budget among the layers of a network, on an untrained one."""

import json

import numpy as np
import pytest
import torch

from airnet_sdr.models import data
from airnet_sdr.models.checkpoint import Checkpoint, save
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import tensors_of
from airnet_sdr.models.sensitivity import BACKGROUND_DB, SNR_GRID_DB, Sensitivity
from airnet_sdr.sim.experiments import protection
from airnet_sdr.tests.command import run

WIDTHS = (4, 4, 6, 6, 6)
UNTRAINED = Checkpoint("fashion", "fashion-mnist", 0.1, tensors_of(build("fashion", WIDTHS)), {}, WIDTHS)


def any_sensitivity(names):
    """One in which the first layer matters ten times as much as each of the others."""
    weight = np.where(np.arange(len(names)) == 0, 10.0, 1.0)
    damage = weight[:, None] / (1 + 10 ** (np.array(SNR_GRID_DB) / 10))
    return Sensitivity(
        tuple(names), np.array(SNR_GRID_DB), np.array(BACKGROUND_DB), np.stack([damage] * len(BACKGROUND_DB)), damage
    )


def test_every_way_keeps_to_the_budget_and_to_the_power():
    num_symbols = np.array([(tensor.size + 1) // 2 for tensor in UNTRAINED.tensors.values()])
    budget = 4 * int(num_symbols.sum()) + 7
    for name, tried in protection.divide_budget(UNTRAINED, any_sensitivity(UNTRAINED.tensors), 0.0, budget).items():
        assert len(tried) == (4 * len(num_symbols) if name == "one layer" else 1)
        for each in tried:
            sent = each.copies @ num_symbols
            assert num_symbols.sum() <= sent <= budget and each.copies.max() <= 255
            assert each.copies @ (num_symbols * each.power) <= 1.02 * sent


def test_what_matters_most_is_protected_best():
    found = protection.divide_budget(UNTRAINED, any_sensitivity(UNTRAINED.tensors), 0.0, 3000)
    for name in ("Hessian", "measured"):
        energy = found[name][0].copies * found[name][0].power
        assert energy[0] > found["uniform"][0].copies[0] and energy[0] > energy[-1]


def test_the_command(tmp_path, monkeypatch):
    torch.manual_seed(1)
    save(tmp_path / "fashion-mnist" / "pruned4" / "seed-1" / "fashion.safetensors", UNTRAINED)
    # test images stand for the training images, which need not be here
    real = data.load
    monkeypatch.setattr(data, "load", lambda dataset, split, data_dir=None: real(dataset, "test"))
    monkeypatch.setattr(protection, "measure_checkpoint", lambda checkpoint, *_: any_sensitivity(checkpoint.tensors))
    options = ["--training-seeds", "1", "--link-seeds", "2", "--images", "50", "--payload-uses", "2500"]
    result = run(protection.main, "--networks", tmp_path, "--out", tmp_path / "out", *options)
    assert (result.status, result.err) == (0, "")
    content = json.loads((tmp_path / "out" / "protection.json").read_text())
    assert len(content["rows"]) == 5 * 3 * 2 and "measured" in result.out and content["payload_uses"] == 2500
    assert all(0 <= row["accuracy"] <= 1 for row in content["rows"])


@pytest.mark.parametrize("uses, told", [("100", "payload symbols"), ("9000", "pruned4/seed-1")])
def test_what_cannot_be_is_told_in_one_line(tmp_path, monkeypatch, uses, told):
    real = data.load
    monkeypatch.setattr(data, "load", lambda dataset, split, data_dir=None: real(dataset, "test"))
    monkeypatch.setattr(protection, "measure_checkpoint", lambda checkpoint, *_: any_sensitivity(checkpoint.tensors))
    if uses == "100":
        save(tmp_path / "fashion-mnist" / "pruned4" / "seed-1" / "fashion.safetensors", UNTRAINED)
    result = run(protection.main, "--networks", tmp_path, "--out", tmp_path / "out", "--payload-uses", uses)
    assert result.status == 1 and told in result.err and result.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
