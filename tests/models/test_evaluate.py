"""Accuracy counts right answers and nothing else."""

import pytest
import torch
from torch import nn

from airnet_sdr.models.data import load
from airnet_sdr.models.evaluate import accuracy, logits
from airnet_sdr.models.task import top1


class Constant(nn.Module):
    def __init__(self, row):
        super().__init__()
        self.row = torch.tensor(row)

    def forward(self, images):
        return self.row.expand(len(images), -1)


def test_a_constant_answer_is_right_one_time_in_ten():
    assert accuracy(Constant([0.0] * 9 + [1.0]), "fashion-mnist") == pytest.approx(0.1)
    assert accuracy(Constant([0.0] * 9 + [float("nan")]), "fashion-mnist") == 0


def test_limit_takes_the_first_images():
    _, labels = load("fashion-mnist", "test")
    share = (labels[:50] == 9).double().mean().item()
    assert accuracy(Constant([0.0] * 9 + [1.0]), "fashion-mnist", limit=50) == pytest.approx(share)


def test_top1():
    assert top1(torch.eye(4), torch.tensor([0, 1, 0, 3])) == 0.75


def test_the_mode_of_the_module_is_left_as_it_was():
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.5))
    images = torch.ones(7, 1, 2, 2)
    assert torch.equal(logits(module, images, batch_size=3), torch.ones(7, 4)) and module.training
