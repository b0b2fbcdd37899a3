"""bfloat16 only where it decides as float32 does."""

import pytest
import torch
from torch import nn

from airnet_sdr.models import screen
from airnet_sdr.models.screen import can_screen, screened

N, CLASSES = 4000, 10
INPUTS = torch.randn(N, 32, generator=torch.Generator().manual_seed(1))
LABELS = torch.zeros(N, dtype=torch.int64)
PARTS = list(torch.arange(N).split(500))


class Own(nn.Linear):
    """A layer of the user's own."""


@pytest.fixture(autouse=True)
def has_bfloat16(monkeypatch):
    monkeypatch.setattr(screen, "multiplies_bfloat16", lambda: True)


@pytest.fixture
def network():
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, CLASSES)).eval()


@torch.inference_mode()
def run_all(network, of=screened):
    """Outputs, and how many rows were computed, each of bfloat16 and float32."""
    rows = {torch.bfloat16: 0, torch.float32: 0}

    def run(indices):
        output = network(INPUTS[indices])
        rows[output.dtype] += len(indices)
        return output, LABELS[indices]

    outputs, labels = zip(*of(run, PARTS), strict=True)
    assert [len(each) for each in labels] == [len(part) for part in PARTS]
    return torch.cat(outputs), rows


def test_the_largest_is_that_of_float32(network):
    exact, _ = run_all(network, map)
    with torch.autocast("cpu", torch.bfloat16):
        rough, _ = run_all(network, map)
    output, rows = run_all(network)
    assert (rough.argmax(1) != exact.argmax(1)).sum() >= 5  # bfloat16 alone would decide otherwise
    assert torch.equal(output.argmax(1), exact.argmax(1))
    assert rows[torch.bfloat16] == N and rows[torch.float32] < N / 2


def test_where_bfloat16_is_mostly_unsure_float32_goes_on_alone(network):
    with torch.no_grad():
        network[2].weight.mul_(1e-3)
        network[2].bias.fill_(1.0)  # outputs that are nearly the same
    exact, _ = run_all(network, map)
    output, rows = run_all(network)
    assert torch.equal(output.argmax(1), exact.argmax(1))
    assert rows[torch.bfloat16] <= 1000


def test_rows_without_a_number_stay_so(network):
    with torch.no_grad():
        network[2].bias[3] = torch.nan
    output, _ = run_all(network)
    assert output.isnan().any(1).all()


def test_networks_of_ones_own_code_or_other_types_are_not_screened(network, monkeypatch):
    assert can_screen(network)
    assert not can_screen(nn.Sequential(Own(3, 2)))
    assert not can_screen(network.double())
    network.float()
    monkeypatch.setattr(screen, "multiplies_bfloat16", lambda: False)
    assert not can_screen(network)
