"""What the sender finds out about batch norm before it plans."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.units import linear
from airnet_sdr.models import data
from airnet_sdr.models.beside import State
from airnet_sdr.models.checkpoint import Checkpoint, from_module, save
from airnet_sdr.models.ensemble import SNR_GRID_DB, Member, to_metadata
from airnet_sdr.models.known_state import with_state
from airnet_sdr.models.nets import ARCHITECTURES, build
from airnet_sdr.models.noise import noisy
from airnet_sdr.models.packing import tensors_of
from airnet_sdr.models.payload import SCHEMES, Candidates
from airnet_sdr.models.payload.budget import state_payload, symbols_once
from airnet_sdr.models.payload.state import LARGEST_STEP, StatePayload, step_for
from airnet_sdr.models.plan_config import PlanConfig
from airnet_sdr.models.register import register
from airnet_sdr.models.sender_state import NOISY_STEP, judged, under_noise
from airnet_sdr.models.statistics import Statistics, measure
from airnet_sdr.models.task import OwnCodeError
from airnet_sdr.rx.receiver import receive
from airnet_sdr.sim.loopback import transmit as over_the_air
from airnet_sdr.tests.link import transmit
from airnet_sdr.tx.config import SendConfig
from airnet_sdr.tx.sender import encode_burst, make_burst

WIDTHS, SMALL = (8, 8, 12, 12, 12), (4, 4, 6, 6, 6)


@pytest.fixture
def checkpoint(monkeypatch):
    """An untrained network with batch norm; test images stand for the training images, which need not be here."""
    real = data.load
    monkeypatch.setattr(data, "load", lambda dataset, split, data_dir=None: real(dataset, "test"))
    torch.manual_seed(1)
    return with_state(
        Checkpoint("fashion-bn", "fashion-mnist", None, tensors_of(build("fashion-bn", WIDTHS)), {}, WIDTHS)
    )


def test_under_strong_noise_the_mean_of_what_it_does_is_sent(checkpoint):
    """Nearer to real statistics than without, in the mean over channels and draws that the sender never saw."""
    snr_db = -5.0
    sent = under_noise(checkpoint, PlanConfig("none", 2, snr_db))
    real, made = data.load("fashion-mnist", "test")[0][:1000], checkpoint.state.made_up.draw()
    module, rng = checkpoint.module(), torch.Generator().manual_seed(9)
    errors = []
    for _ in range(8):
        arrived = noisy(module, 2 * float(linear(snr_db)), rng)
        apart = measure(arrived, real).values - measure(arrived, made).values
        errors.append([np.square(each.state.difference - apart).mean() for each in (sent, checkpoint)])
    under, without = np.mean(errors, axis=0)
    assert under < without / 1.3
    assert StatePayload.plan(sent.state, snr_db).num_bytes > StatePayload.plan(checkpoint.state, snr_db).num_bytes
    payload = StatePayload.plan(sent.state, snr_db)
    assert payload.encode(sent.state, snr_db).size == payload.num_symbols([])
    assert sent.state.step == NOISY_STEP < step_for(snr_db)


@pytest.mark.parametrize("payload_uses", [None, 40_000])
@pytest.mark.parametrize("scheme", ["analog", "digital"])
def test_a_nested_network_sends_the_statistics_of_its_member_within_the_budget(checkpoint, scheme, payload_uses):
    losses = tuple(np.linspace(0.9, 0.1, len(SNR_GRID_DB)))
    members = [Member(WIDTHS, 0.9, losses), Member(SMALL, 0.9, tuple(0.5 * loss for loss in losses))]
    nested = Checkpoint("fashion-bn", "fashion-mnist", None, checkpoint.tensors, to_metadata(members), WIDTHS)
    plan = SCHEMES[scheme].plan(
        Candidates((with_state(nested, "somewhere"),)), SendConfig(snr_db=5, payload_uses=payload_uses, scheme=scheme)
    )
    sent = plan.checkpoint
    assert sent.widths == SMALL and sent.data_dir == "somewhere"
    state = sent.state if scheme == "analog" else State.from_bytes(plan.data[: plan.state_bytes])
    own = with_state(dataclasses.replace(sent, state=None)).state
    assert state.num_channels == sum(SMALL) < checkpoint.state.num_channels
    np.testing.assert_allclose(state.difference, own.difference, atol=LARGEST_STEP)
    burst = encode_burst(SCHEMES[scheme], plan, SendConfig(snr_db=5))
    assert scheme == "digital" or burst.stream.size > 0.9 * (payload_uses or symbols_once(checkpoint))
    assert payload_uses is None or burst.stream.size <= payload_uses


def test_without_strong_noise_or_batch_norm_nothing_changes(checkpoint):
    assert under_noise(checkpoint, PlanConfig("none", 1, 10.0)) is checkpoint
    other = Checkpoint("fashion", "fashion-mnist", None, tensors_of(build("fashion", WIDTHS)), {}, WIDTHS)
    other = with_state(other)
    assert under_noise(other, PlanConfig("none", 1, -5.0)) is other


class Normed(nn.Module):
    """A classifier of two classes that compares two normed channels."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(4, 2, bias=False), nn.BatchNorm1d(2, affine=False)

    def forward(self, x):
        return 5 * self.norm(self.first(x))


@pytest.mark.parametrize("shift, is_better", [(0.0, False), (8.0, True)])
def test_a_sender_says_where_measured_statistics_are_better(shift, is_better, monkeypatch, rng):
    """Statistics that fit its data are sent for good; where they are of other data, the receiver is to measure."""
    labels = rng.integers(2, size=400)
    inputs = (rng.standard_normal((400, 4)) + (2 * labels[:, None] - 1) * [1, -1, 1, -1]).astype(np.float32)
    examples = torch.from_numpy(inputs), torch.from_numpy(labels)
    monkeypatch.delitem(ARCHITECTURES, "normed", raising=False)
    register("normed", Normed, lambda split, data_dir=None: examples)
    network = Normed()
    network.first.weight.data = torch.tensor([[-1.0, 1, -1, 1], [1, -1, 1, -1]])
    measure(network, examples[0])
    network.norm.running_mean[0] += shift
    sent = with_state(from_module(network, "normed", "normed"))
    assert judged(sent, np.array([4.0]), 0.0).state.measure_db == (5.0 if is_better else -np.inf)
    assert judged(sent, np.array([4.0]), 20.0) is sent  # there is hardly any noise
    burst = make_burst(network, architecture="normed", dataset="normed", snr_db=0.0, uep="none")
    noisy_samples = over_the_air(burst, snr_db=3.0, seed=1)
    received = receive(noisy_samples, architecture="normed")
    assert received.report["batch_norm"] == ("measured" if is_better else "sent")
    assert received.accuracy > 0.9
    assert receive(noisy_samples, architecture="normed", batch_norm="sent").report["batch_norm"] == "sent"
    assert receive(transmit(burst), architecture="normed").report["batch_norm"] == "sent"  # as it was sent


def test_without_data_here_the_statistics_are_those_of_the_network(monkeypatch):
    """A `load_data` that finds no file is no fault, another error of it is."""

    def missing(split, data_dir=None):
        open("nowhere/train.npz")

    def broken(split, data_dir=None):
        raise KeyError("images")

    for load_data in (missing, broken):
        monkeypatch.delitem(ARCHITECTURES, "normed", raising=False)
        register("normed", lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)), load_data)
        network = build("normed")
        network[1].running_mean += 3
        if load_data is broken:
            with pytest.raises(OwnCodeError, match="load_data of normed"):
                make_burst(network, architecture="normed", snr_db=20)
            continue
        burst = make_burst(network, architecture="normed", snr_db=20)
        assert burst.manifest.parts[1].role == "state"


def test_a_budget_for_the_state_without_noise_is_enough(checkpoint, monkeypatch, tmp_path):
    """The state under noise is larger; where it does not fit, the other is sent."""
    save(tmp_path / "net.safetensors", checkpoint)
    plain = state_payload(checkpoint, PlanConfig(snr_db=-5)).num_symbols([])
    least = symbols_once(checkpoint) + plain
    sizes = []
    for payload_uses in (least, 2 * least):
        burst = make_burst(tmp_path / "net.safetensors", snr_db=-5, payload_uses=payload_uses, uep="none")
        sizes.append(burst.manifest.parts[1].num_symbols([]))
    assert sizes[0] == plain < sizes[1]
    with pytest.raises(InputError, match="payload"):
        make_burst(tmp_path / "net.safetensors", snr_db=-5, payload_uses=symbols_once(checkpoint), uep="none")


class Logarithm(nn.Module):
    """Batch norm of the logarithm of positive inputs, which made-up ones are not."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x):
        return self.norm(torch.log(x))


def own(monkeypatch, build_network, load_data, **functions):
    """A user's architecture and data set `own`, and the network with its statistics measured."""
    monkeypatch.delitem(ARCHITECTURES, "own", raising=False)
    register("own", build_network, load_data, **functions)
    return build("own")


@pytest.mark.parametrize("snr_db", [-5.0, 20.0])
def test_where_made_up_inputs_are_no_numbers_the_statistics_themselves_are_sent(snr_db, monkeypatch):
    inputs = torch.rand(200, 4, generator=torch.Generator().manual_seed(1)) + 0.01
    network = own(monkeypatch, Logarithm, lambda split, data_dir=None: (inputs, inputs[:, :2].argmax(1)))
    statistics = measure(network, inputs)
    state = with_state(from_module(network, "own", "own")).state
    assert state.made_up is None and np.allclose(state.difference, statistics.values)
    assert np.isfinite(make_burst(network, architecture="own", dataset="own", snr_db=snr_db).stream).all()


def test_noise_that_makes_no_numbers_moves_nothing(checkpoint, monkeypatch):
    def not_finite(*arguments):
        return Statistics(np.full(checkpoint.state.difference.shape, np.nan))

    monkeypatch.setattr("airnet_sdr.models.sender_state.measure", not_finite)
    assert under_noise(checkpoint, PlanConfig("none", 1, -5.0)) is checkpoint


def test_statistics_that_data_make_no_numbers_are_refused(monkeypatch):
    network = own(monkeypatch, Logarithm, lambda split, data_dir=None: (torch.zeros(200, 4), torch.arange(200) % 4))
    without = dataclasses.replace(from_module(network, "own", "own"), statistics={})
    with pytest.raises(InputError, match="own: .* not finite"):
        with_state(without)


def normed_regression():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))


@pytest.mark.parametrize("labels", [torch.randn(200, 1), torch.arange(200)], ids=["numbers", "integers"])
def test_without_a_loss_nothing_is_judged(labels, monkeypatch):
    """A regression that is evaluated, but has no loss on which ways could be compared."""
    inputs = torch.randn(200, 4, generator=torch.Generator().manual_seed(1))
    network = own(
        monkeypatch,
        normed_regression,
        lambda split, data_dir=None: (inputs, labels),
        evaluate=lambda network, data_dir: {"MSE": float((network(inputs)[:, 0] - labels).square().mean())},
    )
    burst = make_burst(network, architecture="own", dataset="own", snr_db=5.0)
    assert burst.manifest.parts[1].role == "state"


def test_labels_of_other_data_are_a_fault(monkeypatch):
    network = own(
        monkeypatch,
        lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)),
        lambda split, data_dir=None: (torch.randn(200, 4), torch.arange(200)),
    )
    with pytest.raises(InputError, match="labels from .* 3 outputs"):
        make_burst(network, architecture="own", dataset="own", snr_db=5.0)


def test_the_data_folder_is_that_of_layers_too(monkeypatch, tmp_path):
    inputs, folders = torch.randn(200, 4, generator=torch.Generator().manual_seed(1)), []

    def load_data(split, data_dir=None):
        folders.append(data_dir)
        return inputs, inputs[:, :2].argmax(1)

    network = own(monkeypatch, lambda: nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2)), load_data)
    save(tmp_path / "net.safetensors", from_module(network, "own", "own"))
    layer = {"network": "net.safetensors", "start": 0, "uses": 900, "power_db": -3, "snr_db": 20}
    layers = [{**layer, "scheme": scheme} for scheme in ("analog", "digital")]
    (tmp_path / "layers.json").write_text(json.dumps({"layers": layers}))
    make_burst(tmp_path / "layers.json", scheme="layered", data_dir="somewhere")
    assert folders == ["somewhere", "somewhere"]


@pytest.mark.parametrize("snr_db", [-5.0, 5.0, 20.0])
def test_data_that_do_not_batch_are_no_reason_not_to_send(snr_db, monkeypatch):
    """Images of two sizes: a network of any size is evaluated on one after the other."""
    images = [(torch.randn(1, 8 + i % 2, 8), i % 3) for i in range(100)]
    network = own(
        monkeypatch,
        lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        lambda split, data_dir=None: images,
        evaluate=lambda network, data_dir: {"top-1": sum(int(network(x[None]).argmax()) == y for x, y in images) / 100},
    )
    assert make_burst(network, architecture="own", dataset="own", snr_db=snr_db).manifest.parts[1].role == "state"
