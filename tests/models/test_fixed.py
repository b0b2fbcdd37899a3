"""What the architecture's code determines arrives exactly: masks, tables, statistics of layers that nothing moves."""

import numpy as np
import pytest
import torch
from torch import nn

import airnet_sdr as air
from airnet_sdr.models import fixed
from airnet_sdr.models.nets import ARCHITECTURES, build
from airnet_sdr.models.packing import exact_of, tensor_specs
from airnet_sdr.models.register import register


class Masked(nn.Module):
    """A mask, an infinite one, a table, a random table, and a gain."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(16, 4)
        self.register_buffer("mask", torch.tril(torch.ones(16, 16)))
        self.register_buffer("infinite", torch.full((4, 4), -torch.inf).triu(1))
        self.register_buffer("table", torch.arange(16).double().sin().to(torch.bfloat16))
        self.register_buffer("projection", torch.randn(8, 8))
        self.register_buffer("gain", torch.ones(4))

    def forward(self, x):
        return self.head(x @ self.mask) * self.gain


class Frozen(nn.Module):
    """Layers with running statistics that are not batch norm's, before one that is."""

    def __init__(self):
        super().__init__()
        self.instance = nn.InstanceNorm2d(3, track_running_stats=True)
        self.own = nn.Module()
        self.own.register_buffer("running_mean", torch.zeros(3))
        self.own.register_buffer("running_var", torch.ones(3))
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        x = (self.instance(x) - self.own.running_mean[:, None, None]) / self.own.running_var[:, None, None].sqrt()
        return self.norm(self.convolution(x)).mean((2, 3))


def load_data(split, data_dir=None):
    rng = torch.Generator().manual_seed(len(split))
    return torch.randn(300, 3, 6, 6, generator=rng) + 2, torch.randint(4, (300,), generator=rng)


@pytest.fixture
def own(monkeypatch):
    """Registers architectures for a test."""

    def made(build, *functions):
        name = build.__name__.lower()
        monkeypatch.delitem(ARCHITECTURES, name, raising=False)
        return register(name, build, *functions)

    return made


def over_the_air(network, name, snr_db=10):
    burst = air.make_burst(network, architecture=name, snr_db=snr_db)
    result = air.receive(air.transmit(burst, snr_db=snr_db, seed=1), evaluate="none", architecture=name)
    return burst, result


def test_masks_and_tables_arrive_bit_for_bit_and_cost_nothing(own):
    name = own(Masked)
    network = Masked()
    assert [spec.name for spec in tensor_specs(build(name))] == ["projection", "head.weight", "head.bias"]
    assert list(exact_of(build(name))) == ["mask", "infinite", "table", "gain"]
    burst, result = over_the_air(network, name)
    for each in ("mask", "infinite", "table", "gain"):
        assert torch.equal(getattr(result.network, each), getattr(network, each)), each
    assert burst.manifest.parts[1:] == () and not result.report["warnings"]
    assert result.report["weights"]["nmse_db"] is None and result.network.projection.isfinite().all()


def test_a_table_that_was_changed_travels_exactly(own):
    name = own(Masked)
    network = Masked()
    network.gain[2], network.mask[3, 3] = 1.2345678, torch.nan
    _, result = over_the_air(network, name)
    assert torch.equal(result.network.gain, network.gain) and result.network.mask[3, 3].isnan()


def test_of_a_network_in_half_precision_tables_stay_what_they_are(own, tmp_path):
    name = own(Masked)
    burst, result = over_the_air(Masked().half(), name)
    assert burst.manifest.parts[1:] == ()
    result.save(tmp_path / "got.safetensors")
    loaded = air.make_burst(tmp_path / "got.safetensors", architecture=name).manifest
    assert loaded.checksum == burst.manifest.checksum
    assert result.network.table.dtype == torch.bfloat16


def test_the_second_network_that_is_built_costs_no_random_numbers(own):
    name = own(Masked)
    fixed._known.pop(name, None)
    found = []
    for _ in range(2):  # the second time what is fixed is known
        torch.manual_seed(3)
        found.append((build(name).projection, torch.rand(3)))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_statistics_that_are_not_batch_norms_arrive_as_they_were_sent(own):
    name = own(Frozen, load_data)
    torch.manual_seed(1)
    network = Frozen()
    network.instance.running_mean += torch.tensor([2.0, 1.5, 2.5])
    network.instance.running_var *= torch.tensor([9.0, 0.5, 40])
    network.own.running_mean += 0.5
    network.own.running_var *= 4
    network.train()
    with torch.no_grad():
        network.instance.eval()
        for _ in range(20):
            network(load_data("train")[0])
    network.eval()
    _, result = over_the_air(network, name, 40)
    assert result.report["batch_norm"] == "sent"
    for layer in ("instance", "own", "norm"):
        for value in ("running_mean", "running_var"):
            wanted, got = (getattr(getattr(each, layer), value).numpy() for each in (network, result.network))
            np.testing.assert_allclose(got, wanted, rtol=0.1, atol=0.05 * np.abs(wanted).max(), err_msg=layer)
    inputs = load_data("test")[0]
    with torch.no_grad():
        torch.testing.assert_close(result.network(inputs), network(inputs), rtol=0.1, atol=0.15)


def test_a_received_network_is_in_evaluation_mode(own):
    name = own(Frozen)
    _, result = over_the_air(Frozen(), name)
    assert not any(layer.training for layer in result.network.modules())
