"""Sensitivity: what it measures, its file, and what the shipped one says."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models import data, sensitivity
from airnet_sdr.models.batches import as_examples, bounded
from airnet_sdr.models.checkpoint import Checkpoint, load, save
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import checksum, tensor_specs, tensors_of
from airnet_sdr.models.sensitivity import SNR_GRID_DB, hessian_damage, main, measure_damages
from airnet_sdr.models.sensitivity_file import (
    Sensitivity,
    find_sensitivity,
    load_sensitivity,
    write_sensitivity,
)
from airnet_sdr.models.task import Task

NAMES = ("a", "b")
TASK = Task("t")


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
    return module, TASK, as_examples((images, module(images).argmax(dim=1)))


def test_damage_falls_with_snr_and_finds_the_layer_that_matters(problem):
    damages = measure_damages(*problem, num_draws=4)
    assert damages.shape[1:] == (2, len(SNR_GRID_DB))
    quiet = damages[-1]
    assert (np.diff(quiet[0]) < 0).all() and quiet[0, 0] > 0.1
    assert np.abs(quiet[1]).max() < 0.1 * quiet[0, 0]


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_a_loss_that_is_no_number_is_refused(problem, number):
    task = Task("t", loss=lambda network, batch: network(batch[0]).square().mean() * number)
    with pytest.raises(InputError, match="no finite number"):
        measure_damages(problem[0], task, problem[2], num_draws=1)


def test_frozen_weights_have_no_curvature_and_empty_ones_no_damage(problem):
    module, task, examples = problem
    module.register_parameter("empty", nn.Parameter(torch.empty(0)))
    module.register_buffer("conjugate", torch.ones(3, dtype=torch.complex64).conj())
    assert hessian_damage(module, task, examples, num_draws=1).shape[0] == 3
    assert not hessian_damage(module.requires_grad_(False), task, examples, num_draws=1).any()


def test_hessian_agrees_with_measurement_where_errors_are_small(monkeypatch):
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
    examples = as_examples((images, labels))
    predicted = hessian_damage(module, TASK, examples, num_draws=100)[0, -1]
    assert np.mean(grown) == pytest.approx(predicted, rel=0.2)
    monkeypatch.setattr(torch.autograd, "grad", without_second_derivatives(torch.autograd.grad))
    assert hessian_damage(module, TASK, examples, num_draws=100)[0, -1] == pytest.approx(predicted, rel=0.02)


def test_the_trace_says_how_far_it_is():
    examples, shown = as_examples((torch.rand(600, 3), torch.zeros(600, dtype=torch.int64))), []

    def progress(steps):
        for step in steps:
            yield step
            shown.append((step, len(steps)))

    hessian_damage(nn.Linear(3, 2), TASK, examples, num_draws=4, progress=progress)
    num_batches = len(list(bounded(examples)))
    assert num_batches > 1
    assert shown == [(step, 4 * num_batches) for step in range(4 * num_batches)]


class Wave(nn.Module):
    """A network with a complex weight and two names of one."""

    def __init__(self):
        super().__init__()
        self.phases = nn.Parameter(torch.randn(3, 4, dtype=torch.complex64))
        self.one = nn.Linear(3, 3)
        self.other = self.one

    def forward(self, x):
        return self.other(self.one((x.to(torch.complex64) @ self.phases.T).abs()))


def test_tied_and_complex_weights_have_a_damage_each(monkeypatch):
    monkeypatch.setattr(sensitivity, "SNR_GRID_DB", (0, 20))
    torch.manual_seed(4)
    module = Wave()
    examples = as_examples((torch.randn(200, 4), torch.randint(3, (200,))))
    names = [spec.name for spec in tensor_specs(module)]
    assert len(names) == 3
    before = tensors_of(module)
    assert measure_damages(module, TASK, examples, num_draws=2).shape[1:] == (3, 2)
    found = hessian_damage(module, TASK, examples, num_draws=200)
    assert found.shape == (3, 2) and np.isfinite(found).all()
    assert all(np.array_equal(value, before[name]) for name, value in tensors_of(module).items())
    monkeypatch.setattr(torch.autograd, "grad", without_second_derivatives(torch.autograd.grad))
    assert hessian_damage(module, TASK, examples, num_draws=200) == pytest.approx(found, rel=0.1, abs=1e-3)


def without_second_derivatives(grad):
    def first(*operands, create_graph=False, **options):
        if create_graph:
            raise RuntimeError("derivative is not implemented")
        return grad(*operands, **options)

    return first


def test_a_single_background_is_that_of_every_snr(example):
    alone = dataclasses.replace(example, background_db=np.array([20.0]), damages=example.damages[:1])
    assert alone.damage(NAMES, -5).tolist() == alone.damage(NAMES, 30).tolist() == [[4, 2], [2, 1]]


def test_background_is_interpolated_and_held_at_the_ends(example):
    assert example.damage(NAMES, 0.0).tolist() == [[4, 2], [2, 1]]
    assert example.damage(NAMES, 5.0).tolist() == [[6, 3], [4, 2]]
    assert example.damage(NAMES, 99.0).tolist() == [[8, 4], [6, 3]]
    assert example.damage(NAMES, -99.0).tolist() == [[4, 2], [2, 1]]
    with pytest.raises(InputError, match="measure it again"):
        example.damage(("b", "a"))


def test_command_writes_what_load_reads(tmp_path, monkeypatch, capsys):
    real = data.load
    monkeypatch.setattr(data, "load", lambda dataset, split, data_dir: real(dataset, "test"))
    monkeypatch.setattr(sensitivity, "SNR_GRID_DB", (0, 20))
    torch.manual_seed(1)
    path = tmp_path / "x.safetensors"
    save(path, Checkpoint("fashion", "fashion-mnist", 0.1, tensors_of(build("fashion"))))
    assert find_sensitivity(path) is None
    with pytest.raises(InputError, match="sensitivity.py"):
        load_sensitivity(path)
    assert main(["--model", str(path), "--images", "40", "--draws", "1", "--background-db", "0", "20"]) == 0
    found = load_sensitivity(path)
    assert len(found.names) == 6 and found.damages.shape == (2, 6, 2) and "--images 40" in found.made
    assert main(["--model", "nosuch"]) == 1
    capsys.readouterr()


def test_small_damages_keep_their_digits(tmp_path, example):
    torch.manual_seed(1)
    path = tmp_path / "x.safetensors"
    save(path, Checkpoint("fashion", "fashion-mnist", 0.1, tensors_of(build("fashion"))))
    small = example.damages * 1.23456789e-12
    write_sensitivity(path, dataclasses.replace(example, damages=small, hessian=small[0]))
    np.testing.assert_allclose(load_sensitivity(path).damages, small, rtol=1e-5)


def test_every_network_of_a_folder_has_its_own(tmp_path, example):
    """The file of another network, or of other weights of the same names, is not taken, nor replaced."""
    paths, found = [tmp_path / f"{name}.safetensors" for name in "pq"], []
    for seed, path in enumerate(paths):
        torch.manual_seed(seed)
        save(path, Checkpoint("fashion", "fashion-mnist", 0.1, tensors_of(build("fashion"))))
        network = load(path)
        damages = np.full((2, len(network.tensors), 2), 1.0 + seed)
        of = dataclasses.replace(example, names=tuple(network.tensors), damages=damages, hessian=damages[0])
        write_sensitivity(path, dataclasses.replace(of, weights=checksum(network.tensors)))
        found.append(find_sensitivity(path, network))
        assert found[-1].damages.max() == 1 + seed
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["q.sensitivity.json", "sensitivity.json"]
    assert find_sensitivity(paths[0], load(paths[1])) is None
    assert find_sensitivity(paths[0], dataclasses.replace(load(paths[0]), tensors={"a": np.zeros(3)})) is None
    assert find_sensitivity(paths[0], load(paths[0])).damages.max() == 1


@pytest.mark.parametrize(
    "change",
    [
        {"names": ["a"]},
        {"hessian": [1.0]},
        {"made": None, "damages": "x"},
        {"damages": np.full((2, 2, 2), np.nan).tolist()},
    ],
)
def test_a_damaged_file_is_refused(tmp_path, example, change):
    torch.manual_seed(1)
    path = tmp_path / "x.safetensors"
    save(path, Checkpoint("fashion", "fashion-mnist", 0.1, tensors_of(build("fashion"))))
    fields = {name: np.asarray(value).tolist() for name, value in dataclasses.asdict(example).items()} | change
    (tmp_path / "sensitivity.json").write_text(json.dumps(fields))
    with pytest.raises(InputError, match="no sensitivity file"):
        load_sensitivity(path)
