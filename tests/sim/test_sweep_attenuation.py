"""The attenuation sweep on two virtual boards, and its arithmetic."""

import csv
import json
import signal

import numpy as np
import pytest

from airnet_sdr.dsp.theory import lmmse_nmse
from airnet_sdr.dsp.units import db, linear
from airnet_sdr.sim import sweep
from airnet_sdr.sim.experiments.library import board_sweep, steps
from airnet_sdr.tests.command import run
from airnet_sdr.tests.pluto import becomes_muted, boards, link_snr_db, needs_libiio


def sweep_over(servers, model, out, *options):
    addresses = ["--radio", f"pluto:{servers[0].uri}", "--rx-radio", f"pluto:{servers[-1].uri}"]
    result = run(sweep.main, *addresses, "--model", model, "--evaluate", "none", "--out", out, *options)
    return result, json.loads((out / "attenuation.json").read_text())


@needs_libiio
def test_30_db_of_attenuation_follow_theory(model, tmp_path):
    """The model's error within 1 dB of 1/(1 + S), and S itself within 1 dB of what the levels say, where the noise
    limits and not the converter."""
    levels = [0, 10, 20, 30]
    with boards(23, -21, loss_db=70) as servers:
        result, found = sweep_over(servers, model, tmp_path, "--attenuation-db", *levels, "--repeats", "2")
        assert result.status == 0 and becomes_muted(servers[0])
    assert found["complete"] and [step["attenuation_db"] for step in found["steps"]] == levels
    for step in found["steps"]:
        assert (step["received"], step["frames_lost"]) == (2, 0)
        assert abs(step["over_theory_db"]) < 1 and step["nmse_db_deviation"] < 0.5
        assert step["cfo_hz"] == pytest.approx(44e-6 * 2.4e9, abs=50)
        if step["short_db"] < 1:
            assert step["snr_db"] == pytest.approx(link_snr_db(-step["attenuation_db"], 70), abs=1)
    assert sum(step["short_db"] < 1 for step in found["steps"]) >= 3
    assert (
        "simulated" in found["boards"]["transmitter"]["device"] and "simulated" in found["boards"]["receiver"]["device"]
    )
    rows = list(csv.DictReader((tmp_path / "attenuation.csv").open()))
    assert len(rows) == len(found["trials"]) == 8 and float(rows[0]["snr_db"]) == found["trials"][0]["snr_db"]
    assert (tmp_path / "attenuation.png").read_bytes().startswith(b"\x89PNG")


@needs_libiio
def test_a_coarse_converter_limits_and_is_told_apart(model, tmp_path):
    """At a low gain the 12 bits' rounding is the noise: the error follows the measured SNR all the same."""
    with boards(0, loss_db=70) as servers:
        options = ["--gain-db", "8", "--attenuation-db", "0", "--repeats", "1"]
        _, found = sweep_over(servers, model, tmp_path, *options)
    (step,) = found["steps"]
    assert step["snr_db"] < link_snr_db(0, 70) - 6 and abs(step["over_theory_db"]) < 1


@needs_libiio
def test_what_does_not_arrive_is_a_row_and_the_sweep_goes_on(model, tmp_path):
    with boards(0, loss_db=70) as servers:
        options = ["--attenuation-db", "70", "20", "--repeats", "1", "--timeout-s", "2"]
        result, found = sweep_over(servers, model, tmp_path, *options)
    assert result.status == 0
    strong, weak = found["steps"]
    assert (strong["received"], weak["received"], weak["snr_db"], weak["nmse_db"]) == (1, 0, None, None)
    assert "no frame" in found["trials"][0]["error"]


@needs_libiio
def test_what_was_measured_before_it_was_stopped_is_written(model, tmp_path, monkeypatch):
    """Ctrl-C in the second trial."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background are started without
    receive_from, calls = board_sweep.receive_from, []

    def interrupted(*configs):
        calls.append(configs)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return receive_from(*configs)

    monkeypatch.setattr(board_sweep, "receive_from", interrupted)
    with boards(0, loss_db=70) as servers:
        result, found = sweep_over(servers, model, tmp_path, "--attenuation-db", "10", "20", "--repeats", "1")
        assert result.status == 130 and becomes_muted(servers[0])
    assert not found["complete"] and len(found["trials"]) == 1


@pytest.mark.parametrize("counts, copies, power_db", [([1, 1, 2], 1, 0.0), ([3, 0], 1, -6.0), ([2, 2], 3, 1.5)])
def test_theory_is_that_of_weights_received_so_often(counts, copies, power_db):
    layers = [{"numel": 10, "copies": copies, "power_db": power_db}, {"numel": 30, "copies": 1, "power_db": 0.0}]
    snr = linear(7.0)
    first = np.mean([1 / (1 + copies * n * snr * linear(power_db)) for n in counts])
    second = np.mean([1 / (1 + n * snr) for n in counts])
    assert steps.theory_nmse(layers, 7.0, counts) == pytest.approx((10 * first + 30 * second) / 40)


def test_steps_are_means_and_deviations_with_their_distance_from_theory():
    trials = [
        {"attenuation_db": a, "snr_db": snr, "nmse_db": -snr + 0.5, "theory_db": float(db(lmmse_nmse(linear(snr))))}
        for a, snr in ((0, 28.0), (0, 29.0), (10, 20.0), (10, 20.4))
    ] + [{"attenuation_db": 10, "error": "no frame"}]
    first, second = steps.summarise_steps(trials)
    assert (first["snr_db"], second["snr_db"], second["trials"], second["received"]) == (28.5, 20.2, 3, 2)
    assert second["snr_db_deviation"] == pytest.approx(0.4 / np.sqrt(2))
    assert first["short_db"] == pytest.approx(1.7) and second["short_db"] == 0
    assert second["over_theory_db"] == pytest.approx(-20.2 + 0.5 - np.mean([t["theory_db"] for t in trials[2:4]]))


@pytest.mark.parametrize("options", [
    ["--radio", "zmq:tcp://127.0.0.1:5555"], ["--radio", "pluto:ip:127.0.0.1:1", "--rx-radio", "file:x.sigmf-meta"],
    ["--radio", "pluto:ip:127.0.0.1:1", "--attenuation-db", "90"],
    ["--radio", "pluto:ip:127.0.0.1:1", "--attenuation-db", "-1"],
    ["--radio", "pluto:ip:127.0.0.1:1", "--repeats", "0"], ["--radio", "pluto:ip:127.0.0.1:1", "--color", "2"],
])  # fmt: skip
def test_bad_options_are_one_line(model, tmp_path, options):
    result = run(sweep.main, "--model", model, "--out", tmp_path, *options)
    assert result.status == 1 and result.err.count("\n") == 1 and not list(tmp_path.iterdir())
