"""State dict to vectors and back, bit for bit."""

import numpy as np
import pytest
import torch
from torch import nn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import load_vectors, tensor_specs, tensors_of, to_vectors


def test_round_trip_is_exact():
    torch.manual_seed(1)
    one, other = build("fashion"), build("fashion")
    vectors = to_vectors(tensors_of(one))
    specs = tensor_specs(one)
    assert [vector.shape for vector in vectors] == [(spec.numel,) for spec in specs]
    assert all(vector.dtype == np.float32 for vector in vectors)
    load_vectors(other, vectors)
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


def test_statistics_and_counters_stay_at_home_and_other_buffers_travel():
    names = [spec.name for spec in tensor_specs(nn.Sequential(nn.BatchNorm2d(4), nn.Linear(4, 2, bias=False)))]
    assert names == ["0.weight", "0.bias", "1.weight"]
    module = nn.Linear(2, 2, bias=False)
    module.register_buffer("running_mean", torch.zeros(2))  # the name alone does not make it batch norm's
    assert list(tensors_of(module)) == ["weight", "running_mean"]


def test_weights_do_not_share_memory():
    module = nn.Linear(2, 2, bias=False)
    vector = np.ones(4, np.float32)
    load_vectors(module, [vector])
    vector[:] = 5
    tensors_of(module)["weight"][:] = 7
    assert module.weight.unique().tolist() == [1.0]


@pytest.mark.parametrize("sizes", [[4, 2], [4], [2, 4], [4, 2, 1], [5, 2]])
def test_vectors_must_fit(sizes):
    vectors = [np.zeros(size, np.float32) for size in sizes]
    if sizes == [4, 2]:
        load_vectors(nn.Linear(2, 2), vectors)
        return
    with pytest.raises(InputError, match=r"\[4, 2\]"):
        load_vectors(nn.Linear(2, 2), vectors)
