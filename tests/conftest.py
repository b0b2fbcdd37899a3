"""Fixtures of every room, and what a machine must have for the marked tests."""

import os

import numpy as np
import pytest


@pytest.fixture
def rng():
    """A generator with a fixed seed, fresh for every test."""
    return np.random.default_rng(20210524)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained `fashion`, alone in its folder."""
    from airnet_sdr.tests.command import save_untrained  # here, as tests without networks need no torch

    return save_untrained(tmp_path_factory.mktemp("model") / "net.safetensors")


@pytest.fixture(scope="module")
def recording(model):
    """What the sender writes of it."""
    from airnet_sdr.tests.command import run
    from airnet_sdr.tx import send

    path = model.with_name("sent.sigmf-meta")
    result = run(send.main, "--model", model, "--radio", f"file:{path}")
    assert (result.status, result.err) == (0, "")
    return path


def pytest_collection_modifyitems(items):
    """Hardware and GPU tests skip with a reason where there is none."""
    for item in items:
        if item.get_closest_marker("hardware") and not os.environ.get("AIRNET_PLUTO"):
            item.add_marker(pytest.mark.skip(reason="no radio: AIRNET_PLUTO names none"))
        if item.get_closest_marker("gpu") and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def _has_gpu():
    import torch

    return torch.cuda.is_available()
