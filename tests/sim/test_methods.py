"""The table of methods, on untrained networks, and its ground: equivalent noise is what the link leaves."""

import json

import numpy as np
import pytest
import torch

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models import data
from airnet_sdr.models.batches import as_examples
from airnet_sdr.models.beside import State
from airnet_sdr.models.checkpoint import Checkpoint, load, save
from airnet_sdr.models.evaluate import logits
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import tensors_of
from airnet_sdr.models.payload.protection import protect
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.models.statistics import Statistics, channels_of, measure
from airnet_sdr.models.task import task_of
from airnet_sdr.sim.experiments import methods
from airnet_sdr.sim.experiments.library.judge import Judge
from airnet_sdr.sim.experiments.library.networks import METHODS, Shelf
from airnet_sdr.sim.experiments.library.scoring import Sent, score_in_white_noise, score_over_link
from airnet_sdr.sim.experiments.library.tables import compare_link, summarise
from airnet_sdr.tests.command import run

WIDTHS = (8, 8, 12, 12, 12)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Untrained networks in the places of the trained ones, two training seeds."""
    folder = tmp_path_factory.mktemp("networks")
    for seed in (1, 2):
        torch.manual_seed(seed)
        for name in ("clean", "noise"):
            sent = Checkpoint("fashion", "fashion-mnist", 0.1, tensors_of(build("fashion", WIDTHS)), {}, WIDTHS)
            save(folder / "fashion-mnist" / name / f"seed-{seed}" / "fashion.safetensors", sent)
    return folder


@pytest.fixture
def few(monkeypatch):
    """Test images stand for the training images, which need not be here."""
    real = data.load
    monkeypatch.setattr(data, "load", lambda dataset, split, data_dir=None: real(dataset, "test"))


def test_the_table(networks, few, tmp_path):
    options = ["--training-seeds", "1", "2", "--link-seeds", "3", "--images", "50", "--snr-db", "-5", "15"]
    result = run(methods.main, "--networks", networks, "--out", tmp_path, "--payload-uses", "9000", *options)
    assert (result.status, result.err) == (0, "")
    rows = json.loads((tmp_path / "methods.json").read_text())["rows"]
    assert len(rows) == 2 * 2 * 2 * 3  # two methods have all their networks here
    assert {row["method"] for row in rows} == {"plain analog", "+ weight noise"}
    assert all(0 <= row["accuracy"] <= 1 and row["weights"] > 1000 for row in rows)
    assert len({row["link_seed"] for row in rows}) == 6  # training seeds draw noise of their own
    assert (tmp_path / "methods.png").stat().st_size > 1000 and "plain analog" in result.out
    again = run(methods.main, "--networks", networks, "--out", tmp_path, "--payload-uses", "9000", *options)
    assert again.status == 0 and json.loads((tmp_path / "methods.json").read_text())["rows"] == rows
    options += ["--methods", "+ weight noise"]
    one = run(methods.main, "--networks", networks, "--out", tmp_path / "one", "--payload-uses", "9000", *options)
    assert (
        one.status == 0
        and json.loads((tmp_path / "one" / "methods.json").read_text())["rows"] == rows[len(rows) // 2 :]
    )


def test_a_table_that_was_stopped_goes_on(networks, few, tmp_path, monkeypatch):
    options = ["--training-seeds", "1", "--link-seeds", "1", "--images", "50", "--payload-uses", "9000", "--snr-db"]
    whole = run(methods.main, "--networks", networks, "--out", tmp_path / "whole", *options, "0", "15")
    planned, real = [], Shelf.plan_best

    def plan_best(self, method, snr_db, payload_uses):
        planned.append((method.name, snr_db))
        if len(planned) == 3:
            raise InputError("stopped")
        return real(self, method, snr_db, payload_uses)

    monkeypatch.setattr(Shelf, "plan_best", plan_best)
    stopped = ["--networks", networks, "--out", tmp_path / "stopped", *options]
    assert run(methods.main, *stopped, "0", "15").status == 1 and not (tmp_path / "stopped" / "methods.json").exists()
    planned += [None]
    assert run(methods.main, *stopped, "0", "15").status == 0
    assert planned[4:] == [("+ weight noise", 0), ("+ weight noise", 15)]  # the first two were not planned again
    rows = [json.loads((tmp_path / name / "methods.json").read_text())["rows"] for name in ("whole", "stopped")]
    assert whole.status == 0 and rows[0] == rows[1]
    assert not (tmp_path / "stopped" / "unfinished.json").exists()


def test_without_networks_there_is_no_table(tmp_path, few):
    result = run(methods.main, "--networks", tmp_path, "--out", tmp_path / "out")
    assert result.status == 1 and result.err.count("\n") == 1 and not (tmp_path / "out").exists()


def test_the_network_that_does_best_on_the_images_to_choose_by_is_sent(networks):
    pictures = data.load("fashion-mnist", "test")[0][:60]
    method = next(method for method in METHODS if method.name == "+ weight noise")
    for name in ("clean", "noise"):
        module = load(networks / "fashion-mnist" / name / "seed-1" / "fashion.safetensors").module()
        shelf = Shelf(networks, 1, judge(pictures, logits(module, pictures).argmax(1)))  # what it says is right
        assert shelf.plan_best(method, 30, 9000).name == name


def judge(pictures, labels, is_test=False):
    return Judge(task_of("fashion-mnist"), as_examples((pictures, labels)), is_test)


@pytest.mark.parametrize("measures", [False, True])
def test_statistics_are_the_senders_unless_the_test_measures_them(measures):
    module, pictures = build("fashion-bn", WIDTHS), data.load("fashion-mnist", "test")[0][:300]
    sent = State(difference=np.full((2, sum(channels_of(module))), 0.5, np.float32))
    examples = as_examples((pictures, torch.zeros(len(pictures), dtype=torch.int64)))
    Judge(task_of("fashion-mnist"), examples, True, measures=measures)(module, sent)
    found = Statistics.of(module).values
    expected = measure(build_like(module), pictures).values if measures else sent.difference
    np.testing.assert_allclose(found, expected, atol=1e-5)


def build_like(module):
    """A network with the same weights."""
    other = build("fashion-bn", WIDTHS)
    other.load_state_dict(module.state_dict())
    return other


def test_networks_that_are_close_get_more_draws(monkeypatch, networks):
    """Two draws mislead by a deviation of 0.02; what is hopeless costs no more than them."""
    shelf, true = Shelf(networks, 1, None), {"a": 0.20, "b": 0.17, "c": 0.5, "d": 0.19}

    def draw(trial, sent, seed):
        return true[sent] + 0.02 * np.random.default_rng([seed, trial, ord(sent)]).standard_normal()

    right = hasty = 0
    for trial in range(100):
        drawn = set()

        def score(sent, snr_db, seed, judge, trial=trial, drawn=drawn):
            drawn.add((sent, seed))
            return draw(trial, sent, seed)

        monkeypatch.setattr(shelf, "score", score)
        right += shelf.select_plan(list(true), 0) == "b"
        assert {seed for sent, seed in drawn if sent == "c"} == {1000, 1001}
        two = {sent: draw(trial, sent, 1000) + draw(trial, sent, 1001) for sent in true}
        hasty += min(two, key=two.get) == "b"
    assert right > hasty + 5 and right >= 90
    assert shelf.select_plan(["a"], 0) == "a"


def test_mean_and_deviation_are_over_all_seeds():
    rows = [{"method": "a", "snr_db": 0, "accuracy": score} for score in (0.5, 0.7, None)]
    mean, deviation, number = summarise(rows)["a"][0]
    assert (mean, number) == (pytest.approx(1.3 / 3), 3) and deviation == pytest.approx(np.std([0.5, 0.7, 0.1], ddof=1))


def test_link_and_equivalent_noise_are_compared_run_by_run():
    pairs = [(0.5, 0.52), (0.9, 0.9), (0.6, None)]
    rows = [{"method": "a", "snr_db": 0, "accuracy": fast, "accuracy_link": link} for fast, link in pairs]
    (cell,) = list(compare_link(rows, [0]).columns[1].cells)
    apart_by = np.array([2, 0, -50])
    assert cell == f"{apart_by.mean():+.2f} ± {apart_by.std(ddof=1) / 3**0.5:.2f}"


@pytest.mark.parametrize("snr_db, uep", [(0, "none"), (0, "size"), (10, "size")])
def test_the_link_does_to_the_network_what_equivalent_noise_does(networks, snr_db, uep):
    """As seen in what an untrained network says, against what it says without noise; over 12 draws of each."""
    checkpoint = load(networks / "fashion-mnist" / "clean" / "seed-1" / "fashion.safetensors")
    pictures = data.load("fashion-mnist", "test")[0][:300]
    labels = logits(checkpoint.module(), pictures).argmax(1)
    uses = 4 * sum((tensor.size + 1) // 2 for tensor in checkpoint.tensors.values())
    sent = Sent("net", checkpoint, protect(checkpoint, PlanConfig(uep, 4, snr_db, uses), None))
    fast, whole = (
        np.array([way(sent, snr_db, seed, judge(pictures, labels, True)) for seed in range(12)])
        for way in (score_in_white_noise, score_over_link)
    )
    error = np.sqrt((fast.var(ddof=1) + whole.var(ddof=1)) / 12)
    assert abs(fast.mean() - whole.mean()) < 3.5 * error + 0.003
    assert fast.std() > 0
