"""Whatever `load_data` returns gives the same batches."""

import collections
import dataclasses

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models.batches import as_examples, map_tensors, parts_of, size_of

X, Y = torch.arange(14.0).reshape(7, 2), torch.arange(7)
Pair = collections.namedtuple("Pair", "x y")


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(X, Y, strict=True))


@pytest.mark.parametrize(
    "found",
    [
        (X, Y),
        [X, Y],
        Pair(X, Y),
        (X.numpy(), Y.numpy()),
        TensorDataset(X, Y),
        list(zip(X, Y, strict=True)),
        DataLoader(TensorDataset(X, Y), batch_size=2, shuffle=True),
        DataLoader(Stream(), batch_size=3),
        Stream(),
        as_examples((X, Y)),
    ],
    ids=lambda found: type(found).__name__,
)
def test_examples_of_any_kind_are_the_same(found):
    examples = as_examples(found)
    assert len(examples) == 7
    x, y = examples.take(torch.tensor([5, 0]))
    assert torch.equal(x, X[[5, 0]]) and torch.equal(y, Y[[5, 0]])
    assert [size_of(batch) for batch in examples.batches(3)] == [3, 3, 1]
    later = examples.select(torch.tensor([6, 4, 2]))
    assert torch.equal(next(later.first(2).batches(9))[1], torch.tensor([6, 4]))


def test_structures_stay():
    batch = as_examples({"text": X, "more": (Y, [X, Y])}).take(torch.tensor([1]))
    assert batch["more"][1][1].item() == 1 and map_tensors(len, batch) == {"text": 1, "more": (1, [1, 1])}
    assert as_examples(X).take(torch.tensor([2])).tolist() == [[4.0, 5.0]]


def test_a_loader_joins_as_it_does():
    def collate(rows):
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)

    loader = DataLoader([torch.ones(n) for n in (1, 3, 2)], batch_size=2, collate_fn=collate)
    assert as_examples(loader).take(torch.tensor([0, 1])).shape == (2, 3)


@pytest.mark.parametrize(
    "found", [(X, Y[:3]), (X[:0], Y[:0]), 5, {}, TensorDataset(X[:0]), iter([]), [torch.tensor(1.0)], np.float64(1)]
)
def test_what_are_no_examples_is_refused(found):
    with pytest.raises(InputError, match="load_data"):
        as_examples(found)


def test_batches_that_cannot_be_joined_are_refused():
    with pytest.raises(InputError, match="cannot be joined"):
        as_examples(iter([torch.ones(2, 3), torch.ones(2, 4)]))


def test_a_loader_of_a_subset_has_that_subset():
    training, test = (
        as_examples(DataLoader(TensorDataset(X, Y), batch_size=2, sampler=SubsetRandomSampler(indices)))
        for indices in ([5, 0, 3], torch.tensor([1, 6]))
    )
    assert [next(each.batches(9))[1].tolist() for each in (training, test)] == [[5, 0, 3], [1, 6]]


def test_whole_batches_of_a_loader_without_a_batch_size_are_joined_in_their_order():
    batches = [(X[start : start + 2], Y[start : start + 2]) for start in (0, 2, 4)]
    loader = DataLoader(batches, batch_size=None, shuffle=True)
    for seed in range(5):
        torch.manual_seed(seed)
        assert next(as_examples(loader).batches(9))[1].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": WeightedRandomSampler([1.0] * 7, 7)},
        {"sampler": RandomSampler(Y, replacement=True)},
        {"sampler": SequentialSampler(Y[:4])},
        {"sampler": [0, 1, 2, 3, 4, 5, 6]},
        {"batch_sampler": BatchSampler(SequentialSampler(Y[:4]), 2, drop_last=False)},
    ],
    ids=lambda options: type(next(iter(options.values()))).__name__,
)
def test_other_samplers_are_refused(options):
    with pytest.raises(InputError, match="Sampler|list") as caught:
        as_examples(DataLoader(TensorDataset(X, Y), **options))
    assert "return a Subset" in str(caught.value)


def test_one_example_left_over_goes_to_the_part_before_where_that_is_asked_for():
    assert [len(part) for part in parts_of(torch.arange(9), 4, joined=False)] == [4, 4, 1]
    assert [part.tolist() for part in parts_of(torch.arange(9), 4, joined=True)] == [[0, 1, 2, 3], [4, 5, 6, 7, 8]]
    for num, size, lengths in ((10, 4, [4, 4, 2]), (1, 4, [1]), (3, 1, [1, 1, 1]), (8, 4, [4, 4])):
        assert [len(part) for part in parts_of(torch.arange(num), size, joined=True)] == lengths
    examples = as_examples((X, Y))
    assert not examples.joined
    joined = dataclasses.replace(examples, joined=True)
    assert joined.select(torch.tensor([1, 2])).joined and joined.first(3).joined
