"""Example of a regression: Friedman's first problem (Annals of Statistics 19(1), 1991), a function of ten numbers.

    python models/train.py --architecture models/examples/friedman.py:friedman --out out/friedman

y = 10 sin(π x₁ x₂) + 20 (x₃ − 0.5)² + 10 x₄ + 5 x₅ + n, with x uniform in 0 to 1 and n of unit variance, so that no
estimate has a root mean squared error below 1. Five of the ten numbers say nothing about y.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from airnet_sdr.models import measures

NUM_INPUTS, WIDTH = 10, 128
SIZES = {"train": 20000, "test": 5000}


def friedman() -> nn.Module:
    """Three hidden layers; 10 numbers to one, 35 thousand weights."""
    layers, num_in = [], NUM_INPUTS
    for _ in range(3):
        layers += [nn.Linear(num_in, WIDTH), nn.LayerNorm(WIDTH), nn.SiLU()]
        num_in = WIDTH
    return nn.Sequential(*layers, nn.Linear(num_in, 1), nn.Flatten(0))


def load_data(split: str, data_dir=None) -> tuple[Tensor, Tensor]:
    """Inputs, float32 (N, 10), and y, float32 (N,); the same at every call."""
    rng = torch.Generator().manual_seed(1991 + list(SIZES).index(split))
    x = torch.rand(SIZES[split], NUM_INPUTS, generator=rng)
    y = 10 * torch.sin(math.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    return x, y + torch.randn(SIZES[split], generator=rng)


def loss(network: nn.Module, batch) -> Tensor:
    """Mean squared error."""
    x, y = batch
    return F.mse_loss(network(x), y)


evaluate = measures.evaluate(load_data, measures.rmse())
