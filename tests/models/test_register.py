"""Networks of the user's own: registered, sent, rebuilt; nothing off the air runs anything."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models import checkpoint as checkpoints
from airnet_sdr.models.data import LOADERS
from airnet_sdr.models.evaluate import accuracy
from airnet_sdr.models.nets import ARCHITECTURES, DATASETS, build
from airnet_sdr.models.own_file import FILES
from airnet_sdr.models.packing import tensors_of
from airnet_sdr.models.register import from_file, register
from airnet_sdr.models.task import OWN
from airnet_sdr.rx import receive
from airnet_sdr.sim import loopback
from airnet_sdr.tests.command import ROOT, assert_refused, run
from airnet_sdr.tx import send

EXAMPLE = ROOT / "models" / "examples"
MODULATION = f"{EXAMPLE / 'modulation.py'}:modulation"
CODE = """
import torch
from torch import nn

open("{mark}", "a").write("run ")

def tiny():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))

def load_data(split, data_dir):
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(1))
    return x, (x[:, 0] > 0).long()

def number():
    return 5

def failing():
    raise RuntimeError("line one\\nline two")

def leaving():
    raise SystemExit(7)
"""


@pytest.fixture(autouse=True)
def tables():
    """What a test registers is gone after it."""
    FILES.clear()
    yield
    for table in (ARCHITECTURES, DATASETS, LOADERS, OWN):
        for name in ("modulation", "tiny", "linear"):
            table.pop(name, None)
    FILES.clear()


@pytest.fixture
def tiny(tmp_path):
    """A file of the user's and a plain state dict, as torch and safetensors write it, without metadata."""
    file, weights = tmp_path / "mine.py", tmp_path / "weights.safetensors"
    file.write_text(CODE.format(mark=tmp_path / "mark"))
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    save_file(module.state_dict(), weights)
    return f"{file}:tiny", weights, module


def test_any_module_can_be_registered():
    register("linear", lambda: nn.Linear(3, 2), lambda split, data_dir: (torch.zeros(5, 3), torch.zeros(5, dtype=int)))
    module = build("linear")
    with torch.no_grad():
        module.weight.zero_()
        module.bias.copy_(torch.tensor([1.0, 0.0]))
    assert accuracy(module, "linear") == 1.0
    register("linear", lambda: nn.Linear(3, 2))  # without data now
    assert "linear" not in LOADERS and "linear" not in DATASETS


@pytest.mark.parametrize("name", ["fashion", "cifar10", "fashion-mnist", "", "../x", "a b"])
def test_names_that_are_taken_or_cannot_travel_are_refused(name):
    with pytest.raises(InputError, match="name"):
        register(name, lambda: nn.Linear(3, 2))


def test_data_that_do_not_fit_are_refused():
    register("linear", lambda: nn.Linear(3, 2), lambda split, data_dir: (torch.zeros(5, 3), torch.zeros(4, dtype=int)))
    with pytest.raises(InputError, match="N examples each"):
        accuracy(build("linear"), "linear")


def test_a_plain_state_dict_is_sent_and_rebuilt(tmp_path, tiny):
    address, weights, module = tiny
    capture, report = f"file:{tmp_path}/c.sigmf-meta", tmp_path / "r.json"
    sent = run(send.main, "--architecture", address, "--model", weights, "--radio", capture)
    assert (sent.status, sent.err) == (0, "")
    got = run(
        receive.main,
        *("--architecture", address, "--radio", capture, "--truth", weights),
        *("--report", report, "--save", tmp_path / "got.safetensors"),
    )
    assert (got.status, got.err) == (0, "")
    facts = json.loads(report.read_text())
    assert (facts["model"], facts["batch_norm"], facts["batch_norm_inputs"]) == ("tiny", "sent", None)
    assert facts["accuracy"] == pytest.approx(facts["accuracy_sent"], abs=1e-4)
    assert facts["weights"]["nmse_db"] < -40
    saved = checkpoints.load(tmp_path / "got.safetensors")
    assert (
        saved.accuracy
        == pytest.approx(facts["accuracy"], abs=1e-4)
        == pytest.approx(accuracy(saved.module(), "tiny"), abs=1e-4)
    )
    np.testing.assert_allclose(saved.tensors["0.weight"], module[0].weight.detach(), atol=0.01)


def test_a_receiver_runs_nothing_it_was_not_started_with(tmp_path, tiny):
    address, weights, _ = tiny
    capture = f"file:{tmp_path}/c.sigmf-meta"
    assert run(send.main, "--architecture", address, "--model", weights, "--radio", capture).status == 0
    (tmp_path / "mark").unlink()
    for table in (ARCHITECTURES, DATASETS, LOADERS, OWN):
        table.pop("tiny")
    result = run(receive.main, "--radio", capture)
    assert_refused(result, 1, "tiny", "--architecture")
    assert not (tmp_path / "mark").exists()


def test_without_evaluation_batch_norm_is_as_sent(tmp_path, tiny):
    address, weights, module = tiny
    result = run(
        loopback.main,
        *("--architecture", address, "--model", weights, "--evaluate", "none", "--snr-db", 40),
        *("--save", tmp_path / "got.safetensors"),
    )
    assert result.status == 0 and "batch norm" in result.out
    saved = checkpoints.load(tmp_path / "got.safetensors")
    np.testing.assert_allclose(saved.statistics["1.running_var"], module[1].running_var, rtol=0.1)
    assert saved.exact["1.num_batches_tracked"] == module[1].num_batches_tracked


REGRESSION = """
import torch
from torch import nn

def tiny():
    return nn.Linear(4, 1)

def load_data(split, data_dir):
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(1))
    return {{"x": x, "y": x.sum(1)}}

def loss(network, batch):
    return (network(batch["x"]).squeeze(1) - batch["y"]).square().mean()

def evaluate(network, data_dir):
    {body}
    return {{"MSE": loss(network, load_data("test", data_dir)), "endless": float("inf")}}
"""


def test_metrics_of_the_users_own_are_reported_as_sent_and_as_received(tmp_path):
    file, weights = tmp_path / "mine.py", tmp_path / "w.safetensors"
    file.write_text(REGRESSION.format(body=""))
    from_file(f"{file}:tiny")
    metadata = {"metrics": json.dumps({"MSE": 0.125, "other": 3})}
    checkpoint = checkpoints.Checkpoint("tiny", "tiny", None, tensors_of(build("tiny")), metadata)
    checkpoints.save(weights, checkpoint)
    options = ["--architecture", f"{file}:tiny", "--model", weights, "--snr-db", 20, "--report", tmp_path / "r.json"]
    result = run(loopback.main, *options, "--save", tmp_path / "got.safetensors")
    assert (result.status, result.err) == (0, "") and "MSE" in result.out and "sent with 0.125" in result.out
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["accuracy"], report["metrics_sent"]) == (None, {"MSE": 0.125, "other": 3.0})
    assert list(report["metrics"]) == ["MSE", "endless"] and report["metrics"]["endless"] is None
    saved = checkpoints.load(tmp_path / "got.safetensors")
    assert saved.metrics == {"MSE": report["metrics"]["MSE"]} and saved.card.metrics == tuple(saved.metrics.items())
    metadata["metrics"] = "[1]"
    checkpoints.save(weights, checkpoint)
    assert_refused(run(loopback.main, *options), 1, "metrics", "names and numbers")


@pytest.mark.parametrize("body, word", [("raise ValueError('no\\nluck')", "ValueError: no luck"), ("return 5", "name")])
def test_an_evaluation_that_fails_is_said_after_weights_and_report_are_written(tmp_path, body, word):
    file, weights = tmp_path / "mine.py", tmp_path / "w.safetensors"
    file.write_text(REGRESSION.format(body=f"assert open({str(tmp_path / 'got.safetensors')!r}); {body}"))
    from_file(f"{file}:tiny")
    checkpoints.save(weights, checkpoints.Checkpoint("tiny", "tiny", None, tensors_of(build("tiny"))))
    files = ["--save", tmp_path / "got.safetensors", "--report", tmp_path / "r.json"]
    options = ["--architecture", f"{file}:tiny", "--model", weights, "--snr-db", 20]
    result = run(loopback.main, *options, *files)
    assert result.status == 1 and "evaluate of tiny" in result.err.splitlines()[0]
    assert word in result.err and len(result.err.splitlines()) <= 2
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["metrics"] is None and word in " ".join(report["warnings"])
    checkpoints.load(tmp_path / "got.safetensors")


@pytest.mark.parametrize(
    "address, word",
    [
        ("nowhere.py:tiny", "FILE.py:NAME"),
        ("tiny", "FILE.py:NAME"),
        ("{file}:missing", "missing"),
        ("{file}:number", "torch.nn.Module"),
        ("{file}:failing", "line one line two"),
        ("{file}:leaving", "SystemExit: 7"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, tiny, address, word):
    own, weights, _ = tiny
    address = address.replace("{file}", own.partition(":")[0])
    assert_refused(
        run(send.main, "--architecture", address, "--model", weights, "--radio", "file:x.sigmf-meta"), 1, word
    )
    assert_refused(run(receive.main, "--architecture", address, "--radio", "file:x.sigmf-meta"), 1, word)


def test_the_shipped_example_is_as_good_as_it_says_and_arrives():
    name = from_file(MODULATION)
    checkpoint = checkpoints.load(EXAMPLE / "modulation.safetensors")
    assert (
        accuracy(checkpoint.module(), name) == pytest.approx(checkpoint.accuracy, abs=2e-3)
        and checkpoint.accuracy > 0.98
    )
    inputs, labels = LOADERS[name]("test", None)
    assert inputs.shape == (3000, 2, 256) and inputs.square().sum(1).mean().item() == pytest.approx(1, abs=1e-3)
    assert len(labels.unique()) == 6
