"""What a user's file says about its networks: data, loss, measures; and how both are used."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models import measures
from airnet_sdr.models.batch_norm import normalised_by_batch
from airnet_sdr.models.batches import BATCH_SIZE, bounded_parts
from airnet_sdr.models.evaluate import evaluate
from airnet_sdr.models.foreign import declare_torchvision_operators
from airnet_sdr.models.sensitivity import hessian_damage
from airnet_sdr.models.task import OWN, OwnCodeError, Task, task_of, top1

X = torch.randn(60, 3, generator=torch.Generator().manual_seed(1))
Y = (X[:, 0] > 0).long()


class Two(nn.Module):
    """Two inputs, an output of two parts."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(3, 2)

    def forward(self, a, b):
        return self.dense(a) + b, a


def sorted_by_class(split, data_dir):
    return X[Y.argsort()], Y.sort().values


def squared_error(network, batch):
    return (network(batch["x"]).squeeze(1) - batch["y"]).square().mean()


def test_the_loss_is_cross_entropy_at_the_best_temperature_unless_told():
    right = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        right.weight.copy_(torch.tensor([[-1.0, 0, 0], [1.0, 0, 0]]))
    task = Task("t", lambda split, data_dir: (X, torch.where(torch.arange(60) < 6, 1 - Y, Y)))
    loss = task.mean_loss(right, task.examples("train"))
    with torch.no_grad():
        right.weight *= 0.5
    assert loss < 0.5 and task.mean_loss(right, task.examples("train")) == pytest.approx(loss, rel=0.1)
    assert task.top1(right, task.examples("train")) == 0.9
    with torch.no_grad():
        right.weight *= math.nan
    assert task.mean_loss(right, task.examples("train")) == math.inf


def test_an_own_loss_is_its_mean_over_examples_and_no_accuracy():
    task = Task("t", lambda split, data_dir: {"x": X, "y": X[:, 0]}, loss=squared_error)
    module = nn.Linear(3, 1)
    with torch.no_grad():
        wanted = (module(X).squeeze(1) - X[:, 0]).square().mean().item()
    examples = task.examples("test")
    assert task.mean_loss(module, examples) == pytest.approx(wanted, rel=1e-5) and module.training
    assert task.top1(module, examples) is None


def test_several_inputs_and_outputs():
    task = Task("t", lambda split, data_dir: (X, torch.zeros(60, 1), Y))
    assert 0 <= task.top1(Two(), task.examples("test")) <= 1


def test_what_is_held_back_is_not_trained_on_and_has_every_class():
    task = Task("t", sorted_by_class)
    training, held_back = task.split(2500)
    assert len(held_back) == 6 and len(training) == 54
    rows = {tuple(row) for row in next(training.batches(99))[0].tolist()}
    inputs, labels = next(held_back.batches(99))
    assert not rows & {tuple(row) for row in inputs.tolist()} and set(labels.tolist()) == {0, 1}
    assert torch.equal(next(task.held_back(2).batches(9))[0], inputs[:2])
    shipped = task_of("fashion-mnist")
    images, _ = shipped.examples("test").take(torch.tensor([3]))
    assert images.shape == (1, 1, 28, 28) and not shipped.is_own


@pytest.mark.parametrize(
    "data, word",
    [(X, "loss"), ((X, X[:, :1]), "loss"), ((X, Y[:, None]), "do not fit"), ({"x": X}, "load_data|x")],
)
def test_what_is_no_classifier_needs_a_loss(data, word):
    task = Task("t", lambda split, data_dir: data)
    with pytest.raises((InputError, TypeError), match=word):
        task.top1(nn.Linear(3, 2), task.examples("test"))


def fail(*_):
    raise ValueError("line one\nline two")


def test_a_users_error_is_said_with_its_place():
    for task in (Task("mine", fail), Task("mine", evaluate=fail), Task("mine", loss=fail)):
        with pytest.raises(
            OwnCodeError, match=r"of mine failed.*\n  .*test_task.py:\d+: ValueError: line one line two"
        ):
            task.metrics(nn.Linear(3, 2)) if task.evaluate else None
            task.batch_loss(None, None) if task.loss else task.examples("train")


class Ragged(torch.utils.data.Dataset):
    """Examples of different lengths, and none at an odd index."""

    def __len__(self):
        return 20

    def __getitem__(self, index):
        if index % 2:
            raise KeyError(f"row {index}")
        return torch.zeros(index + 1), 0


def endless(split, data_dir):
    yield X, Y
    raise ZeroDivisionError("no more")


def test_what_a_users_data_raise_later_is_said_with_its_place():
    examples = Task("mine", lambda split, data_dir: Ragged()).examples("test")
    with pytest.raises(OwnCodeError, match=r"load_data of mine failed.*\n  .*test_task.py:\d+: KeyError: 'row 1'"):
        examples.take(torch.arange(2))
    with pytest.raises(OwnCodeError, match=r"load_data of mine failed.*\n  .*: RuntimeError: stack expects"):
        examples.select(torch.tensor([0, 2])).take(torch.arange(2))
    with pytest.raises(OwnCodeError, match=r"load_data of mine failed.*\n  .*test_task.py:\d+: ZeroDivisionError"):
        Task("mine", endless).examples("test")


class Failing(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.error, self.dense = error, nn.Linear(3, 2)

    def forward(self, x):
        if self.error is not None:
            raise self.error
        return self.dense(x[:, :2])


@pytest.mark.parametrize(
    "error", [AssertionError("no"), KeyError("no"), TypeError("no"), AttributeError("no"), NotImplementedError(), None]
)
def test_what_a_network_raises_is_said_with_its_place(error):
    task = Task("mine", lambda split, data_dir: (X, Y))
    name = type(error or RuntimeError()).__name__
    for use in (task.top1, task.mean_loss):
        with pytest.raises(InputError, match=rf"inputs of \(3,\) .*\n  .*test_task.py:\d+: {name}: "):
            use(Failing(error), task.examples("test"))
    with pytest.raises(InputError, match=r"does not take inputs of \(3,\) \(.*missing 1 required") as caught:
        task.top1(Two(), task.examples("test"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("made", [{}, (), None])
def test_a_network_that_returns_nothing_is_no_classifier(made):
    task = Task("mine", lambda split, data_dir: (X, Y))
    with pytest.raises(InputError, match="cross-entropy"):
        task.top1(lambda_module(lambda x: made), task.examples("test"))


def lambda_module(function):
    module = nn.Module()
    module.forward = function
    return module


@pytest.mark.parametrize("found", [torch.zeros(2), "a", None])
def test_a_loss_that_is_no_number_is_said(found):
    task = Task("mine", lambda split, data_dir: (X, Y), loss=lambda network, batch: found)
    with pytest.raises(OwnCodeError, match="loss of mine failed"):
        task.mean_loss(nn.Linear(3, 2), task.examples("test"))


def slope(network, batch):
    """A loss that takes a gradient, as of a network that solves a differential equation."""
    x = batch["x"].requires_grad_()
    (gradient,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
    return (gradient.sum(1) - batch["y"]).square().mean()


def test_a_loss_may_take_gradients():
    task, module = Task("mine", lambda split, data_dir: {"x": X.clone(), "y": X[:, 0]}, loss=slope), nn.Linear(3, 1)
    wanted = (module.weight.detach().sum() - X[:, 0]).square().mean().item()
    assert task.mean_loss(module, task.examples("test")) == pytest.approx(wanted, rel=1e-4)
    with torch.no_grad():
        assert float(task.run(module, task.examples("test").take(torch.arange(60)))) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.int16])
def test_labels_are_whole_numbers_of_any_type(dtype):
    task, module = Task("t", lambda split, data_dir: (X, Y.to(dtype))), nn.Linear(3, 2)
    usual = Task("t", lambda split, data_dir: (X, Y))
    batch = X, Y.to(dtype)
    assert torch.equal(task.batch_loss(module, batch), usual.batch_loss(module, (X, Y)))
    assert task.mean_loss(module, task.examples("test")) == usual.mean_loss(module, usual.examples("test"))
    assert task.top1(module, task.examples("test")) == usual.top1(module, usual.examples("test"))


def test_labels_that_pytorch_ignores_count_for_nothing():
    some, module = torch.where(torch.arange(60) % 3 == 0, -100, Y), nn.Linear(3, 2)
    task, few = Task("t", lambda split, data_dir: (X, some)), Task("t", lambda s, d: (X[some >= 0], Y[some >= 0]))
    examples, told = task.examples("test"), few.examples("test")
    assert task.top1(module, examples) == few.top1(module, told)
    assert task.mean_loss(module, examples) == pytest.approx(few.mean_loss(module, told), rel=1e-6)
    none = Task("t", lambda split, data_dir: (X, torch.full((60,), -100)))
    with pytest.raises(InputError, match="all labels"):
        none.top1(module, none.examples("test"))
    for wrong in (-1, -99, 2):
        with pytest.raises(InputError, match="labels from"):
            task.batch_loss(module, (X, torch.where(some < 0, wrong, some)))


def test_sequences_of_different_lengths_are_padded_with_labels_that_count_for_nothing():
    def padded(rows):
        labels = torch.nn.utils.rnn.pad_sequence([torch.zeros(n, dtype=int) for n in rows], True, -100)
        return nn.functional.one_hot(labels.clamp(min=0), 3).float().transpose(1, 2), labels  # right, but for padding

    rows = [2] * BATCH_SIZE + [5, 3]
    loader = torch.utils.data.DataLoader(rows, batch_size=2, collate_fn=padded)
    task = Task("t", lambda split, data_dir: loader)
    assert len(bounded_parts(task.examples("test"))) == 2
    assert task.top1(nn.Identity(), task.examples("test")) == 1.0
    assert 0 < task.mean_loss(nn.Identity(), task.examples("test")) < 0.1


def test_batch_norm_of_each_batch_has_two_examples_or_more():
    num = BATCH_SIZE + 1
    task = Task("t", lambda split, data_dir: (X.repeat(9, 1)[:num], Y.repeat(9)[:num]))
    module, examples = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), task.examples("train")
    with normalised_by_batch(module):
        assert math.isfinite(task.mean_loss(module, examples))
        assert hessian_damage(module, task, examples, num_draws=1).shape[0] == 6
    assert len(bounded_parts(examples)) == 1


@pytest.mark.parametrize(
    "found, word",
    [
        ({}, "got none"), (5, "got int"), ({"a": "b"}, "a must be a number; got 'b'"), ({"a": None}, "got None"),
        ({"a": torch.zeros(2)}, "a must be a number; got tensor"), ({"a": 10**400}, "got 1000"), ({"a": 1j}, "got 1j"),
        ({"x" * 400: 1.0}, r"32 ASCII characters; got 'x+\.\.\.x+'$"),
        ({str(i): 1.0 for i in range(20)}, "at most 16; got 20"),
    ],
)  # fmt: skip
def test_metrics_that_cannot_be_reported_are_refused(found, word):
    with pytest.raises(InputError, match=word):
        Task("mine", evaluate=lambda network, data_dir: found).metrics(nn.Linear(3, 2))


def test_a_metric_may_be_an_array_of_one():
    found = {"a": np.ones(1), "b": torch.tensor([[2.5]]), "c": np.float16(3), "d": True}
    values = Task("mine", evaluate=lambda network, data_dir: found).metrics(nn.Linear(3, 2))
    assert values == {"a": 1, "b": 2.5, "c": 3, "d": 1} and {type(each) for each in values.values()} == {float}


def test_metrics_are_found_in_evaluation_mode_and_beside_accuracy(monkeypatch):
    seen = []

    def own(network, data_dir):
        seen.append((network.training, torch.is_grad_enabled(), data_dir))
        return {"sum": torch.tensor(2.5), "other": 1}

    monkeypatch.setitem(OWN, "t", Task("t", lambda split, data_dir: (X, Y), own))
    found = evaluate(nn.Sequential(nn.Linear(3, 2), nn.Dropout()), "t", "here")
    assert found.metrics == {"sum": 2.5, "other": 1.0} and seen == [(False, False, "here")] and found.accuracy > 0
    monkeypatch.setitem(OWN, "t", Task("t", lambda split, data_dir: X, own))
    assert evaluate(nn.Linear(3, 2), "t").accuracy is None


def test_ready_measures():
    """Each against its definition."""
    declare_torchvision_operators()
    pytest.importorskip("torchmetrics", exc_type=(ImportError, RuntimeError))
    rng = torch.Generator().manual_seed(2)
    logits, labels = torch.randn(40, 4, generator=rng), torch.randint(4, (40,), generator=rng)
    found = measures.evaluate(lambda split, data_dir: (logits, labels), measures.top_k(), measures.top_k(2))(
        nn.Identity()
    )
    ranks = (logits > logits.gather(1, labels[:, None])).sum(1)
    assert found == {
        "top-1": pytest.approx((ranks < 1).float().mean()),
        "top-2": pytest.approx((ranks < 2).float().mean()),
    }

    def one(measure, outputs, targets):
        (value,) = measures.evaluate(lambda split, data_dir: (outputs, targets), measure)(nn.Identity()).values()
        return value

    tokens = torch.randint(4, (5, 8), generator=rng)
    loss = nn.functional.cross_entropy(logits.reshape(5, 8, 4).transpose(1, 2), tokens)
    assert one(measures.perplexity(), logits.reshape(5, 8, 4), tokens) == pytest.approx(loss.exp().item(), rel=1e-4)
    assert one(measures.rmse(), logits, logits + 3) == pytest.approx(3, rel=1e-4)
    masks = torch.tensor([[[0, 0], [1, 1]]])
    outputs = nn.functional.one_hot(torch.tensor([[[0, 1], [1, 1]]]), 2).permute(0, 3, 1, 2).float()
    assert one(measures.mean_iou(), outputs, masks) == pytest.approx((1 / 2 + 2 / 3) / 2)
    odd, ignored = logits.clone(), labels.clone()
    odd[:10, labels[0]], ignored[5:15] = torch.nan, -100
    right = (ranks < 2) & (torch.arange(40) >= 10)
    assert one(measures.top_k(), odd, ignored) == pytest.approx(top1(odd, ignored))
    assert one(measures.top_k(2), odd, ignored) == pytest.approx(right[ignored >= 0].float().mean())
    with pytest.raises(InputError, match="needs a measure"):
        measures.evaluate(lambda split, data_dir: X)
