"""What strangers may send to a lab page's feed: it is refused, or shown as nothing, and the lab goes on."""

import json
import math

import numpy as np
import pytest

from airnet_sdr.rx.live_message import MAGIC
from airnet_sdr.sim.page.config import LabConfig
from airnet_sdr.sim.page.lab import Lab


@pytest.fixture
def lab(tmp_path):
    """A lab that only shows."""
    lab = Lab(LabConfig(feed="tcp://127.0.0.1:*", out=tmp_path))
    yield lab
    lab.close()


def raw(values, arrays=None):
    """A message as anybody may write it: arrays by name, as dtype and shape, all bytes zero."""
    arrays = arrays or {}
    header = json.dumps({"name": "rx", **values, "arrays": arrays}).encode()
    num_bytes = sum(np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in arrays.values())
    return MAGIC + len(header).to_bytes(4, "big") + header + bytes(num_bytes)


def nested(depth):
    """Lists in one another, as JSON text may have them."""
    return json.loads("[" * depth + "]" * depth)


@pytest.mark.parametrize("kind", ["display", "result"])
@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "a/b", ".", "", " a", "a" * 33, "a\n", "\ud800", 7, None, nested(900)]
)
def test_a_receiver_without_a_plain_name_is_refused(lab, kind, name):
    assert lab.take(raw({"kind": kind, "name": name, "scheme": "analog"})) is None
    assert lab.num_refused == 1 and not lab.states


@pytest.mark.parametrize("scheme", ["/a", "../a", "a/../../b", "", None, ["a"], nested(900)])
def test_a_scheme_without_a_plain_name_is_refused(lab, scheme):
    assert lab.take(raw({"kind": "result", "scheme": scheme})) is None
    assert lab.num_refused == 1
