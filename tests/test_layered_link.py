"""Layered transmissions from a file, over the whole link: which network arrives at which SNR."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.units import db, linear
from airnet_sdr.models import checkpoint as checkpoints
from airnet_sdr.models.batch_norm import measured_statistics
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import exact_of, tensors_of, to_vectors
from airnet_sdr.models.shipped import ZOO
from airnet_sdr.models.statistics import Statistics
from airnet_sdr.models.task import applied
from airnet_sdr.rx.combine import rebuild
from airnet_sdr.rx.receiver import receive
from airnet_sdr.rx.report import summary
from airnet_sdr.rx.restore import Averaged
from airnet_sdr.sim.experiments.library.judge import judge_by_test
from airnet_sdr.sim.experiments.library.scoring import receive_burst, score_received
from airnet_sdr.sim.experiments.library.white_noise import WhiteNoise
from airnet_sdr.tests.link import on_air, transmit
from airnet_sdr.tx.sender import describe, make_burst

pytest.importorskip("sionna", reason="the digital scheme needs sionna-no-rt")

ANALOG = {"network": "small.safetensors", "scheme": "analog", "start": 0, "uses": 2000, "snr_db": 0, "power_db": 3.0}
DIGITAL = {"network": "large.safetensors", "scheme": "digital", "start": 2000, "uses": 4000, "bits": 3000}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layers")
    for name, width in (("small", 6), ("large", 4)):
        with torch.random.fork_rng():
            torch.manual_seed(width)
            tensors = tensors_of(build("fashion", (width,) * 5))
        checkpoints.save(
            folder / f"{name}.safetensors", Checkpoint("fashion", "fashion-mnist", 0.1, tensors, {}, (width,) * 5)
        )
    return folder


def transmission(folder, *layers):
    path = folder / "transmission.json"
    path.write_text(json.dumps({"layers": layers}))
    return path


def test_the_digital_layer_counts_where_it_arrives_and_the_analog_one_below(folder):
    ends = ANALOG["uses"] + DIGITAL["uses"]
    rest = float(db((ends - 2000 * linear(3.0)) / 4000))
    path = transmission(folder, ANALOG, DIGITAL | {"power_db": rest})
    burst = make_burst(path, scheme="layered")
    assert burst.stream.size == ends and np.mean(np.abs(burst.stream) ** 2) == pytest.approx(1, abs=0.05)
    assert [line.split()[0] for line in describe(burst).splitlines()[:-1]] == ["analog", "digital"]
    for snr_db, part, width in ((9, "digital", 4), (-3, "analog", 6)):
        reception = receive(on_air(transmit(burst), snr_db, cfo=0.05, seed=1), evaluate="none")
        report = reception.report
        assert (report["scheme"], report["part"], report["widths"]) == ("layered", part, [width] * 5)
        if part == "analog":
            sent = to_vectors(checkpoints.load(folder / "small.safetensors").tensors)
            arrived = to_vectors(tensors_of(reception.network))
            nmse = sum(np.sum((a - b) ** 2) for a, b in zip(arrived, sent, strict=True)) / sum(
                np.sum((b - b.mean()) ** 2) for b in sent
            )
            assert db(1 / nmse - 1) == pytest.approx(report["weights"]["snr_db"], abs=1.0)


def test_every_layer_has_a_state_and_integer_buffers_of_its_own(folder, tmp_path):
    """An analog network with batch norm below one without, and the other way round: no warning, whichever arrives."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = build("fashion-bn", (5,) * 5)
        module(torch.randint(0, 256, (64, 1, 28, 28), dtype=torch.uint8))  # counts a batch, moves the statistics
    path = tmp_path / "normalised.safetensors"
    normalised = Checkpoint(
        "fashion-bn", "fashion-mnist", 0.1, tensors_of(module), {}, (5,) * 5, measured_statistics(module),
        exact_of(module),
    )  # fmt: skip
    checkpoints.save(path, normalised)
    rest = float(db((6000 - 2000 * linear(3.0)) / 4000))
    for bottom, top in ((str(path), "large.safetensors"), ("large.safetensors", str(path))):
        layers = ANALOG | {"network": bottom}, DIGITAL | {"network": top, "power_db": rest}
        burst = make_burst(transmission(folder, *layers), scheme="layered")
        for snr_db, part, network in ((9, "digital", top), (-3, "analog", bottom)):
            reception = receive(on_air(transmit(burst), snr_db, seed=1), evaluate="none")
            report, has_statistics = reception.report, network == str(path)
            assert (report["part"], report["batch_norm"]) == (part, "sent" if has_statistics else None)
            assert not report["warnings"]
            if has_statistics and part == "digital":
                assert exact_of(reception.network) == exact_of(module)
                found, real = Statistics.of(reception.network).values, Statistics.of(module).values
                assert np.abs(found - real).max() < 0.8


def test_two_networks_are_averaged_where_the_file_says_so(folder, tmp_path):
    """Logits, report and a strict state dict a network, through the command that saves it."""
    rest = float(db((6000 - 2000 * linear(3.0)) / 4000))
    layers = ANALOG, DIGITAL | {"power_db": rest}
    averages = [{"layers": [0, 1], "weight": 0.3, "snr_db": [5, 40]}, {"layers": [0, 1], "weight": 1, "snr_db": [2, 5]}]
    path = transmission(folder, *layers)
    path.write_text(json.dumps({"layers": layers, "averages": averages}))
    burst = make_burst(path, scheme="layered")
    assert "averages of two networks: 2" in describe(burst)
    received = receive(on_air(transmit(burst), 9, seed=1), data_dir=str(tmp_path), evaluate="none")
    found = received.report["average"]
    assert [(each["part"], each["weight"]) for each in found] == [
        ("analog", pytest.approx(0.3, abs=0.003)), ("digital", pytest.approx(0.7, abs=0.003))
    ]  # fmt: skip
    received.save(tmp_path / "got.safetensors")
    parts = [checkpoints.load(tmp_path / f"got-{number}.safetensors").module().eval() for number in (1, 2)]
    images = torch.randint(0, 256, (8, 1, 28, 28), dtype=torch.uint8)
    first, second = (part(images) for part in parts)
    share = found[0]["weight"]
    assert torch.allclose(received.network.eval()(images), share * first + (1 - share) * second, atol=1e-5)
    assert not (tmp_path / "got.safetensors").exists() and "answers: 0.30 of the analog one" in summary(received.report)
    alone = receive(on_air(transmit(burst), 3.5, seed=1), evaluate="none")
    assert alone.report["part"] == "analog" and alone.report["average"] is None
    below = receive(on_air(transmit(burst), -3, seed=1), evaluate="none")
    assert below.report["part"] == "analog" and below.report["average"] is None


@pytest.mark.parametrize(
    "average, message",
    [
        ({"layers": [0, 2], "weight": 0.5}, "two of the layers 0 to 1"),
        ({"layers": [0, 1], "weight": 0}, "weight must be above 0 and at most 1; got 0"),
        ({"layers": [0, 1], "weight": 0.5, "snr_db": [5, 5]}, "snr_db must rise"),
        ({"layers": [0], "weight": 0.5}, "no list of layers"),
    ],
)
def test_an_average_that_cannot_be_is_refused(folder, average, message):
    rest = float(db((6000 - 2000 * linear(3.0)) / 4000))
    path = transmission(folder)
    path.write_text(json.dumps({"layers": [ANALOG, DIGITAL | {"power_db": rest}], "averages": [average]}))
    with pytest.raises(InputError, match=message):
        make_burst(path, scheme="layered")


@pytest.mark.parametrize(
    "layers, message",
    [
        ([], "has no layers"),
        ([ANALOG | {"scheme": "morse"}], "scheme must be analog or digital; got 'morse'"),
        ([ANALOG | {"uses": 0}], r"`layers.uses` must be a whole number from 1 to .*; got 0"),
        ([ANALOG | {"start": 0.5}], "`layers.start` must be a whole number"),
        *(([ANALOG | {"state_snr_db": value}], "state_snr_db` must be") for value in ("x", 1e6, float("nan"))),
        ([DIGITAL | {"power_db": 0.0, "bits": "x"}], "bits` must be"),
        ([ANALOG | {"power_db": 20.0}], "mean power must be 1; got 100"),
        ([{name: value for name, value in ANALOG.items() if name != "snr_db"}], "layer 0 has no snr_db"),
        ([ANALOG, {"name": "conv.weight", "power_db": 0.0}], "layer 1 has no network"),
        ([ANALOG, DIGITAL], "layer 1 has no power_db"),
        ([5], "no list of layers"),
        ([ANALOG | {"network": "none.safetensors"}], "no model"),
    ],
)
def test_a_file_that_is_no_transmission_is_refused(folder, layers, message):
    with pytest.raises(InputError, match=message):
        make_burst(transmission(folder, *layers), scheme="layered")


def test_whole_numbers_may_have_a_point(folder):
    layer = ANALOG | {"power_db": 0.0}
    wanted = make_burst(transmission(folder, layer), scheme="layered").stream
    found = make_burst(transmission(folder, layer | {"start": 0.0, "uses": "2e3"}), scheme="layered").stream
    assert np.array_equal(found, wanted)


class Parts(torch.nn.Module):
    """Takes an input by name, and makes an output of several parts."""

    def __init__(self, make):
        super().__init__()
        self.dense, self.make = torch.nn.Linear(3, 2), make

    def forward(self, x):
        return self.make(self.dense(x))


@pytest.mark.parametrize(
    "make",
    [
        lambda y: y,
        lambda y: {"logits": y, "other": None},
        lambda y: (y, y + 1),
        lambda y: SimpleNamespace(logits=y),
    ],
)
def test_outputs_of_several_parts_are_averaged_by_their_logits(make):
    first, second = Parts(make), Parts(make)
    x, averaged = torch.ones(4, 3), Averaged(first, second, 0.25)
    output, labels = applied(averaged, {"x": x, "labels": torch.zeros(4)})
    assert torch.allclose(output, 0.25 * first.dense(x) + 0.75 * second.dense(x)) and labels is not None
    if not isinstance(make(x), SimpleNamespace):
        assert type(averaged(x)) is type(make(x))  # as a loss of one's own takes it


def test_a_file_of_layers_and_its_scheme_belong_together(folder):
    for layer in (ANALOG | {"power_db": 0.0}, {"name": "a layer of a report"}):
        with pytest.raises(InputError, match="`scheme` layered"):
            make_burst(transmission(folder, layer), scheme="analog")
    with pytest.raises(InputError, match="JSON file that lists its layers"):
        make_burst("fashion", scheme="layered")


@pytest.mark.slow
def test_the_whole_link_agrees_with_equivalent_noise(tmp_path):
    """Analog beside digital on Fashion-MNIST at b: the error of the analog weights where the digital layer is lost, and
    the accuracy of the digital network where it arrives."""
    zoo, uses, energy = ZOO / "fashion-mnist", 157_752, 0.35
    analog_uses = 15_000
    power = energy * uses / analog_uses
    layers = [
        {"network": str(zoo / "low16/seed-1/fashion.safetensors"), "scheme": "analog", "start": 0,
         "uses": analog_uses, "snr_db": -6.0, "power_db": float(db(power))},
        {"network": str(zoo / "digital/seed-1/126k.safetensors"), "scheme": "digital", "start": analog_uses,
         "uses": uses - analog_uses, "power_db": float(db((1 - energy) * uses / (uses - analog_uses)))},
    ]  # fmt: skip
    burst = make_burst(transmission(tmp_path, *layers), scheme="layered")
    sent = to_vectors(checkpoints.load(zoo / "low16/seed-1/fashion.safetensors").tensors)

    def error_db(received):
        vectors = rebuild(received, burst.manifest, []).vectors
        errors = [np.mean((a - b) ** 2) / np.var(b) for a, b in zip(vectors, sent, strict=True)]
        return db(np.average(errors, weights=[b.size for b in sent]))  # of a bias alone it depends on the draw

    fast = [error_db(WhiteNoise(burst, float(linear(-5.0)), seed)) for seed in range(2)]
    link = [error_db(receive_burst(burst, -5.0, seed)) for seed in range(2)]
    assert np.mean(link) == pytest.approx(np.mean(fast), abs=0.15)
    judge = judge_by_test("fashion")
    fast_accuracy = score_received(burst, WhiteNoise(burst, float(linear(10.0)), 1), judge)
    assert score_received(burst, receive_burst(burst, 10.0, 1), judge) == fast_accuracy > 0.91
