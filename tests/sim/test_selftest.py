"""One virtual board as both ends of the link."""

import json

import pytest

from airnet_sdr.sim import selftest
from airnet_sdr.tests.command import run
from airnet_sdr.tests.pluto import becomes_muted, boards, needs_libiio

pytestmark = needs_libiio


@pytest.mark.parametrize("path, gain_db, nmse_db", [("digital", "40", -50), ("cable", "55", -28)])
def test_the_model_goes_round(model, tmp_path, path, gain_db, nmse_db):
    """Through the words: rounding alone. Through the radio, 10 dB below: 32 dB, its own crystal at both ends."""
    with boards(17) as (server,):
        options = ["--radio", f"pluto:{server.uri}", "--path", path, "--gain-db", gain_db, "--uep", "none"]
        report = tmp_path / "report.json"
        result = run(selftest.main, "--model", model, "--evaluate", "none", "--report", report, *options)
        assert (result.status, result.err) == (0, "")
        assert becomes_muted(server) and server.board.loopback == 0
    found = json.loads(report.read_text())
    assert found["frames"]["cycles"] <= 4  # two are asked for, a capture holds a little more
    assert found["frames"]["lost"] == 0 and found["weights"]["nmse_db"] < nmse_db
    assert abs(found["sync"]["cfo_hz"]) < 20 and abs(found["sync"]["sco_ppm"]) < 1


def test_other_radios_are_refused(model):
    result = run(selftest.main, "--model", model, "--radio", "zmq:tcp://127.0.0.1:5555")
    assert result.status == 1 and result.err.count("\n") == 1
