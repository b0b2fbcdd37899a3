"""The whole state dict travels: whatever a network has, from its file to the file that the receiver saves."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file, save_model
from torch import nn

import airnet_sdr as air
from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models.nets import ARCHITECTURES
from airnet_sdr.models.payload.tensors import MOST_PLANS, plan_of_each
from airnet_sdr.models.register import register


class Everything(nn.Module):
    """Tied, complex and frozen tensors, buffers of all kinds, batch norm."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(30, 8)
        self.norm = nn.BatchNorm1d(8)
        self.out = nn.Linear(8, 30, bias=False)
        self.out.weight = self.embedding.weight
        self.phases = nn.Parameter(torch.polar(torch.rand(5), torch.rand(5)))
        self.register_buffer("scale", torch.rand(4))
        self.register_buffer("steps", torch.zeros(3, dtype=torch.int64))
        self.register_buffer("mask", torch.ones(4, 4, dtype=torch.bool).tril())
        self.register_buffer("passing", torch.rand(3), persistent=False)

    def forward(self, x):
        return self.out(self.norm(self.embedding(x)))


@pytest.fixture
def everything(monkeypatch):
    """The name of the architecture, and a network whose buffers were changed."""
    monkeypatch.delitem(ARCHITECTURES, "everything", raising=False)
    register("everything", Everything)
    torch.manual_seed(2)
    network = Everything()
    network.steps += torch.tensor([1, -(2**40), 3])
    network.norm.running_mean += torch.randn(8)
    network.norm.running_var *= torch.rand(8) + 0.1
    network.norm.num_batches_tracked += 77
    return network


def over_the_air(network, tmp_path, **options):
    burst = air.make_burst(network, architecture="everything", **options)
    result = air.receive(air.transmit(burst, snr_db=60), evaluate="none", architecture="everything")
    result.save(tmp_path / "got.safetensors")
    return result, load_file(tmp_path / "got.safetensors")


def test_all_of_it_arrives_in_a_strict_state_dict(tmp_path, everything):
    result, state = over_the_air(everything, tmp_path, snr_db=30)
    fresh = Everything()
    fresh.load_state_dict(state, strict=True)
    for name, value in everything.state_dict().items():
        assert state[name].dtype == value.dtype and state[name].shape == value.shape, name
        if value.is_floating_point() or value.is_complex():
            assert (state[name] - value).abs().max() < 0.02 * max(1, value.abs().max()), name
        else:
            assert torch.equal(state[name], value), name
    assert result.network.out.weight is result.network.embedding.weight
    names = [layer["name"] for layer in result.report["layers"]]
    assert names == ["embedding.weight", "phases", "scale", "norm.weight", "norm.bias"] or "out.weight" not in names
    assert not result.report["warnings"]


def test_a_buffer_that_differs_here_is_said(tmp_path, everything, monkeypatch):
    burst = air.make_burst(everything, architecture="everything")
    samples = air.transmit(burst, snr_db=60)

    class Other(Everything):
        def __init__(self):
            super().__init__()
            self.mask[0, 1] = True

    monkeypatch.setitem(ARCHITECTURES, "everything", Other)
    result = air.receive(samples, evaluate="none", architecture="everything")
    assert any("other integers" in warning for warning in result.report["warnings"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_of_a_file_is_kept(tmp_path, everything, dtype):
    state = {
        name: (value.to(dtype) if value.is_floating_point() else value).clone()
        for name, value in everything.state_dict().items()
    }
    save_file(state, tmp_path / "in.safetensors")
    _, got = over_the_air(str(tmp_path / "in.safetensors"), tmp_path)
    assert {name: value.dtype for name, value in got.items()} == {name: value.dtype for name, value in state.items()}


@pytest.mark.parametrize("as_model", [True, False])
def test_tied_tensors_as_both_ways_of_saving_write_them(tmp_path, everything, as_model):
    """`save_model` leaves all but one out; a file may have them cloned, too."""
    path = tmp_path / "in.safetensors"
    if as_model:
        save_model(everything, str(path))
    else:
        save_file({name: value.clone() for name, value in everything.state_dict().items()}, path)
    burst = air.make_burst(path, architecture="everything")
    assert len(burst.manifest.parts[0].tensors) == 5


def test_tied_tensors_that_differ_are_refused(tmp_path, everything):
    state = {name: value.clone() for name, value in everything.state_dict().items()}
    state["out.weight"][0, 0] += 1
    save_file(state, tmp_path / "in.safetensors")
    with pytest.raises(InputError, match="out.weight is embedding.weight"):
        air.make_burst(tmp_path / "in.safetensors", architecture="everything")


def test_what_cannot_be_sent_is_refused_by_name(everything):
    class Odd(Everything):
        def get_extra_state(self):
            return {"what": "ever"}

        def set_extra_state(self, state):
            pass

    ARCHITECTURES["everything"] = Odd
    with pytest.raises(InputError, match="_extra_state is dict"):
        air.make_burst(Odd(), architecture="everything")


def test_a_network_without_weights_is_refused(everything):
    ARCHITECTURES["everything"] = nn.Flatten
    with pytest.raises(InputError, match="the network has no weights"):
        air.make_burst(nn.Flatten(), architecture="everything")


class Numbers(nn.Module):
    """Complex weights of two precisions, conjugate and negative views, tensors without elements."""

    def __init__(self):
        super().__init__()
        self.empty, self.dense = nn.Parameter(torch.empty(0, 3)), nn.Linear(6, 4)
        self.phases = nn.Parameter(torch.randn(6, 4, dtype=torch.complex64))
        self.precise = nn.Parameter(torch.randn(5, dtype=torch.complex128))
        self.register_buffer("table", torch.arange(8).to(torch.complex64).conj())
        self.register_buffer("minus", torch.arange(8).to(torch.complex64).conj().imag)
        self.register_buffer("random", torch.randn(8, dtype=torch.complex64).conj())
        self.register_buffer("nothing", torch.empty(0))


@pytest.mark.parametrize(
    "options", [{}, {"scheme": "digital", "copies": 8}, {"scheme": "hybrid", "copies": 8, "digital_share": 0.5}]
)
def test_numbers_of_every_kind_arrive(tmp_path, monkeypatch, options):
    if options:
        pytest.importorskip("sionna", reason="the digital scheme needs sionna-no-rt")
    monkeypatch.delitem(ARCHITECTURES, "everything", raising=False)
    register("everything", Numbers)
    torch.manual_seed(1)
    network = Numbers()
    _, state = over_the_air(network, tmp_path, snr_db=30, **options)
    Numbers().load_state_dict(state, strict=True)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=0.1, check_dtype=False, msg=name)
    assert torch.equal(state["table"], network.table) and torch.equal(state["minus"], network.minus)
    air.make_burst(tmp_path / "got.safetensors", architecture="everything", **options)


def test_many_small_tensors_share_plans(tmp_path, monkeypatch):
    """Gains and biases of a deep network: each kind has one plan; the manifest stays within its bound."""
    numels = [9 * 64 * 64 if i % 3 == 0 else 64 for i in range(2000)]
    places = plan_of_each(numels)
    assert len(set(places)) == 667 + 2 and places[1] == places[4] != places[2] == places[5]
    assert plan_of_each([3] * MOST_PLANS) == list(range(MOST_PLANS))

    deep = nn.Sequential(*[nn.LayerNorm(6) for _ in range(MOST_PLANS)])
    torch.manual_seed(1)
    for weight in deep.parameters():
        nn.init.normal_(weight)
    monkeypatch.delitem(ARCHITECTURES, "everything", raising=False)
    register("everything", lambda: nn.Sequential(*[nn.LayerNorm(6) for _ in range(MOST_PLANS)]))
    result, state = over_the_air(deep, tmp_path, uep="size")
    assert len(result.burst.manifest().parts[0].tensors) == 2
    for name, value in deep.state_dict().items():
        np.testing.assert_allclose(state[name], value, atol=0.02)


def test_a_checkpoint_keeps_what_it_was_given(tmp_path, everything):
    """`Checkpoint` to file and back, with buffers and dtypes."""
    from airnet_sdr.models import checkpoint as checkpoints

    for part in (everything.embedding, everything.norm):
        part.to(torch.bfloat16)
    found = checkpoints.from_module(everything, "everything", "none")
    assert found.dtypes["embedding.weight"] == "bfloat16" and "phases" not in found.dtypes
    checkpoints.save(tmp_path / "c.safetensors", found)
    back = checkpoints.load(tmp_path / "c.safetensors")
    assert back.dtypes == found.dtypes and all(np.array_equal(back.exact[n], v) for n, v in found.exact.items())
    for name, tensor in dataclasses.asdict(found)["tensors"].items():
        np.testing.assert_array_equal(back.tensors[name], tensor)
