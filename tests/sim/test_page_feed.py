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


FRAME = {name: ["<c8", [4]] for name in ("matched", "control", "h_hat")}
FRAME |= {"inv_noise_var": ["<f4", [4]], "control_inv_noise_var": ["<f4", [4]], "symbol": ["|u1", [4]]}
GUESSED = {name: ["|u1", [1]] for name in ("labels", "guesses", "confidence")}
JUDGED = GUESSED | {"pictures": ["|u1", [1, 1, 2, 2]]}


@pytest.mark.parametrize(("values", "arrays"), [({"kind": "display"}, FRAME), ({"kind": "result"}, JUDGED)])
def test_a_feed_of_fewest_values_is_shown(lab, values, arrays):
    assert lab.take(raw({"scheme": "analog", **values}, arrays)).name == "rx" and lab.num_refused == 0


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
    assert lab.num_refused == 1 and not lab.states


@pytest.mark.parametrize(
    "arrays",
    [
        {"samples": ["<c8", [1, 1]]},
        {"samples": ["<c8", [1, 1, 1, 1]]},
        {"samples": ["<c8", []]},
        {"samples": ["<c8", [8193]]},
        {"samples": ["<f4", [4]]},
        FRAME | {"h_hat": ["|u1", [70_000]]},
        FRAME | {"h_hat": ["<c8", [8193]]},
        FRAME | {"h_hat": ["<c8", [0]]},
        FRAME | {"symbol": ["<f4", [4]]},
        FRAME | {"symbol": ["|u1", [3]]},
        FRAME | {"matched": ["<c8", [5]]},
        JUDGED | {"pictures": ["|u1", [1, 1, 1, 70_000]]},
        JUDGED | {"pictures": ["|u1", [0, 1, 1, 70_000]]},
        JUDGED | {"pictures": ["|u1", [1, 0, 8192, 8192]]},
        JUDGED | {"pictures": ["|u1", [2, 1, 2, 2]]},
        JUDGED | {"pictures": ["<f4", [1, 1, 2, 2]]},
        JUDGED | {"labels": ["<f4", [1]]},
        JUDGED | {"confidence": ["|u1", [1, 1]]},
        GUESSED,
    ],
)
def test_arrays_that_are_not_as_designed_are_refused_and_change_nothing(lab, arrays):
    lab.take(raw({"kind": "display", "pid": 1, "heard": 1}))
    told = lab.states["rx"].summary(), lab.states["rx"].detail()
    kind = "result" if "labels" in arrays else "display"
    assert lab.take(raw({"kind": kind, "scheme": "analog", "pid": 2, "heard": 2}, arrays)) is None
    assert lab.num_refused == 1 and (lab.states["rx"].summary(), lab.states["rx"].detail()) == told


@pytest.mark.parametrize("number", [10**400, -(10**400), float("nan"), float("inf")])
def test_numbers_that_are_none_are_not_shown(lab, number):
    lab.take(raw({"kind": "display", "pid": number, "snr_db": number}))
    lab.take(raw({"kind": "result", "scheme": "analog", "accuracy": number, "report": {"metrics": {"x": number}}}))
    for state in lab.states.values():
        shown = state.summary()
        assert state.pid is shown["snr_db"] is shown["results"]["analog"]["accuracy"] is None
        assert shown["results"]["analog"]["metrics"] == {"x": None}


def test_text_that_is_none_is_not_shown(lab):
    deep = nested(800)
    lab.take(raw({"kind": "result", "scheme": "analog", "error": deep, "report": {"layers": [{"name": deep}]}}))
    assert lab.states["rx"].summary()["results"]["analog"]["error"] is None
    assert lab.states["rx"].detail()["schemes"]["analog"]["layers"][0]["name"] is None
