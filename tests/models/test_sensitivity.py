"""Sensitivity: what it measures, its file, and what the shipped one says."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models import sensitivity
from airnet_sdr.models.checkpoint import Checkpoint, save
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import tensors_of
from airnet_sdr.models.sensitivity import (
    SNR_GRID_DB,
    Sensitivity,
    find_sensitivity,
    hessian_damage,
    load_sensitivity,
    main,
    measure_damages,
)

NAMES = ("a", "b")


@pytest.fixture
def example():
    grid, background = np.array([0.0, 10.0]), np.array([0.0, 10.0])
    damages = np.array([[[4.0, 2.0], [2.0, 1.0]], [[8.0, 4.0], [6.0, 3.0]]])
    return Sensitivity(NAMES, grid, background, damages, damages[0], "by hand")


class Wide(nn.Module):
    """Two linear maps; the second one's weights do not reach the output much."""

    def __init__(self):
        super().__init__()
        self.much, self.little = nn.Linear(6, 4, bias=False), nn.Linear(6, 4, bias=False)

    def forward(self, x):
        return 5 * self.much(x) + 0.05 * self.little(x)


@pytest.fixture
def problem():
    torch.manual_seed(1)
    module, images = Wide(), torch.randn(400, 6)
    return module, images, module(images).argmax(dim=1)


def test_damage_falls_with_snr_and_finds_the_layer_that_matters(problem):
    damages = measure_damages(*problem, num_draws=4)
    assert damages.shape[1:] == (2, len(SNR_GRID_DB))
    quiet = damages[-1]
    assert (np.diff(quiet[0]) < 0).all() and quiet[0, 0] > 0.1
    assert np.abs(quiet[1]).max() < 0.1 * quiet[0, 0]


def test_hessian_agrees_with_measurement_where_errors_are_small():
    torch.manual_seed(2)
    module, images = nn.Sequential(nn.Linear(6, 4, bias=False)), torch.randn(2000, 6)
    labels = torch.randint(0, 4, (2000,))
    weights, snr = module[0].weight, 10 ** (SNR_GRID_DB[-1] / 10)
    with torch.no_grad():  # at a minimum the gradient is nothing and the Hessian is all there is
        weights.zero_()
    optimiser = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(module(images), labels)
        loss.backward()
        return loss

    optimiser.step(closure)
    before = closure().item()
    spread = (weights.detach().double().var(correction=0) / (1 + snr)).sqrt().item()
    rng, optimum, grown = torch.Generator().manual_seed(3), weights.detach().clone(), []
    for _ in range(60):
        weights.data = optimum + spread * 30 * torch.randn(optimum.shape, generator=rng)
        grown.append((closure().item() - before) / 900)
    weights.data = optimum
    predicted = hessian_damage(module, images, labels, num_draws=100)[0, -1]
    assert np.mean(grown) == pytest.approx(predicted, rel=0.2)


def test_background_is_interpolated_and_held_at_the_ends(example):
    assert example.damage(NAMES, 0.0).tolist() == [[4, 2], [2, 1]]
    assert example.damage(NAMES, 5.0).tolist() == [[6, 3], [4, 2]]
    assert example.damage(NAMES, 99.0).tolist() == [[8, 4], [6, 3]]
    assert example.damage(NAMES, -99.0).tolist() == [[4, 2], [2, 1]]
    with pytest.raises(InputError, match="measure it again"):
        example.damage(("b", "a"))


def test_command_writes_what_load_reads(tmp_path, monkeypatch, capsys):
    real = sensitivity.load_data
    monkeypatch.setattr(sensitivity, "load_data", lambda dataset, split, data_dir: real(dataset, "test"))
    monkeypatch.setattr(sensitivity, "SNR_GRID_DB", (0, 20))
    monkeypatch.setattr(sensitivity, "BACKGROUND_DB", (0, 20))
    torch.manual_seed(1)
    path = tmp_path / "x.safetensors"
    save(path, Checkpoint("fashion", "fashion-mnist", 0.1, tensors_of(build("fashion"))))
    assert find_sensitivity(path) is None
    with pytest.raises(InputError, match="sensitivity.py"):
        load_sensitivity(path)
    assert main(["--model", str(path), "--images", "40", "--draws", "1"]) == 0
    found = load_sensitivity(path)
    assert len(found.names) == 6 and found.damages.shape == (2, 6, 2) and "--images 40" in found.made
    assert main(["--model", "nosuch"]) == 1
    capsys.readouterr()


@pytest.mark.parametrize("change", [{"names": ["a"]}, {"hessian": [1.0]}, {"made": None, "damages": "x"}])
def test_a_damaged_file_is_refused(tmp_path, example, change):
    torch.manual_seed(1)
    path = tmp_path / "x.safetensors"
    save(path, Checkpoint("fashion", "fashion-mnist", 0.1, tensors_of(build("fashion"))))
    fields = {name: np.asarray(value).tolist() for name, value in dataclasses.asdict(example).items()} | change
    (tmp_path / "sensitivity.json").write_text(json.dumps(fields))
    with pytest.raises(InputError, match="no sensitivity file"):
        load_sensitivity(path)
