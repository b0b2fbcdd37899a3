"""Example of a transformer: a language model of bytes, whose output layer is its embedding.

    python models/train.py --architecture models/examples/text.py:text --out out/text

It reads what Python's own help says (`pydoc_data.topics`, half a million characters on every machine with Python) and
predicts the next character from up to 64 before it.
"""

import functools
from pydoc_data.topics import topics

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from airnet_sdr.models import measures

LENGTH, NUM_TOKENS, WIDTH, NUM_LAYERS, NUM_HEADS = 64, 128, 96, 2, 4
TEST_EVERY = 20  # of the text's pieces, one is for the test


class Text(nn.Module):
    """A causal transformer of two layers, 0.24 million weights. The output layer is the embedding: they are tied."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(NUM_TOKENS, WIDTH)
        self.position = nn.Parameter(0.02 * torch.randn(LENGTH, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, NUM_HEADS, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, NUM_LAYERS, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, NUM_TOKENS, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.05)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Characters, int64 (N, 64), to logits of each next one (N, 64, 128)."""
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], device=tokens.device)
        x = self.embedding(tokens) + self.position[: tokens.shape[1]]
        return self.head(self.norm(self.layers(x, mask=mask, is_causal=True)))


def text() -> nn.Module:
    """The network."""
    return Text()


@functools.cache
def pieces() -> Tensor:
    """The text in pieces of 65 characters, int64 (N, 65)."""
    characters = "\n".join(topics[name] for name in sorted(topics)).encode("ascii", "replace")
    codes = torch.frombuffer(bytearray(characters), dtype=torch.uint8).long()
    return codes[: len(codes) // (LENGTH + 1) * (LENGTH + 1)].view(-1, LENGTH + 1)


def load_data(split: str, data_dir=None) -> tuple[Tensor, Tensor]:
    """Characters, int64 (N, 64), and the next of each, int64 (N, 64)."""
    every = pieces()
    is_test = torch.arange(len(every)) % TEST_EVERY == 0
    chosen = every[is_test] if split == "test" else every[~is_test]
    return chosen[:, :-1], chosen[:, 1:]


def loss(network: nn.Module, batch) -> Tensor:
    """Cross-entropy of the next character."""
    tokens, following = batch
    return F.cross_entropy(network(tokens).transpose(1, 2), following)


evaluate = measures.evaluate(load_data, measures.perplexity())
