"""The whole method on networks of the user's own: training, pruning, nesting, distillation, bits, sensitivity."""

import dataclasses

import numpy as np
import pytest
import torch

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models import checkpoint as checkpoints
from airnet_sdr.models import train as training
from airnet_sdr.models.ensemble import extract, from_metadata
from airnet_sdr.models.nets import ARCHITECTURES, DATASETS, build
from airnet_sdr.models.own_file import FILES
from airnet_sdr.models.prune import Tracing, prunable
from airnet_sdr.models.register import from_file
from airnet_sdr.models.resize import resize, widths_of
from airnet_sdr.models.sensitivity import main as sensitivity
from airnet_sdr.models.sensitivity_file import load_sensitivity
from airnet_sdr.models.task import OWN, OwnCodeError, task_of
from airnet_sdr.models.train_config import TrainConfig
from airnet_sdr.models.trainer import Trainer
from airnet_sdr.sim import loopback
from airnet_sdr.tests.command import assert_refused, run
from airnet_sdr.tests.models.own import IMAGES, SERIES

QUICK = {"epochs": 4, "batch_size": 32, "learning_rate": 0.03, "average_steps": 10}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files of both networks, which are registered."""
    folder = tmp_path_factory.mktemp("own")
    for name, text in (("spot", IMAGES), ("series", SERIES)):
        (folder / f"{name}.py").write_text(text)
        from_file(f"{folder / name}.py:{name}")
    yield folder
    for name in ("spot", "series"):
        for table in (ARCHITECTURES, DATASETS, OWN):
            table.pop(name, None)
    FILES.clear()


@pytest.fixture(scope="module")
def spot(folder):
    """The images' network, trained."""
    training.train(TrainConfig(model="spot", **QUICK), folder / "spot", "command")
    return folder / "spot" / "spot.safetensors"


def test_images_are_neither_mirrored_nor_shifted_and_left_is_told_from_right(spot):
    found = checkpoints.load(spot)
    assert found.accuracy > 0.95 and float(found.metadata["validation_loss"]) < 0.2
    assert not TrainConfig(model="spot").augmentation and TrainConfig(model="spot", mirror="yes").augmentation.mirror
    assert TrainConfig().augmentation == TrainConfig(max_shift=1, mirror="yes").augmentation


def test_pruned_as_far_as_it_can_be_and_what_cannot_is_said(folder, spot):
    out = folder / "pruned"
    config = TrainConfig(model="spot", init=str(spot), prune_to=600, teacher=str(spot), **QUICK)
    training.train(config, out, "command")
    log = (out / "train.log").read_text()
    assert "not pruned: 4.fixed, since" in log and "not pruned: 7, since its channels are the output's" in log
    small = checkpoints.load(out / "spot.safetensors")
    assert sum(tensor.size for tensor in small.tensors.values()) <= 600 and small.widths and small.accuracy > 0.8
    options = ["--architecture", f"{folder}/spot.py:spot", "--snr-db", 30, "--report", folder / "r.json"]
    result = run(loopback.main, *options, "--model", out / "spot.safetensors", "--save", folder / "got.safetensors")
    assert result.status == 0, result
    assert checkpoints.load(folder / "got.safetensors").widths == small.widths
    with pytest.raises(InputError, match="cannot be pruned; raise it"):
        training.train(dataclasses.replace(config, prune_to=20), out, "command")


def test_a_resized_network_is_the_first_channels_of_the_whole(folder):
    module = build("spot")
    tracing, _ = prunable(module, Tracing(task_of("spot").examples("train").take(torch.arange(2)), task_of("spot").run))
    assert tracing.layers == ("1",)  # what is added to fixed channels stays, too
    full = widths_of(module)
    weight = module[7].weight.detach().clone()
    smaller = resize(module, (*full[:-2], 2, 40))
    assert torch.equal(smaller[7].weight, weight[:, :40]) and widths_of(smaller) == (*full[:-2], 2, 40)
    with pytest.raises(InputError, match="cannot have"):
        build("spot", full[:-1])


def test_nested_by_a_share_of_the_channels(folder):
    config = TrainConfig(model="spot", nested=((0.6,),), nested_snr_db=((0, 10),), **QUICK)
    training.train(config, folder / "nested", "command")
    found = checkpoints.load(folder / "nested" / "spot.safetensors")
    whole, within = from_metadata(found.metadata, "spot")
    assert within.losses[0] > within.losses[-1] and 0 <= within.accuracy <= 1
    small = extract(found, within)
    assert small.module()(torch.zeros(2, 1, 8, 16)).shape == (2, 2)
    assert sum(t.size for t in small.tensors.values()) < sum(t.size for t in found.tensors.values())


def test_bits(folder, spot):
    config = TrainConfig(model="spot", init=str(spot), bits=3000, **QUICK)
    training.train(config, folder / "bits", "command")
    found = checkpoints.load(folder / "bits" / "spot.safetensors")
    assert int(found.metadata["bits"]) <= 3000 and found.accuracy > 0.8


@pytest.mark.parametrize("optimiser, rate", [("sgd", 0.05), ("adamw", 0.02)])
def test_an_own_loss_with_two_inputs_is_learnt_resumed_and_taught(folder, monkeypatch, optimiser, rate):
    out = folder / optimiser
    config = TrainConfig(model="series", optimiser=optimiser, **{**QUICK, "learning_rate": rate, "epochs": 8})
    whole = training.train(config, out, "command")
    assert whole.accuracy is None and whole.metrics["MSE"] < 0.8
    torch.manual_seed(99)  # what a resumed process would have
    stopped = dataclasses.replace(config, epochs=4)
    training.train(stopped, folder / "cut", "command")
    trainer = Trainer(config)
    trainer.load_state(folder / "cut" / training.STATE)  # more epochs extend it
    assert trainer.epoch == 4
    training.train(stopped, folder / "cut", "command", resume=True)
    again = training.train(config, folder / "again", "command")
    assert all(np.array_equal(again.tensors[name], tensor) for name, tensor in whole.tensors.items())
    teacher = str(out / "series.safetensors")
    taught = training.train(dataclasses.replace(config, teacher=teacher), folder / "taught", "command")
    assert taught.metrics["MSE"] < 0.8


def test_what_the_users_functions_raise_is_told(folder, monkeypatch):
    config = TrainConfig(model="series", **QUICK)
    task = task_of("series")
    monkeypatch.setitem(OWN, "series", dataclasses.replace(task, augment=lambda batch, rng: 1 / 0))
    with pytest.raises(OwnCodeError, match="augment of series failed.*\n.*ZeroDivisionError"):
        training.train(config, folder / "failing", "command")
    monkeypatch.setitem(OWN, "series", dataclasses.replace(task, evaluate=lambda network, data_dir: 1 / 0))
    with pytest.raises(OwnCodeError, match="evaluate of series"):
        training.train(dataclasses.replace(config, epochs=1), folder / "failing", "command")
    assert checkpoints.load(folder / "failing" / "series.safetensors").metrics == {}  # kept all the same
    with pytest.raises(InputError, match="`max_shift`"):
        training.train(dataclasses.replace(config, max_shift=2), folder / "failing", "command")


def test_sensitivity_of_an_own_network_by_its_own_loss(folder):
    out = folder / "measured"
    training.train(TrainConfig(model="series", **QUICK), out, "command")
    model = out / "series.safetensors"
    options = ["--architecture", f"{folder}/series.py:series", "--model", model]
    result = run(sensitivity, *options, "--images", 20, "--draws", 1)
    assert (result.status, result.err) == (0, "")
    found = load_sensitivity(model)
    assert found.names == tuple(checkpoints.load(model).tensors) and np.isfinite(found.damages).all()
    assert found.damages[-1, :, 0].max() > 0 and found.hessian.max() > 0
    sent = ["--snr-db", 10, "--uep", "auto"]
    result = run(loopback.main, *options, *sent)
    assert result.status == 0 and "MSE" in result.out
    assert_refused(run(training.main, "--architecture", options[1], "--out", out), 1, "--force", "--resume")
