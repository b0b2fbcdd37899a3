"""State dict to vectors and back, bit for bit."""

import numpy as np
import pytest
import torch
from torch import nn

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import hollow, load_vectors, strict_state, tensor_specs, tensors_of, to_vectors


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


def test_a_hollow_network_takes_its_numbers_as_any_other():
    torch.manual_seed(1)
    wanted, got = build("fashion-bn"), hollow(build("fashion-bn"))
    assert all(weight.untyped_storage().nbytes() == 0 for weight in got.parameters())
    assert tensor_specs(got) == tensor_specs(wanted)
    vectors = to_vectors(tensors_of(wanted))
    assert load_vectors(got, vectors, keep=False) is got and not vectors
    for (name, one), other in zip(wanted.state_dict().items(), got.state_dict().values(), strict=True):
        assert torch.equal(one, other) and one.stride() == other.stride(), name


def test_what_is_shared_or_a_part_of_another_stays_when_a_network_is_hollowed():
    numbers = np.arange(4, dtype=np.float32)
    module = nn.Module()
    module.register_buffer("mapped", torch.from_numpy(numbers))
    module.register_buffer("part", torch.arange(8.0)[2:4])
    hollow(module)
    assert module.mapped.tolist() == [0, 1, 2, 3] and module.part.tolist() == [2, 3]


@pytest.mark.parametrize("order", [("part", "whole"), ("whole", "part"), ("part", "whole", "all")])
def test_tensors_that_share_memory_stay_when_a_network_is_hollowed(order):
    """The memory of the whole would be made anew in the size of its part."""
    numbers = torch.arange(12.0)
    shared = {"part": numbers[:3], "whole": numbers.view(4, 3), "all": numbers[:]}
    module = nn.Module()
    for name in order:
        module.register_parameter(name, nn.Parameter(shared[name]))
    hollow(module)
    wanted = to_vectors(tensors_of(module))
    assert [len(vector) for vector in wanted] == [shared[name].numel() for name in order]
    load_vectors(module, [vector + 1 for vector in wanted])
    assert numbers.tolist() == list(range(1, 13))


def test_expanded_tensors_are_refused_by_name():
    module = nn.Linear(2, 3)
    module.gain = nn.Parameter(torch.ones(1, 2).expand(3, 2))
    with pytest.raises(InputError, match="gain is an expanded tensor"):
        tensor_specs(module)
    module.gain = nn.Parameter(torch.ones(2, 1).expand(2, 1))  # nothing is shared
    assert len(tensor_specs(module)) == 3
    module.register_buffer("mask", torch.ones(1, 4, dtype=torch.bool).expand(4, 4))
    with pytest.raises(InputError, match="mask is an expanded tensor"):
        tensor_specs(module)


def test_the_strict_state_is_the_modules_own_memory_but_for_tied_tensors():
    module = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    module[1].weight = module[0].weight
    state = strict_state(module, {"0.weight": "float16"})
    assert [value.dtype for value in state.values()] == [torch.float16] * 2
    state = strict_state(module)
    assert state["0.weight"].data_ptr() == module[0].weight.data_ptr() != state["1.weight"].data_ptr()
    assert torch.equal(state["0.weight"], state["1.weight"])


def test_a_network_that_does_something_when_loaded_does_it():
    class Cached(nn.Linear):
        def _load_from_state_dict(self, *args):
            super()._load_from_state_dict(*args)
            self.total = self.weight.detach().sum()

    module = load_vectors(Cached(2, 2, bias=False), [np.ones(4, np.float32)])
    assert module.total == 4
