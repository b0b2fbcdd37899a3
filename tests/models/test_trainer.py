"""Training of networks of the user's own, of any layers and parameters, and on a GPU."""

import math
import runpy

import pytest
import torch
from torch import nn
from torch.nn.utils import spectral_norm, weight_norm

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models import checkpoint as checkpoints
from airnet_sdr.models import train as training
from airnet_sdr.models.data import LOADERS
from airnet_sdr.models.ensemble import from_metadata
from airnet_sdr.models.nets import ARCHITECTURES, DATASETS, build, num_weights
from airnet_sdr.models.prune import Tracing
from airnet_sdr.models.register import register
from airnet_sdr.models.task import OWN, OwnCodeError, Task, task_of
from airnet_sdr.models.train_config import TrainConfig
from airnet_sdr.models.trainer import Trainer
from airnet_sdr.tests.command import ROOT, run

QUICK = {"model": "mine", "epochs": 2, "batch_size": 16, "learning_rate": 0.03, "average_steps": 5}
LABELS = torch.arange(100) % 2
IMAGES = torch.randn(100, 1, 8, 8, generator=torch.Generator().manual_seed(1)) + LABELS[:, None, None, None]
POINTS = IMAGES.flatten(1)[:, :6]


@pytest.fixture(autouse=True)
def tables():
    """What a test registers is gone after it."""
    yield
    for table in (ARCHITECTURES, DATASETS, LOADERS, OWN):
        table.pop("mine", None)


def train(tmp_path, network, inputs=POINTS, labels=LABELS, **options):
    """A network trained on these examples, as read again."""
    register("mine", network, lambda split, data_dir: (inputs, labels))
    training.train(TrainConfig(**(QUICK | options)), tmp_path / "out", "command")
    return checkpoints.load(tmp_path / "out" / "mine.safetensors")


class Tutorial(nn.Module):
    """As tutorials have it: `view`, which wants the usual memory layout."""

    def __init__(self):
        super().__init__()
        self.convolution, self.dense = nn.Conv2d(1, 4, 3), nn.Linear(4 * 36, 2)

    def forward(self, x):
        x = torch.relu(self.convolution(x))
        return self.dense(x.view(x.size(0), -1))


def test_the_memory_layout_is_the_usual_one(tmp_path):
    assert train(tmp_path, Tutorial, IMAGES).accuracy > 0.6
    assert Trainer(TrainConfig(**QUICK)).module.convolution.weight.is_contiguous()
    shipped = Trainer(TrainConfig(widths=(4, 5, 6, 7, 8))).module.conv2.weight
    assert shipped.is_contiguous(memory_format=torch.channels_last) and not shipped.is_contiguous()


def dense():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


def test_a_last_step_of_one_example_is_joined(tmp_path):
    assert len(train(tmp_path, dense, POINTS[:19], LABELS[:19], hold_out=2).tensors) == 6  # 17 to train on
    trainer = Trainer(TrainConfig(**QUICK))
    assert [len(part) for part in trainer.parts(torch.arange(17))] == [17]
    shipped = Trainer(TrainConfig(widths=(4, 5, 6, 7, 8), batch_size=16))
    assert [len(part) for part in shipped.parts(torch.arange(17))] == [16, 1]


def test_without_examples_held_back_no_training_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "train_epoch", None)
    with pytest.raises(InputError, match="`hold_out` must be .* at least 1; got 0"):
        TrainConfig(hold_out=0)
    with pytest.raises(InputError, match="too few to hold any back; give 10"):
        train(tmp_path, dense, POINTS[:9], LABELS[:9])
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("norm", [weight_norm, spectral_norm])
def test_normalised_weights(tmp_path, norm):
    found = train(tmp_path, lambda: nn.Sequential(norm(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, 2)))
    assert found.accuracy > 0.6 and "0.bias" in found.tensors


class Mixed(nn.Module):
    """Whole numbers, complex ones and frozen ones among the parameters, and a mask without end among the buffers."""

    def __init__(self):
        super().__init__()
        self.order = nn.Parameter(torch.arange(6).flip(0), requires_grad=False)
        self.frozen = nn.Parameter(torch.linspace(1, 2, 6), requires_grad=False)
        self.turn = nn.Parameter(torch.randn(6, 8, dtype=torch.complex64))
        self.register_buffer("columns", torch.randperm(8))
        self.register_buffer("mask", torch.tensor([0, 0, -math.inf, 0, 0, 0, 0, 0]))
        self.dense = nn.Linear(8, 2)

    def forward(self, x):
        x = (x[:, self.order] * self.frozen).to(torch.complex64) @ self.turn
        return self.dense(torch.softmax(x.abs() + self.mask, 1)[:, self.columns])


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_parameters_of_any_type(tmp_path, optimiser):
    register("mine", Mixed, lambda split, data_dir: (POINTS, LABELS))
    config = TrainConfig(**(QUICK | {"optimiser": optimiser}))
    trainer = Trainer(config)
    assert trainer.weights.keys() == {"frozen", "turn", "dense.weight", "dense.bias"}
    before = {name: each.clone() for name, each in trainer.average.items()}
    trainer.train_epoch(task_of("mine").examples("train"))
    averaged = trainer.averaged()
    assert not torch.equal(averaged.turn, before["turn"]) and not torch.equal(averaged.turn, trainer.module.turn)
    assert torch.equal(averaged.mask, Mixed().mask) and torch.equal(averaged.order, Mixed().order)
    torch.testing.assert_close(averaged.frozen, Mixed().frozen)
    trainer.save_state(tmp_path / "state")
    again = Trainer(config)
    again.load_state(tmp_path / "state")
    assert torch.equal(again.averaged().turn, averaged.turn)


def test_whole_numbers_are_kept_with_the_weights(tmp_path):
    found = train(tmp_path, Mixed)
    stopped = Trainer(TrainConfig(**QUICK))
    stopped.load_state(tmp_path / "out" / training.STATE)
    assert torch.equal(found.module().columns, stopped.module.columns)


class Deep(nn.Module):
    """A constructor that reads numbers, as those do whose layers are skipped at rates that rise with depth."""

    def __init__(self):
        super().__init__()
        self.rates = [rate.item() for rate in torch.linspace(0, 0.1, 2)]
        self.register_buffer("noise", torch.rand(8))
        self.layers = nn.ModuleList([nn.Linear(6, 8), nn.Linear(8, 8)])
        self.dense = nn.Linear(8, 2)

    def forward(self, x):
        for layer, rate in zip(self.layers, self.rates, strict=True):
            x = torch.relu(layer(x)) * (1 - rate)
        return self.dense(x + self.noise)


def test_nested_networks_whose_constructor_reads_numbers(tmp_path):
    found = train(tmp_path, Deep, nested=((6, 6, 8, 6, 2, 8),), epochs=1)
    whole, within = from_metadata(found.metadata, "mine")
    assert within.widths == (6, 6, 8, 6, 2, 8) and 0 <= within.accuracy <= 1
    trainer = Trainer(TrainConfig(**QUICK, nested=((6, 6, 8, 6, 2, 8),)))
    assert torch.equal(trainer.members[1][1].network.noise, trainer.module.noise)
    state = torch.get_rng_state()
    assert num_weights("mine") == sum(weight.numel() for weight in build("mine").parameters())
    torch.set_rng_state(state)
    num_weights("mine")
    assert torch.equal(torch.get_rng_state(), state)


def test_where_it_runs_is_chosen(monkeypatch):
    assert TrainConfig(device="auto") == TrainConfig() and TrainConfig(device="cpu").torch_device.type == "cpu"
    for there, found in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert TrainConfig().torch_device.type == found
    with pytest.raises(InputError, match="`device` is cuda, but torch finds no GPU"):
        Trainer(TrainConfig(device="cuda"))
    with pytest.raises(InputError, match="`device` must be one of auto, cpu, cuda"):
        TrainConfig(device="tpu")


def test_the_command_offers_it(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "--device {auto,cpu,cuda}" in run(training.main, "--help").out
    result = run(training.main, "--out", tmp_path, "--device", "cuda")
    assert result.status == 1 and "--device is cuda" in result.err


def test_examples_are_augmented_on_the_cpu(monkeypatch):
    seen = []

    def augment(batch, rng):
        seen.append((batch[0].device.type, rng.device.type))
        return batch[0] + torch.randn(batch[0].shape, generator=rng), batch[1]

    register("mine", dense, lambda split, data_dir: (POINTS, LABELS), augment=augment)
    monkeypatch.setattr(TrainConfig, "torch_device", torch.device("meta"))  # stands for a GPU
    trainer = Trainer(TrainConfig(**QUICK))
    batch = trainer._augmented((POINTS, LABELS), None, torch.Generator())
    assert seen == [("cpu", "cpu")] and [each.device.type for each in batch] == ["meta", "meta"]


def test_a_network_is_traced_where_it_is(monkeypatch):
    register("mine", dense, lambda split, data_dir: (POINTS, LABELS))
    monkeypatch.setattr(TrainConfig, "torch_device", torch.device("meta"))
    trainer = Trainer(TrainConfig(**QUICK), tracing=Tracing((POINTS, LABELS), task_of("mine").run, ("0",)))
    assert {each.device.type for each in trainer.tracing.example} == {"meta"}
    assert set(trainer.tracing.channels(trainer.module)) == {"0"}


def test_the_examples_make_their_tables_where_the_network_is():
    pitch, text = (runpy.run_path(f"{ROOT}/models/examples/{name}.py") for name in ("pitch", "text"))
    frames, output = torch.zeros(2, 1024, device="meta"), torch.zeros(2, 360, device="meta")
    loss = pitch["loss"](pitch["crepe_tiny"]().to("meta"), (frames, torch.zeros(2, device="meta")))
    assert [loss.device.type, pitch["pitch_of"](output).device.type] == ["meta", "meta"]
    network, masks = text["text"]().to("meta"), []
    network.layers.register_forward_pre_hook(lambda layer, _, named: masks.append(named["mask"]), with_kwargs=True)
    tokens = torch.zeros(2, 64, dtype=torch.int64, device="meta")
    assert text["loss"](network, (tokens, tokens)).device.type == masks[0].device.type == "meta"


@pytest.mark.gpu
def test_a_gpu_trains_prunes_and_augments(tmp_path):
    def augment(batch, rng):
        return batch[0] + 0.01 * torch.randn(batch[0].shape, generator=rng), batch[1]

    register("mine", dense, lambda split, data_dir: (POINTS, LABELS), augment=augment)
    config = TrainConfig(**QUICK, prune_to=60, device="cuda")
    found = training.train(config, tmp_path / "out", "command")
    assert sum(tensor.size for tensor in found.tensors.values()) <= 60


def test_the_gradient_of_a_users_code_may_fail():
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            raise ValueError("no gradient")

    task = Task("mine", lambda split, data_dir: POINTS, loss=lambda network, batch: Broken.apply(network(batch)).sum())
    register("mine", dense)
    trainer = Trainer(TrainConfig(**QUICK), task)
    with pytest.raises(OwnCodeError, match=r"gradient of mine failed.*\n  .*test_trainer.py:\d+: ValueError"):
        trainer.step(POINTS, torch.Generator().manual_seed(1))
