"""The other compressor, where it is installed; and what is said where it is not."""

import sys

import numpy as np
import pytest
import torch

from airnet_sdr.models.checkpoint import Checkpoint, save
from airnet_sdr.models.digital import nnc
from airnet_sdr.models.digital.quantise import quantise, step_code
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import tensors_of
from airnet_sdr.tests.command import assert_refused, run

WIDTHS = (8, 8, 8, 8, 8)


@pytest.fixture
def network(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        checkpoint = Checkpoint("fashion", "fashion-mnist", 0.1, tensors_of(build("fashion", WIDTHS)), {}, WIDTHS)
    save(tmp_path / "net.safetensors", checkpoint)
    return tmp_path / "net.safetensors"


def test_without_it_it_is_said_what_to_install(network, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncodec", None)
    monkeypatch.setitem(sys.modules, "nncodec.nnc", None)
    assert_refused(run(nnc.main, "--model", network), 1, "pip install --no-deps nncodec")


def test_it_gives_levels_back_and_the_table_has_both(network):
    pytest.importorskip("nncodec", reason="nncodec is no dependency")
    tensors = [quantise(np.random.default_rng(1).standard_normal((20, 30, 3, 3)).astype(np.float32), step_code(0.5))]
    entropy = 20 * 30 * 9 * 3.05  # of a Gaussian in steps of half its deviation, bits
    assert 0.9 * entropy < nnc.levels_to_bits(tensors, ["a"], [(20, 30, 3, 3)]) < 1.1 * entropy
    result = run(nnc.main, "--model", network, "--images", "20")
    assert result.status == 0 and result.out.count("quantised afterwards") == len(nnc.QPS)
