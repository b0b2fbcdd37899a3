"""Training: one recipe, resumed exactly, and its pieces."""

import dataclasses
import math
import shlex

import numpy as np
import pytest
import torch

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models import data
from airnet_sdr.models.augment import augment
from airnet_sdr.models.batches import as_examples
from airnet_sdr.models.checkpoint import Checkpoint, load, save
from airnet_sdr.models.ensemble import from_metadata, narrow
from airnet_sdr.models.nets import build, num_weights
from airnet_sdr.models.packing import tensors_of
from airnet_sdr.models.train import main, train
from airnet_sdr.models.train_config import TrainConfig, learning_rate
from airnet_sdr.models.trainer import Trainer
from airnet_sdr.tests.command import run

WIDTHS = (4, 6, 8, 10, 12)
SMALL = TrainConfig(epochs=2, limit=96, batch_size=32, average_steps=5, hold_out=20)


@pytest.fixture(autouse=True)
def small_data(monkeypatch):
    """The first 200 test images stand for both splits: the training images need not be here."""
    real = data.load
    monkeypatch.setattr(
        data, "load", lambda dataset, split, data_dir=None: tuple(array[:200] for array in real(dataset, "test"))
    )


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """An untrained narrow network, to learn from or to go on from."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    module = build("fashion", WIDTHS)
    save(path, Checkpoint("fashion", "fashion-mnist", 0.1, tensors_of(module), widths=WIDTHS))
    return str(path)


RECIPES = {
    "noise": {},
    "clean": {"max_snr_db": math.inf},
    "pruned": {"prune_to": 2_000, "prune_share": 0.9, "teacher": "teacher", "widths": WIDTHS, "uep": 0.5},
    "bits": {"bits": 6_000, "teacher": "teacher", "widths": WIDTHS, "prune_to": 2_000, "prune_share": 0.9},
    "nested": {"nested": ((4, 5, 6, 7, 8), (4, 4, 5, 6, 7), (4, 4, 4, 5, 6)), "teacher": "teacher", "widths": WIDTHS},
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_resume_goes_on_exactly(tmp_path, monkeypatch, recipe, teacher):
    monkeypatch.setattr("airnet_sdr.models.trainer.PRUNE_STEPS", 1)
    options = {name: teacher if value == "teacher" else value for name, value in RECIPES[recipe].items()}
    small = dataclasses.replace(SMALL, **options)
    whole = train(small, tmp_path / "whole", "command")

    real = Trainer.train_epoch

    def stop_after_one(self, *args):
        if self.epoch == 1:
            raise KeyboardInterrupt
        return real(self, *args)

    monkeypatch.setattr(Trainer, "train_epoch", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        train(small, tmp_path / "cut", "command")
    monkeypatch.setattr(Trainer, "train_epoch", real)
    assert not (tmp_path / "cut" / "fashion.safetensors").exists()
    resumed = train(small, tmp_path / "cut", "command", resume=True)

    for name, tensor in whole.tensors.items():
        np.testing.assert_array_equal(resumed.tensors[name], tensor)
    found = load(tmp_path / "cut" / "fashion.safetensors")
    assert found.accuracy == pytest.approx(whole.accuracy, abs=1e-4) and found.metadata["seed"] == "1"
    assert "epoch   1" in (tmp_path / "cut" / "train.log").read_text()
    with pytest.raises(InputError, match="`seed` was 1, now it is 2; resume with the same options"):
        train(dataclasses.replace(small, seed=2), tmp_path / "cut", "command", resume=True)
    if small.prune_to:
        assert 1_500 < sum(tensor.size for tensor in found.tensors.values()) <= 2_000
    members = from_metadata(found.metadata, "fashion")
    assert [member.widths for member in members] == ([WIDTHS, *small.nested] if small.nested else [])


def test_training_goes_on_from_a_checkpoint(tmp_path):
    first = train(SMALL, tmp_path, "command")
    trainer = Trainer(TrainConfig(seed=2, init=str(tmp_path / "fashion.safetensors")))
    for name, weight in trainer.weights.items():
        np.testing.assert_array_equal(weight.detach(), first.tensors[name])
        np.testing.assert_array_equal(trainer.average[name], first.tensors[name])


def test_what_is_kept_in_half_precision_is_measured_so(tmp_path):
    trained = train(dataclasses.replace(SMALL, half=True, epochs=1), tmp_path, "command")
    found = load(tmp_path / "fashion.safetensors")
    assert all(np.array_equal(found.tensors[name], tensor) for name, tensor in trained.tensors.items())
    assert all(np.array_equal(tensor, tensor.astype(np.float16)) for tensor in trained.tensors.values())
    again = train(
        dataclasses.replace(SMALL, half=True, epochs=0, init=str(tmp_path / "fashion.safetensors")), tmp_path, ""
    )
    assert all(np.array_equal(found.tensors[name], tensor) for name, tensor in again.tensors.items())


def test_a_training_that_diverges_ends_and_leaves_no_network(tmp_path):
    with pytest.raises(InputError, match="not finite in epoch 1; lower `learning_rate`"):
        train(dataclasses.replace(SMALL, learning_rate=1e30), tmp_path, "command")
    assert not list(tmp_path.glob("*.safetensors"))


def test_steps_lower_the_loss():
    batch = tuple(array[:32] for array in data.load("fashion-mnist", "train"))
    trainer, rng = Trainer(TrainConfig(learning_rate=0.05, min_snr_db=15.0)), torch.Generator().manual_seed(1)
    losses = [trainer.step(batch, rng) for _ in range(12)]
    assert losses[-1] < 0.8 * losses[0]


def test_command(tmp_path, capsys):
    argv = ["--model", "fashion", "--out", str(tmp_path / "out"), "--epochs", "1", "--limit", "64"]
    assert main(argv) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "fashion.safetensors",
        "train.log",
        "command.txt",
        "state.safetensors",
    }
    assert "--limit 64" in load(tmp_path / "out" / "fashion.safetensors").metadata["command"]
    capsys.readouterr()
    assert main(argv) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--force" in error and "--resume" in error
    assert main([*argv, "--force"]) == 0 and main([*argv[:4], "--epochs", "2", "--limit", "64", "--resume"]) == 0
    log = (tmp_path / "out" / "train.log").read_text()
    assert log.count("epoch   1") == log.count("epoch   2") == 1
    capsys.readouterr()
    assert main(["--out", str(tmp_path / "none"), "--resume"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "resume" in error


def test_ctrl_c_says_how_to_go_on(tmp_path, monkeypatch):
    real = Trainer.train_epoch

    def stopped(self, *others):
        if self.epoch == 1:
            raise KeyboardInterrupt
        return real(self, *others)

    monkeypatch.setattr(Trainer, "train_epoch", stopped)
    argv = ["--model", "fashion", "--limit", "64", "--out", tmp_path / "a folder"]
    result = run(main, *argv)
    assert result.status == 130 and result.err.count("\n") == 1
    words = shlex.split(result.err.partition("go on with: ")[2])
    assert words == ["python", "models/train.py", *map(str, argv), "--resume"]


def test_the_help_says_the_defaults():
    shown = " ".join(run(main, "--help").out.split())
    for text in (" 128", " sgd", " 0.4", ": none", ": random weights", ": --model", ": the architecture's own"):
        assert f"(default{text})" in shown


def test_a_recipe_that_cannot_be_is_refused():
    for options in (
        {"prune_to": 9, "nested": (WIDTHS,)},
        {"nested": (WIDTHS,), "nested_snr_db": ((0, 9), (0, 9))},
        {"nested": (WIDTHS,), "nested_snr_db": ((0, 9, 10),)},
        {"nested": (WIDTHS,), "nested_step": 1},
    ):
        with pytest.raises(InputError):
            TrainConfig(**options)
    with pytest.raises(InputError, match="fashion-teacher"):
        Trainer(TrainConfig(model="fashion-teacher", init="fashion"))


def test_each_network_within_meets_its_own_noise(monkeypatch):
    nested = ((4, 5, 6, 7, 8), (4, 4, 5, 6, 7))
    config = dataclasses.replace(
        SMALL, widths=WIDTHS, nested=nested, min_snr_db=5, max_snr_db=20, nested_snr_db=((2, 9), (1, 4))
    )
    trainer, met = Trainer(config), []
    arrived = Trainer._arrived

    def record(self, weights, snr_db, rng):
        met.append((sum(weight.numel() for weight in weights.values()), snr_db))
        return arrived(self, weights, snr_db, rng)

    monkeypatch.setattr(Trainer, "_arrived", record)
    images = torch.randint(0, 255, (8, 1, 28, 28), dtype=torch.uint8)
    trainer.step((images, torch.arange(8)), torch.Generator().manual_seed(1))
    sizes = [num_weights("fashion", widths) for widths in (WIDTHS, *nested)]
    met_by_each = list(zip(sizes, ((5, 20), (2, 9), (1, 4)), strict=True))
    assert met == met_by_each
    met.clear()
    trainer, rng = Trainer(dataclasses.replace(config, nested_step=2)), torch.Generator().manual_seed(1)
    for _ in range(10):
        trainer.step((images, torch.arange(8)), rng)
    assert met[::2] == met_by_each[:1] * 10 and set(met[1::2]) == set(met_by_each[1:])


def test_networks_with_batch_norm_nest_too():
    """The largest alone keeps statistics; those within go by each batch's own."""
    recipe = dataclasses.replace(SMALL, model="cifar", widths=(4,) * 7, nested=((3,) * 7, (2,) * 7))
    trainer = Trainer(recipe)
    images = torch.randint(0, 255, (8, 3, 32, 32), dtype=torch.uint8)
    assert math.isfinite(trainer.step((images, torch.arange(8)), torch.Generator().manual_seed(1)))
    assert trainer.module.norm1.num_batches_tracked == 1
    assert all(weight.grad.abs().max() > 0 for weight in trainer.weights.values())


def test_the_largest_grows_from_a_network_within(small_data, tmp_path):
    """With no channels sorted: after a training of no epochs, what was given is still within, and computes the same."""
    within = (4, 5, 6, 7, 8)
    train(dataclasses.replace(SMALL, widths=within, epochs=0), tmp_path / "small", "")
    small = tmp_path / "small" / "fashion.safetensors"
    recipe = dataclasses.replace(SMALL, widths=WIDTHS, init=str(small), nested=(within,))
    grown = train(dataclasses.replace(recipe, epochs=0), tmp_path / "grown", "")
    assert grown.widths == WIDTHS
    for name, tensor in narrow(grown.tensors, "fashion", within).items():
        assert np.array_equal(tensor, load(small).tensors[name])
    trained = train(dataclasses.replace(recipe, epochs=1), tmp_path / "trained", "")
    assert [member.widths for member in from_metadata(trained.metadata, "fashion")] == [WIDTHS, within]
    moved = trained.tensors["conv4.weight"][: within[3], within[2] :]
    assert np.abs(moved).max() > 0 and not grown.tensors["conv4.weight"][: within[3], within[2] :].any()


def test_what_is_nested_already_is_not_sorted_again(small_data, tmp_path):
    within = (4, 5, 6, 7, 8)
    recipe = dataclasses.replace(SMALL, widths=WIDTHS, nested=(within,))
    train(dataclasses.replace(recipe, epochs=1), tmp_path / "first", "")
    path = tmp_path / "first" / "fashion.safetensors"
    again, images = Trainer(dataclasses.replace(recipe, widths=(), init=str(path))), torch.zeros(8, 1, 28, 28)
    again.sort_channels(as_examples((images.byte(), torch.zeros(8, dtype=torch.int64))))
    assert np.array_equal(again.module.conv2.weight.detach().numpy(), load(path).tensors["conv2.weight"])
    other = Trainer(dataclasses.replace(recipe, widths=(), init=str(path), nested=((3, 5, 6, 7, 8),)))
    other.sort_channels(as_examples((images.byte(), torch.zeros(8, dtype=torch.int64))))
    assert not np.array_equal(other.module.conv2.weight.detach().numpy(), load(path).tensors["conv2.weight"])


def test_learning_rate_rises_and_falls_to_nothing():
    config = TrainConfig()
    assert learning_rate(config, config.warm_up) == pytest.approx(config.learning_rate)
    assert learning_rate(config, 0.0) == 0 and learning_rate(config, 1.0) == pytest.approx(0, abs=1e-12)


def test_augment_shifts_and_mirrors():
    images = torch.zeros(64, 1, 28, 28, dtype=torch.uint8)
    images[:, 0, 10, 5] = 200
    moved = augment(images, 2, torch.Generator().manual_seed(1))
    assert moved.shape == images.shape and moved.dtype == torch.uint8
    assert (moved.flatten(1).count_nonzero(dim=1) == 1).all()
    rows, columns = moved[:, 0].nonzero()[:, 1], moved[:, 0].nonzero()[:, 2]
    assert set(rows.tolist()) == set(range(8, 13))
    assert set(columns.tolist()) == {*range(3, 8), *range(20, 25)}  # 5, or 22 when mirrored, each within 2
    assert torch.equal(
        augment(images, 0, torch.Generator().manual_seed(1)).flip(3)[:, 0, 10, 5] == 200,
        augment(images, 0, torch.Generator().manual_seed(1))[:, 0, 10, 22] == 200,
    )


def test_cutout_blanks_a_square_wherever_it_falls():
    images = torch.full((500, 3, 32, 32), 200, dtype=torch.uint8)
    cut = augment(images, 0, torch.Generator().manual_seed(1), cutout=12)
    assert set(cut.unique().tolist()) == {128, 200}
    blank = cut[:, 0] == 128
    assert torch.equal(blank, cut[:, 2] == 128)
    sizes = blank.flatten(1).sum(1)
    assert sizes.max() == 144 and sizes.min() >= 36  # a quarter of it, where its centre is in the image's corner
    rows, columns = blank.any(2).sum(1), blank.any(1).sum(1)
    assert torch.equal(rows * columns, sizes) and blank.any(0).all()
