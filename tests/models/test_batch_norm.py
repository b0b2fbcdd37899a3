"""Batch norm's statistics, measured where the network arrived."""

import pytest
import torch
from torch import nn

from airnet_sdr.models.batch_norm import (
    BATCH_SIZE,
    measured_statistics,
    normalised_by_batch,
    recompute_statistics,
    statistics_of,
)
from airnet_sdr.models.nets import build
from airnet_sdr.models.noise import noisy

INPUTS = torch.randn(4 * BATCH_SIZE, 3, generator=torch.Generator().manual_seed(1)) * 5 + 2


def test_statistics_are_those_of_the_inputs():
    module = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 3), nn.BatchNorm1d(3))
    assert statistics_of(module) == ["0.running_mean", "0.running_var", "3.running_mean", "3.running_var"]
    momentum = module[0].momentum
    assert recompute_statistics(module, INPUTS) == len(INPUTS)
    first, second = module[0], module[3]
    torch.testing.assert_close(first.running_mean, INPUTS.mean(0))
    torch.testing.assert_close(first.running_var, INPUTS.var(0), rtol=0.01, atol=0)
    inner = module[2](module[0].eval()(INPUTS))  # no dropout: what the second layer sees when it counts
    torch.testing.assert_close(second.running_mean, inner.mean(0), atol=1e-3, rtol=1e-3)
    assert first.momentum == momentum and module.training
    assert set(measured_statistics(module)) == set(statistics_of(module))


def test_a_few_inputs_do_and_so_does_a_rest():
    module = nn.BatchNorm1d(3)
    assert recompute_statistics(module, INPUTS[:20]) == 20
    torch.testing.assert_close(module.running_mean, INPUTS[:20].mean(0))
    assert recompute_statistics(module, INPUTS[: BATCH_SIZE + 1]) == BATCH_SIZE
    torch.testing.assert_close(module.running_mean, INPUTS[:BATCH_SIZE].mean(0))


def test_without_batch_norm_nothing_happens():
    assert recompute_statistics(nn.Linear(3, 3), INPUTS) == 0 and statistics_of(build("fashion")) == []


def test_measured_statistics_undo_the_scale_of_the_weights():
    torch.manual_seed(1)
    module = build("cifar", (8,) * 7).eval()
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    recompute_statistics(module, images)
    before = module(images)
    with torch.no_grad():
        module.conv2.weight *= 0.5
    assert not torch.allclose(module(images), before, atol=0.01)
    recompute_statistics(module, images)
    torch.testing.assert_close(module(images), before, atol=1e-3, rtol=1e-3)


def test_measured_statistics_fit_a_noisy_network_better_than_those_it_was_sent_with():
    torch.manual_seed(1)
    module = build("cifar", (16,) * 7).eval()
    images = torch.randint(0, 256, (128, 3, 32, 32), dtype=torch.uint8)
    recompute_statistics(module, images)
    arrived = noisy(module, 1.0, torch.Generator().manual_seed(1))

    def spread():  # of what each normalised layer puts out; 1 is right
        out = arrived[:4](images)  # scale, conv, pool, norm
        return out.var().item()

    sent = spread()
    recompute_statistics(arrived, images)
    assert abs(spread() - 1) < 0.05 < abs(sent - 1)


def test_live_normalises_each_batch_and_keeps_nothing():
    module = nn.BatchNorm1d(3).eval()
    with normalised_by_batch(module):
        out = module(INPUTS)
    torch.testing.assert_close(out.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    assert module.running_mean.eq(0).all() and not module.training
    assert module.momentum == pytest.approx(0.1)


@pytest.mark.parametrize("fails_at", [None, 0, 2])
def test_a_measurement_leaves_modes_and_when_it_fails_statistics(fails_at):
    module = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5), nn.BatchNorm1d(3)).train()
    module(INPUTS)
    module[2].eval()
    before, seen = {name: value.clone() for name, value in module.state_dict().items()}, []

    def run(network, batch):
        seen.append(network[1].training)
        if len(seen) - 1 == fails_at:
            raise RuntimeError("example 5 is gone")
        network(batch)

    if fails_at is None:
        recompute_statistics(module, INPUTS, run)
    else:
        with pytest.raises(RuntimeError, match="gone"):
            recompute_statistics(module, INPUTS, run)
        for name, value in module.state_dict().items():
            assert torch.equal(value, before[name])
    assert [layer.training for layer in module] == [True, True, False] and not any(seen)
    assert module.training and module[0].momentum == module[2].momentum == pytest.approx(0.1)
    assert module[0].num_batches_tracked == 1
