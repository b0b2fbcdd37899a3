"""Networks of every kind, small and with random weights, each with a measure of its own.

    python tx/send.py --architecture models/examples/kinds.py:language --model language.safetensors --radio …

They show what a state dict may hold, and what `evaluate` may measure: recurrent and tied networks, segmentation,
regression, embeddings, several inputs or outputs, buffers of any type, complex, double and half precision. A network of
your own needs only what its kind needs here: a function that makes it and `evaluate`.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NUM_EXAMPLES = 500
NUM_CLASSES, NUM_TOKENS, LENGTH = 10, 64, 24


def random(*shape: int, seed: int = 1) -> Tensor:
    """Numbers from a normal distribution, the same at every call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def choices(high: int, *shape: int, seed: int = 2) -> Tensor:
    """Whole numbers from 0 to ``high`` - 1, int64, the same at every call."""
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def share(output: Tensor, labels: Tensor) -> float:
    """Percent of the largest outputs (N, C, ...) that are at the labels (N, ...)."""
    return 100 * (output.argmax(1) == labels).double().mean().item()


class Recurrent(nn.Module):
    """A two-layer LSTM over sequences, and a classifier of its last state."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 64, num_layers=2, batch_first=True)
        self.head = nn.Linear(64, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Sequences (N, T, 8) to logits (N, 10)."""
        return self.head(self.lstm(x)[0][:, -1])

    def measure(self) -> dict[str, float]:
        """Accuracy on random sequences."""
        output = self(random(NUM_EXAMPLES, LENGTH, 8))
        return {"accuracy, %": share(output, choices(NUM_CLASSES, NUM_EXAMPLES))}


class Language(nn.Module):
    """A transformer that predicts the next token, whose output layer is its embedding: one tensor of two names."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(NUM_TOKENS, 64)
        self.register_buffer("mask", torch.triu(torch.ones(LENGTH, LENGTH, dtype=torch.bool), 1))
        layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(64, NUM_TOKENS, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.05)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens, int64 (N, T), to logits (N, T, tokens)."""
        length = tokens.shape[1]
        mask = self.get_buffer("mask")[:length, :length]
        return self.head(self.layers(self.embedding(tokens), mask=mask))

    def measure(self) -> dict[str, float]:
        """Perplexity of random text."""
        tokens = choices(NUM_TOKENS, NUM_EXAMPLES // 5, LENGTH)
        output = self(tokens[:, :-1])
        return {"perplexity": math.exp(F.cross_entropy(output.transpose(1, 2), tokens[:, 1:]).item())}


class UNet(nn.Module):
    """Segmentation: down, up, and a connection across, with batch norm."""

    def __init__(self):
        super().__init__()
        self.down, self.middle = _convolution(1, 16), _convolution(16, 32)
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.across, self.head = _convolution(32, 16), nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures (N, 1, H, W) to logits (N, 3, H, W)."""
        fine = self.down(x)
        coarse = self.up(self.middle(F.max_pool2d(fine, 2)))
        return self.head(self.across(torch.cat([fine, coarse], 1)))

    def measure(self) -> dict[str, float]:
        """Mean intersection over union of three classes, percent."""
        got, labels = self(random(20, 1, 32, 32)).argmax(1), choices(3, 20, 32, 32)
        overlaps = [((got == c) & (labels == c)).sum() / ((got == c) | (labels == c)).sum() for c in range(3)]
        return {"mean IoU, %": 100 * torch.stack(overlaps).mean().item()}


def _convolution(num_in: int, num_out: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(num_in, num_out, 3, padding=1), nn.BatchNorm2d(num_out), nn.ReLU())


class Regression(nn.Module):
    """A dense network with one real output."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(10, 64), nn.BatchNorm1d(64), nn.Tanh(), nn.Linear(64, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (N, 10) to (N,)."""
        return self.layers(x)[:, 0]

    def measure(self) -> dict[str, float]:
        """Root of the mean squared error."""
        x = random(NUM_EXAMPLES, 10)
        return {"rmse": F.mse_loss(self(x), x.sum(1)).sqrt().item()}


class Embedding(nn.Module):
    """Vectors of unit length, compared by their angles."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 16))

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (N, 16) to vectors (N, 16)."""
        return F.normalize(self.layers(x), dim=1)

    def measure(self) -> dict[str, float]:
        """Percent of inputs whose disturbed copy is nearest to them."""
        x = random(NUM_EXAMPLES, 16)
        near = self(x) @ self(x + 0.3 * random(NUM_EXAMPLES, 16, seed=3)).T
        return {"recall at 1, %": share(near, torch.arange(NUM_EXAMPLES))}


class Several(nn.Module):
    """Two inputs, and a class and a value as outputs."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(6, 32), nn.Linear(4, 32)
        self.label, self.value = nn.Linear(32, NUM_CLASSES), nn.Linear(32, 1)

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (N, 6) and (N, 4) to logits (N, 10) and values (N, 1)."""
        x = torch.relu(self.left(a) + self.right(b))
        return self.label(x), self.value(x)

    def measure(self) -> dict[str, float]:
        """Accuracy of the class and error of the value."""
        output, value = self(random(NUM_EXAMPLES, 6), random(NUM_EXAMPLES, 4, seed=3))
        accuracy = share(output, choices(NUM_CLASSES, NUM_EXAMPLES))
        return {"accuracy, %": accuracy, "value rmse": value.square().mean().sqrt().item()}


class Buffers(nn.Module):
    """A filter bank in the frequency domain: complex weights, a boolean mask, a table of int64, a float buffer."""

    def __init__(self):
        super().__init__()
        self.filters = nn.Parameter(torch.randn(32, 17, dtype=torch.complex64))
        self.register_buffer("used", torch.rand(17) > 0.2)
        self.register_buffer("order", torch.randperm(32))
        self.register_buffer("gain", torch.rand(32) + 0.5)
        self.head = nn.Linear(32, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Signals (N, 32) to logits (N, 10)."""
        spectrum = torch.fft.rfft(x) * self.used  # (N, 17)
        power = (spectrum @ self.filters.T).abs()[:, self.order] * self.gain  # (N, 32)
        return self.head(torch.log1p(power))

    def measure(self) -> dict[str, float]:
        """Accuracy on random signals."""
        output = self(random(NUM_EXAMPLES, 32))
        return {"accuracy, %": share(output, choices(NUM_CLASSES, NUM_EXAMPLES))}


class Dense(nn.Module):
    """A classifier of any precision."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, NUM_CLASSES)).to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (N, 16) to logits (N, 10)."""
        return self.layers(x.to(next(self.parameters()).dtype))

    def measure(self) -> dict[str, float]:
        """Accuracy on random inputs."""
        output = self(random(NUM_EXAMPLES, 16)).float()
        return {"accuracy, %": share(output, choices(NUM_CLASSES, NUM_EXAMPLES))}


def double() -> nn.Module:
    """A network of float64."""
    return Dense(torch.float64)


def half() -> nn.Module:
    """A network of float16."""
    return Dense(torch.float16)


def bfloat() -> nn.Module:
    """A network of bfloat16."""
    return Dense(torch.bfloat16)


recurrent, language, segmentation, regression = Recurrent, Language, UNet, Regression
embedding, several, buffers = Embedding, Several, Buffers


def evaluate(network: nn.Module, data_dir=None) -> dict[str, float]:
    """The network's own measure."""
    return network.measure()  # type: ignore[operator] # every network here has one
