"""The demonstration: three processes, one report, one picture."""

import json

import pytest

from airnet_sdr.sim import demo
from airnet_sdr.tests.command import finish, run, save_few_images, save_untrained, start
from airnet_sdr.tests.flowgraph import needs_gnuradio

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_untrained(tmp_path_factory.mktemp("model") / "net.safetensors", accuracy=0.125)


@pytest.mark.parametrize("air", ["python", pytest.param("gnuradio", marks=[needs_gnuradio, pytest.mark.slow])])
def test_the_demo_leaves_a_report_and_a_picture(model, tmp_path, air):
    """The air of the demo: 15 dB over both echoes, 40 kHz and the clock offset that goes with it at 2.4 GHz."""
    data = save_few_images(tmp_path / "few", 300)
    result = finish(start("sim/demo.py", "--model", model, "--air", air, "--out", tmp_path / "out", data=data))
    assert (result.status, result.err) == (0, "")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["frames"]["lost"] == 0
    assert 0 <= report["accuracy"] <= 1
    assert report["accuracy_sent"] == pytest.approx(0.125, abs=1e-4)
    assert f"{100 * report['accuracy']:.2f} %, 12.50 % as sent" in result.out
    assert report["sync"]["snr_db"] == pytest.approx(15, abs=0.5)
    assert report["sync"]["cfo_hz"] == pytest.approx(40e3, abs=5)
    assert report["sync"]["sco_ppm"] == pytest.approx(40e3 / 2400, abs=0.5)
    assert (tmp_path / "out" / "report.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.json", "report.png"]


def test_a_process_that_fails_ends_the_demo_and_old_reports_go(tmp_path):
    (tmp_path / "report.json").write_text("old")
    result = finish(start("sim/demo.py", "--model", "nosuch", "--out", tmp_path))
    assert result.status == 1
    assert "Traceback" not in result.err
    assert result.err.splitlines()[-1].startswith("demo: the receiver or the sender ended with 1")
    assert not list(tmp_path.iterdir())


def test_an_air_that_fails_ends_the_demo(model, tmp_path, monkeypatch):
    monkeypatch.setitem(demo.AIRS, "python", ("tx/send.py", False))  # which has other options
    result = run(demo.main, "--model", model, "--out", tmp_path)
    assert result.status == 1
    assert result.err.startswith("demo: the air ended with 1")


def test_patience_has_an_end(model, tmp_path):
    result = run(demo.main, "--model", model, "--out", tmp_path, "--timeout-s", "0.1")
    assert result.status == 1
    assert result.err.startswith("demo: not finished after 0.1 s")


@pytest.mark.slow
def test_the_shipped_model_arrives_as_it_was_sent(tmp_path):
    """All 10,000 images: the accuracy is within half a point of the accuracy sent."""
    result = finish(start("sim/demo.py", "--out", tmp_path))
    assert (result.status, result.err) == (0, "")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["accuracy"] == pytest.approx(report["accuracy_sent"], abs=0.005)
