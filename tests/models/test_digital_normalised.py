"""Networks that divide weights by their norms stay finite at any number of bits."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from airnet_sdr.models.digital.normalised import anchors
from airnet_sdr.models.digital.quantise import dequantise, quantise, step_code
from airnet_sdr.models.digital.scheme import compress_to_fit
from airnet_sdr.models.packing import real_view

KINDS = {
    "weight norm": lambda: parametrizations.weight_norm(nn.Conv2d(3, 8, 3)),
    "of one norm": lambda: parametrizations.weight_norm(nn.Conv2d(3, 8, 3), dim=None),
    "along inputs": lambda: parametrizations.weight_norm(nn.Conv2d(3, 8, 3), dim=1),
    "weight norm, old": lambda: weight_norm(nn.Conv2d(3, 8, 3)),
    "transposed": lambda: parametrizations.spectral_norm(nn.ConvTranspose2d(3, 3, 3)),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Conv2d(3, 8, 3)),
    "spectral norm, old": lambda: spectral_norm(nn.Conv2d(3, 8, 3)),
}


def coarse(layer, is_kept):
    """The layer, with the weights that it divides by their norms in steps of four times the largest."""
    tensors = {name: tensor.detach().numpy() for name, tensor in layer.state_dict().items()}
    for tensor, kept in zip(layer.state_dict().values(), anchors(tensors), strict=True):
        if kept.size:
            view = real_view(tensor.numpy())
            found = quantise(view, step_code(4 * np.abs(view).max()), anchors=kept if is_kept else ())
            view.reshape(-1)[:] = dequantise(found)
    return layer.eval()


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_no_layer_divides_by_zero(kind):
    torch.manual_seed(1)
    kept, lost = coarse(KINDS[kind](), True), coarse(KINDS[kind](), False)
    x = torch.randn(4, 3, 9, 9)
    with torch.no_grad():
        assert torch.isfinite(kept(x)).all()
        assert torch.isnan(lost(x)).all()


@pytest.mark.parametrize("num_bytes", [60, 120, 300])
def test_a_small_channel_arrives_at_any_number_of_bytes(num_bytes):
    rng = np.random.default_rng(1)
    names = [f"conv.parametrizations.weight.original{k}" for k in (0, 1)]
    tensors = [np.ones((8, 1, 1, 1), np.float32), rng.standard_normal((8, 3, 3, 3)).astype(np.float32)]
    tensors[1][1:] *= 1e-3
    kept = anchors(dict(zip(names, tensors, strict=True)))
    levels = [compress_to_fit(tensors, num_bytes, kept=indices)[1].levels.reshape(8, 27) for indices in (None, kept)]
    assert [int(each.any(axis=1).sum()) for each in levels] == [1, 8]


def test_the_largest_of_each_channel_is_kept_and_nothing_of_other_tensors():
    rng = np.random.default_rng(1)
    tensors = {
        "conv.parametrizations.weight.original0": np.ones((5, 1, 1), np.float32),
        "conv.parametrizations.weight.original1": rng.standard_normal((5, 4, 3)).astype(np.float32),
        "conv.bias": np.ones(5, np.float32),
        "low_rank_u": np.ones((4, 2), np.float32),
        "query_v": np.ones((4, 2), np.float32),
    }
    norms, directions, *rest = anchors(tensors)
    rows = np.abs(tensors["conv.parametrizations.weight.original1"]).reshape(5, -1)
    assert np.array_equal(directions, np.arange(5) * 12 + rows.argmax(axis=1))
    assert norms.size == 0 and all(each.size == 0 for each in rest)


def test_anchors_have_a_level_but_for_zeros():
    weights = np.array([0.01, 0.0, -0.02, 0.01], np.float32)
    assert quantise(weights, step_code(1.0)).levels.tolist() == [0, 0, 0, 0]
    assert quantise(weights, step_code(1.0), anchors=[1, 2]).levels.tolist() == [0, 0, -1, 0]
