"""Nested networks: slices of one set of weights, and the choice among them."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models.batches import as_examples
from airnet_sdr.models.checkpoint import Checkpoint
from airnet_sdr.models.ensemble import (
    SNR_GRID_DB,
    Member,
    best_member,
    equivalent_snr_db,
    from_metadata,
    grow,
    losses_under_noise,
    narrow,
    reorder,
    to_metadata,
)
from airnet_sdr.models.nets import FASHION_WIDTHS, build
from airnet_sdr.models.noise import energies
from airnet_sdr.models.packing import tensors_of
from airnet_sdr.models.task import task_of

IMAGES = torch.randint(0, 256, (30, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
NARROW = (4, 8, 16, 16, 20)


def test_a_member_is_the_network_whose_other_channels_say_nothing():
    torch.manual_seed(1)
    module = build("fashion", (4, 8, 16, 16, 24))
    member = build("fashion", NARROW)
    member.load_state_dict(narrow(module.state_dict(), "fashion", NARROW))
    assert torch.equal(member.dense.weight, module.dense.weight[:, : 20 * 9])
    assert torch.equal(member.conv5.weight, module.conv5.weight[:20])
    arrays = narrow(tensors_of(module), "fashion", NARROW)
    assert all(np.array_equal(arrays[name], tensor) for name, tensor in tensors_of(member).items())
    assert Checkpoint("fashion", "fashion-mnist", 0.5, arrays, widths=NARROW).module()(IMAGES).shape == (30, 10)


def test_sorted_channels_leave_the_output():
    torch.manual_seed(1)
    module = build("fashion", NARROW)
    before, weight = module(IMAGES), module.conv2.weight.detach().clone()
    scores = {name: torch.rand(width) for name, width in zip(CONVS, NARROW, strict=True)}
    reorder(module, scores)
    torch.testing.assert_close(module(IMAGES), before, atol=1e-4, rtol=1e-4)
    best, first = torch.argmax(scores["conv2"]), torch.argmax(scores["conv1"])
    assert torch.equal(module.conv2.weight[0, 0], weight[best, first])


def test_a_grown_network_computes_what_it_grew_from():
    torch.manual_seed(1)
    small = build("cifar", (4,) * 7)
    images = torch.randint(0, 256, (20, 3, 32, 32), dtype=torch.uint8)
    grown = grow(dict(small.named_parameters()), "cifar", (4, 6, 6, 8, 8, 5, 7))
    torch.testing.assert_close(grown(images), small(images), atol=1e-5, rtol=1e-4)
    within = narrow(grown.state_dict(), "cifar", (4,) * 7)
    assert all(torch.equal(within[name], weight) for name, weight in small.named_parameters())
    new = grown.conv4.weight[4:]  # its further channels
    assert new.std().item() == pytest.approx(small.conv4.weight.std().item(), rel=0.2)
    grown(images).square().sum().backward()
    assert (grown.conv5.weight.grad[:4, 4:] != 0).any()  # they come to be read


CONVS = [f"conv{number}" for number in range(1, 6)]
SMALL = Member(NARROW, 0.89, tuple(1 - np.linspace(0.85, 0.89, len(SNR_GRID_DB))))
LARGE = Member(FASHION_WIDTHS, 0.93, tuple(1 - np.minimum(np.linspace(0.2, 1.2, len(SNR_GRID_DB)), 0.93)))


def test_the_channel_chooses():
    members, uses = [LARGE, SMALL], 157_752
    assert best_member(members, "fashion", uses, lambda member: 20) == LARGE
    assert best_member(members, "fashion", uses, {LARGE: -5, SMALL: 5}.get) == SMALL
    assert best_member(members, "fashion", uses, {LARGE: 21, SMALL: 30}.get) == LARGE
    assert best_member(members, "fashion", 20_000, lambda member: 20) == SMALL  # no room for the other
    with pytest.raises(InputError, match="payload symbols"):
        best_member(members, "fashion", 100, lambda member: 20)


def test_the_equivalent_snr_leaves_as_much_error():
    numels = {"small": 100, "large": 10_000}
    shares = np.array(list(energies(numels, 0.5).values()))
    assert equivalent_snr_db(numels, 10**0.7 * shares) == pytest.approx(7, abs=0.02)
    assert equivalent_snr_db(numels, [5.0, 5.0]) < 7 < equivalent_snr_db(numels, [500.0, 5.0])


def test_members_travel_in_the_metadata():
    assert from_metadata(to_metadata([LARGE, SMALL]), "fashion") == [LARGE, SMALL]
    assert from_metadata({}, "fashion") == []


@pytest.mark.parametrize("change", [
    {"widths": [4, 8]}, {"widths": [99, 8, 16, 16, 20]}, {"losses": [0.5]}, {"accuracy": 7}, {"accuracy": "x"},
    {"widths": None}, {"losses": ["a"] * len(SNR_GRID_DB)}, {"losses": None},
])  # fmt: skip
def test_members_that_make_no_sense_are_refused_in_one_line(change):
    fields = {**dataclasses.asdict(SMALL), **change}
    with pytest.raises(InputError) as caught:
        from_metadata({"members": json.dumps([fields])}, "fashion")
    assert "\n" not in str(caught.value)


def test_accuracies_of_older_checkpoints_are_read_as_shares_of_wrong_answers():
    fields = {"widths": list(NARROW), "accuracy": 0.5, "curve": [0.25] * len(SNR_GRID_DB)}
    (member,) = from_metadata({"members": json.dumps([fields])}, "fashion")
    assert member.losses == (0.75,) * len(SNR_GRID_DB)


@pytest.mark.parametrize("text", ["{", "7", "[7]", '["a"]', '[{"widths": [4]}]'])
def test_metadata_that_is_no_list_of_members_is_refused(text):
    with pytest.raises(InputError):
        from_metadata({"members": text}, "fashion")


def test_the_loss_falls_from_guessing_to_what_the_network_says():
    torch.manual_seed(1)
    module = build("fashion", NARROW)
    labels = module(IMAGES).argmax(1)  # what it says is right, by definition
    task, examples = task_of("fashion-mnist"), as_examples((IMAGES, labels))
    curve = losses_under_noise(module, task, examples, num_draws=4)
    assert len(curve) == len(SNR_GRID_DB) and curve[-1] < 1.9
    assert curve[0] > curve[-1] and curve == losses_under_noise(module, task, examples, num_draws=4)
