"""Weight noise against the closed form of the linear MMSE receiver."""

import pytest
import torch
from torch import nn

from airnet_sdr.models.nets import build
from airnet_sdr.models.noise import energies, noisy, receive_tensors, receive_weights, straight_through


@pytest.mark.parametrize("snr", [0.1, 1.0, 10.0, 100.0])
def test_nmse_is_that_of_linear_mmse(snr):
    rng = torch.Generator().manual_seed(1)
    weights = 0.3 + 0.02 * torch.randn(200_000, generator=rng)
    error = receive_weights(weights, snr, rng) - weights
    nmse = (error.square().mean() / weights.var()).item()
    assert nmse == pytest.approx(1 / (1 + snr), rel=0.02)  # 200,000 draws: 3 sigma is 1 %
    # Orthogonality: what linear MMSE leaves is uncorrelated with its own estimate.
    estimate = weights + error
    assert abs(torch.corrcoef(torch.stack([estimate, error]))[0, 1].item()) < 0.01
    assert estimate.mean().item() == pytest.approx(0.3, abs=3e-4)


def test_a_conjugate_view_arrives_as_its_numbers():
    weights = torch.randn(9, dtype=torch.complex64, generator=torch.Generator().manual_seed(1)).conj()
    torch.testing.assert_close(receive_weights(weights, torch.inf, torch.Generator()), weights)


def test_complex_weights_are_pairs_of_weights():
    rng = torch.Generator().manual_seed(5)
    weights = torch.complex(0.3 + torch.randn(100_000, generator=rng), torch.randn(100_000, generator=rng))
    error = torch.view_as_real(receive_weights(weights, 10.0, rng) - weights)
    assert (error.square().mean() / torch.view_as_real(weights).var()).item() == pytest.approx(1 / 11, rel=0.02)


def test_a_network_with_computed_and_with_integer_parameters_is_copied():
    network = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    old = nn.Linear(4, 3)
    old.weight_copy = old.weight * 2  # a tensor that was computed, as torch.nn.utils.weight_norm keeps
    network.order = nn.Parameter(torch.arange(3), requires_grad=False)
    for each in (network, old):
        found = noisy(each, 1.0, torch.Generator().manual_seed(1))
        assert found is not each and any(
            not torch.equal(one, other) for one, other in zip(found.parameters(), each.parameters(), strict=True)
        )


def test_no_noise_no_change():
    weights = torch.randn(4, 5, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(receive_weights(weights, float("inf"), torch.Generator()), weights, atol=1e-7)


def test_each_tensor_at_its_own_snr():
    rng = torch.Generator().manual_seed(3)
    tensors = {"a": torch.randn(50_000, generator=rng), "b": torch.randn(50_000, generator=rng)}
    received = receive_tensors(tensors, {"a": 1.0, "b": 99.0}, rng)
    for name, nmse in (("a", 0.5), ("b", 0.01)):
        assert (received[name] - tensors[name]).square().mean().item() == pytest.approx(nmse, rel=0.05)


def test_gradient_passes_straight_through():
    weights = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    noisy = receive_weights(weights.detach(), 1.0, torch.Generator().manual_seed(4))
    arrived = straight_through(weights, noisy)
    (arrived * torch.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert torch.allclose(arrived, noisy) and weights.grad.tolist() == [1.0, 10.0, 100.0]


def test_a_noisy_copy_is_the_network_as_received():
    torch.manual_seed(1)
    module = build("fashion", (4, 5, 6, 7, 8))
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    arrived = noisy(module, 4.0, torch.Generator().manual_seed(3)).state_dict()
    wanted = receive_tensors(before, 4.0, torch.Generator().manual_seed(3))
    assert all(torch.equal(arrived[name], wanted[name]) for name in before)
    assert all(torch.equal(module.state_dict()[name], before[name]) for name in before)


def test_a_tensor_without_weights_takes_no_energy():
    assert energies({"a": 4, "b": 16, "empty": 0}, 0.5)["a"] == energies({"a": 4, "b": 16}, 0.5)["a"]


def test_energies_favour_small_tensors_and_cost_nothing_in_all():
    numels = {"a": 100, "b": 400, "c": 10_000}
    for exponent in (0.0, 0.3, 0.5):
        found = energies(numels, exponent)
        assert sum(numels[name] * found[name] for name in numels) == pytest.approx(sum(numels.values()))
        assert found["a"] / found["b"] == pytest.approx(4**exponent)
    damage = {e: sum(1 / share for share in energies(numels, e).values()) for e in (0.2, 0.4, 0.5, 0.6, 0.8)}
    assert min(damage, key=damage.get) == 0.5  # where each does 1/e
