"""Comparing reports: what differs in the table, and all of them in the picture."""

import copy
import json

import pytest
from matplotlib.figure import Figure

from airnet_sdr.rx import compare
from airnet_sdr.sim import loopback
from airnet_sdr.tests.command import assert_refused, run


@pytest.fixture(scope="module")
def reports(model, tmp_path_factory):
    """The paths of two reports, of 5 and 15 dB."""
    folder = tmp_path_factory.mktemp("reports")
    paths = [folder / f"{snr_db}dB.json" for snr_db in (5, 15)]
    for path, snr_db in zip(paths, (5, 15), strict=True):
        options = ["--snr-db", snr_db, "--evaluate", "none", "--report", path]
        assert run(loopback.main, "--model", model, *options).status == 0
    return paths


def test_a_report_names_its_run(reports, model):
    made = json.loads(reports[0].read_text())["run"]
    assert made["command"].startswith(f"python sim/loopback.py --model {model} --snr-db 5")
    assert (made["seed"], made["channel"], made["plan_snr_db"]) == (0, {"snr_db": 5.0}, 5.0)
    assert made["options"]["model"] == str(model) and made["options"]["evaluate"] == "none"


def test_the_table_has_what_differs_and_nothing_else(reports):
    result = run(compare.main, *reports)
    assert (result.status, result.err) == (0, "")
    for word in ("5dB", "15dB", "weights.nmse_db", "run.channel.snr_db", "sync.snr_db", "accuracy_sent"):
        assert word in result.out
    for word in ("frames.expected", "run.options.model", "timing", "run.date", "versions"):
        assert word not in result.out
    same = run(compare.main, reports[0], reports[0])
    assert "weights.nmse_db" in same.out and "snr_db" not in same.out


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_the_picture(reports, tmp_path, suffix):
    assert run(compare.main, *reports, "--picture", tmp_path / f"p.{suffix}").status == 0
    assert (tmp_path / f"p.{suffix}").stat().st_size > 5000


def test_metrics_are_compared_by_the_first(reports):
    first = json.loads(reports[0].read_text())
    second = copy.deepcopy(first)
    first |= {"metrics": {"rmse": 0.2, "mae": 0.1}, "metrics_sent": {"rmse": 0.19, "mae": 0.09}}
    assert compare.scores_of([first, second]) == ("rmse", [(0.19, 0.2), (None, None)])
    assert compare.differences([first, second])["metrics.mae"] == [0.1, None]


def test_a_report_without_the_headline_is_told_from_one_that_was_not_evaluated(reports):
    plain = json.loads(reports[0].read_text())
    several = [plain | {"metrics": {"rmse": 0.2}}, plain | {"accuracy": 0.9}, plain | {"metrics": {"mae": 1.0}}, plain]
    axes = Figure().subplots()
    compare._draw_scores(axes, several, ["a", "b", "c", "d"])
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert shown == ["a: 0.2", "b: has no rmse", "c: has no rmse", "d: not evaluated"]


def test_names_that_tell_files_apart():
    assert compare.labels_of(["a/r.json", "b/r.json"]) == ["a/r", "b/r"]
    assert compare.labels_of(["a/r.json", "b/s.json"]) == ["r", "s"]


@pytest.mark.parametrize(
    "content, word",
    [(b"", "not JSON"), (b"{", "not JSON"), (b"[" * 100_000, "not JSON"), (b"[]", "no receiver's report"),
     (b'{"model": "m", "weights": {}, "sync": {}, "schema": 1, "layers": [3]}', "layer")],
)  # fmt: skip
def test_what_is_no_report_is_refused(reports, tmp_path, content, word):
    (tmp_path / "r.json").write_bytes(content)
    assert_refused(run(compare.main, reports[0], tmp_path / "r.json"), 1, word, "r.json")


def test_a_report_is_not_overwritten_by_its_picture(reports, tmp_path):
    assert_refused(run(compare.main, *reports, "--picture", reports[0]), 1, "name another output")
    assert_refused(run(compare.main, *reports, "--picture", tmp_path / "p.gif"), 1, ".png, .pdf or .svg")
    assert_refused(run(compare.main, reports[0]), 1, "2 to 12")
    assert_refused(run(compare.main, reports[0], tmp_path / "missing.json"), 1, "missing.json", "No such file")
