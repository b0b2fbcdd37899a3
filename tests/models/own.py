"""A small network of a user's own, and what a file of theirs may say about it."""

IMAGES = '''
"""Images as uint8, sorted by class: is the bright spot left or right?"""
import torch
from torch import nn


class Scaled(nn.Module):
    def forward(self, images):
        return images.float() / 128 - 1


class Branches(nn.Module):
    """Two convolutions that are added, and an attention-like layer whose code needs its number of channels."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.fixed = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        x = torch.relu(self.one(x) + self.two(x))
        return x + self.fixed(x).reshape(-1, 2, 4, *x.shape[2:]).mean(1, keepdim=True).sum(2)


def spot():
    return nn.Sequential(Scaled(), nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), Branches(),
                         nn.AdaptiveMaxPool2d((2, 4)), nn.Flatten(), nn.Linear(64, 2))


def load_data(split, data_dir):
    rng = torch.Generator().manual_seed(1 if split == "train" else 2)
    num = 600 if split == "train" else 200
    images = torch.randint(0, 100, (num, 1, 8, 16), generator=rng)
    labels = torch.arange(num) // (num // 2)
    column = torch.randint(0, 8, (num,), generator=rng) + 8 * labels
    images[torch.arange(num), 0, torch.randint(0, 8, (num,), generator=rng), column] = 255
    return images.to(torch.uint8), labels
'''

SERIES = '''
"""A recurrent network with two inputs in a dictionary, its own loss and measure."""
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.recurrent, self.dense = nn.LSTM(2, 8, batch_first=True), nn.Linear(9, 1)

    def forward(self, series, offset):
        state = self.recurrent(series)[0][:, -1]
        return self.dense(torch.cat([state, offset], 1)), state


def series():
    return Model()


def load_data(split, data_dir):
    rng = torch.Generator().manual_seed(1 if split == "train" else 2)
    x, offset = torch.randn(300, 5, 2, generator=rng), torch.randn(300, 1, generator=rng)
    return {"series": x, "offset": offset, "target": x.sum((1, 2))[:, None] / 4 + offset}


def loss(network, batch):
    return (network(batch["series"], batch["offset"])[0] - batch["target"]).square().mean()


def evaluate(network, data_dir):
    return {"MSE": float(loss(network, load_data("test", data_dir)))}


def augment(batch, rng):
    return {**batch, "series": batch["series"] + 0.01 * torch.randn(batch["series"].shape, generator=rng)}
'''
