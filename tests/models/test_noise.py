"""Weight noise against the closed form of the linear MMSE receiver."""

import pytest
import torch

from models.noise import receive, receive_all, straight_through


@pytest.mark.parametrize("snr", [0.1, 1.0, 10.0, 100.0])
def test_nmse_is_that_of_linear_mmse(snr):
    rng = torch.Generator().manual_seed(1)
    weights = 0.3 + 0.02 * torch.randn(200_000, generator=rng)
    error = receive(weights, snr, rng) - weights
    nmse = (error.square().mean() / weights.var()).item()
    assert nmse == pytest.approx(1 / (1 + snr), rel=0.02)  # 200,000 draws: 3 sigma is 1 %
    # Orthogonality: what linear MMSE leaves is uncorrelated with its own estimate.
    estimate = weights + error
    assert abs(torch.corrcoef(torch.stack([estimate, error]))[0, 1].item()) < 0.01
    assert estimate.mean().item() == pytest.approx(0.3, abs=3e-4)


def test_no_noise_no_change():
    weights = torch.randn(4, 5, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(receive(weights, float("inf"), torch.Generator()), weights, atol=1e-7)


def test_each_tensor_at_its_own_snr():
    rng = torch.Generator().manual_seed(3)
    tensors = {"a": torch.randn(50_000, generator=rng), "b": torch.randn(50_000, generator=rng)}
    received = receive_all(tensors, {"a": 1.0, "b": 99.0}, rng)
    for name, nmse in (("a", 0.5), ("b", 0.01)):
        assert (received[name] - tensors[name]).square().mean().item() == pytest.approx(nmse, rel=0.05)


def test_gradient_passes_straight_through():
    weights = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    noisy = receive(weights.detach(), 1.0, torch.Generator().manual_seed(4))
    arrived = straight_through(weights, noisy)
    (arrived * torch.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert torch.allclose(arrived, noisy) and weights.grad.tolist() == [1.0, 10.0, 100.0]
