"""Example of a user's network: modulation classification, IQ samples in, one of six classes out.

    python models/train.py --architecture models/examples/modulation.py:modulation --out out/modulation

The program does not know this file: `--architecture` runs it at the sender and at the receiver, builds the network with
`modulation` and takes training and evaluation data from `load_data`. The data are generated: 256 samples of random
symbols, 8 samples each, with random phase, a small carrier offset and an SNR of 3 to 20 dB.
"""

import numpy as np
import torch
from torch import Tensor, nn

CLASSES = ("2fsk", "4pam", "bpsk", "qpsk", "8psk", "16qam")
NUM_SAMPLES = 256
SPS = 8
SIZES = {"train": 12000, "test": 3000}


def modulation() -> nn.Module:
    """Five strided convolutions over time with batch norm; 2 x 256 (I and Q) to 6 classes, 32 thousand weights."""
    layers, num_in = [], 2
    for width in (16, 32, 32, 48, 64):
        layers += [nn.Conv1d(num_in, width, 5, stride=2, padding=2, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
        num_in = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(num_in, len(CLASSES)))


def load_data(split: str, data_dir=None) -> tuple[Tensor, Tensor]:
    """Signals, float32 (N, 2, 256) of unit power, and their classes, int64 (N,); the same at every call."""
    rng = np.random.default_rng([1865, list(SIZES).index(split)])
    num = SIZES[split]
    labels = rng.integers(len(CLASSES), size=num)
    signals = np.empty((num, NUM_SAMPLES), np.complex128)
    for label, name in enumerate(CLASSES):
        rows = labels == label
        signals[rows] = transmit(name, int(np.count_nonzero(rows)), rng)
    phase = 2 * np.pi * rng.random((num, 1)) + rng.uniform(-0.01, 0.01, (num, 1)) * np.arange(NUM_SAMPLES)
    noise_var = 10 ** (-rng.uniform(3, 20, (num, 1)) / 10)
    noise = rng.standard_normal((num, NUM_SAMPLES, 2)) @ [1, 1j] * np.sqrt(noise_var / 2)
    signals = signals * np.exp(1j * phase) + noise
    signals /= np.sqrt(np.mean(np.abs(signals) ** 2, axis=1, keepdims=True))
    iq = np.stack([signals.real, signals.imag], axis=1).astype(np.float32)  # (N, 2, 256)
    return torch.from_numpy(iq), torch.from_numpy(labels)


def transmit(name: str, num: int, rng: np.random.Generator) -> np.ndarray:
    """Random bursts (num, 256) complex of unit average power."""
    num_symbols = NUM_SAMPLES // SPS + 1
    if name == "2fsk":
        turns = np.repeat(rng.choice([-1, 1], (num, num_symbols)), SPS, axis=1) * 0.5 / SPS
        return np.exp(1j * np.pi * np.cumsum(turns, axis=1))[:, :NUM_SAMPLES]
    levels = np.array([-3, -1, 1, 3])
    points = {
        "4pam": levels + 0j,
        "bpsk": np.array([-1, 1]) + 0j,
        "qpsk": np.exp(0.5j * np.pi * np.arange(4)),
        "8psk": np.exp(0.25j * np.pi * np.arange(8)),
        "16qam": (levels[:, None] + 1j * levels).ravel(),
    }[name]
    points = points / np.sqrt(np.mean(np.abs(points) ** 2))
    symbols = rng.choice(points, (num, num_symbols))
    start = rng.integers(SPS, size=(num, 1))
    time = (start + np.arange(NUM_SAMPLES)) / SPS  # in symbols
    left = time.astype(int)
    # raised-cosine crossfade from one symbol to the next
    fade = 0.5 * (1 - np.cos(np.pi * (time - left)))
    rows = np.arange(num)[:, None]
    return symbols[rows, left] * (1 - fade) + symbols[rows, np.minimum(left + 1, num_symbols - 1)] * fade
