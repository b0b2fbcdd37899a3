"""The whole link in one process: what it reports, and what it refuses."""

import json

import numpy as np
import pytest
import torch

from airnet_sdr.dsp.units import db
from airnet_sdr.models.checkpoint import Checkpoint, load, save
from airnet_sdr.models.ensemble import SNR_GRID_DB, Member, extract, from_metadata, to_metadata
from airnet_sdr.models.nets import FASHION_WIDTHS, build
from airnet_sdr.models.packing import tensors_of
from airnet_sdr.sim import loopback
from airnet_sdr.tests.command import assert_refused, run, save_few_images

WIDTHS = (7, 9, 11, 13, 15)


def looped(model, folder, *options):
    result = run(loopback.main, "--model", model, "--evaluate", "none", "--report", folder / "report.json", *options)
    assert (result.status, result.err) == (0, "")
    return json.loads((folder / "report.json").read_text())


def test_one_seed_one_result(model, tmp_path):
    options = ["--preset", "hostile", "--seed"]
    first, again, other = (looped(model, tmp_path, *options, seed) for seed in (3, 3, 4))
    for report in (first, again, other):
        assert report["timing"].pop("samples") > 0
        del report["timing"], report["run"]["date"]
    assert first == again
    assert first != other


def test_cycles_are_combined(model, tmp_path):
    one, four = (looped(model, tmp_path, "--snr-db", "0", "--cycles", cycles) for cycles in (1, 4))
    assert (one["frames"]["cycles"], four["frames"]["cycles"]) == (1, 4)
    assert one["channel_uses"] == four["channel_uses"]  # those of a cycle
    assert four["weights"]["nmse_db"] == pytest.approx(one["weights"]["nmse_db"] - 3.98, abs=0.5)  # (1+1)/(1+4)


def test_the_data_set_of_the_manifest_is_the_default(model, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRNET_DATA", str(save_few_images(tmp_path / "few", 200)))
    result = run(loopback.main, "--model", model, "--report", tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert result.status == 0 and 0 <= report["accuracy"] <= 1
    assert 200 * report["accuracy"] == pytest.approx(round(200 * report["accuracy"]))


def test_the_receiver_learns_the_widths_in_band(tmp_path):
    torch.manual_seed(1)
    sent = Checkpoint("fashion", "fashion-mnist", 0.1, tensors_of(build("fashion", WIDTHS)), widths=WIDTHS)
    save(tmp_path / "narrow.safetensors", sent)
    report = looped(tmp_path / "narrow.safetensors", tmp_path, "--snr-db", "30", "--save", tmp_path / "got.safetensors")
    got = load(tmp_path / "got.safetensors")
    assert tuple(report["widths"]) == got.widths == WIDTHS
    assert report["weights"]["nmse_db"] < -25
    result = run(loopback.main, "--model", tmp_path / "narrow.safetensors", "--truth", "fashion", "--evaluate", "none")
    assert result.status == 1 and "widths 7, 9, 11, 13, 15" in result.err


@pytest.fixture(scope="module")
def nested(tmp_path_factory):
    """Random weights that claim to be two networks, one within the other: the narrow one is better below 10 dB."""
    full, steady = np.where(np.array(SNR_GRID_DB) < 10, 0.2, 0.93), np.full(len(SNR_GRID_DB), 0.88)
    members = [
        Member(FASHION_WIDTHS, 0.93, tuple((1 - full).tolist())),
        Member(WIDTHS, 0.89, tuple((1 - steady).tolist())),
    ]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        tensors = tensors_of(build("fashion"))
    path = tmp_path_factory.mktemp("nested") / "net.safetensors"
    save(path, Checkpoint("fashion", "fashion-mnist", 0.93, tensors, to_metadata(members)))
    return path


@pytest.mark.parametrize(
    "snr_db, widths, scheme",
    [
        (0, WIDTHS, "analog"),
        (25, FASHION_WIDTHS, "analog"),
        (0, WIDTHS, "digital"),
        pytest.param(25, FASHION_WIDTHS, "digital", marks=pytest.mark.slow),
    ],
)
def test_the_truth_of_nested_networks_is_the_one_that_was_sent(nested, tmp_path, snr_db, widths, scheme):
    """Once without protection the error is that of the noise; compressed it is the quantiser's, the same either way."""
    if scheme == "digital":
        pytest.importorskip("sionna", reason="the digital scheme needs sionna-no-rt")
    options = ["--snr-db", snr_db + 2, "--plan-snr-db", snr_db, "--scheme", scheme, "--payload-uses", 160_000]
    report = looped(nested, tmp_path, *options, "--save", tmp_path / "got.safetensors", "--uep", "none")
    member = next(each for each in from_metadata(load(nested).metadata, "fashion") if each.widths == widths)
    sent, got = extract(load(nested), member), load(tmp_path / "got.safetensors")
    assert tuple(report["widths"]) == got.widths == widths and report["accuracy_sent"] == pytest.approx(
        member.accuracy, abs=1e-4
    )
    assert [layer["numel"] for layer in report["layers"]] == [tensor.size for tensor in sent.tensors.values()]
    errors = [
        (w.size * np.mean((got.tensors[name] - w) ** 2) / np.var(w), w.size)
        for name, w in sent.tensors.items()
        if np.var(w)
    ]
    assert report["weights"]["nmse_db"] == pytest.approx(db(np.divide(*np.sum(errors, axis=0))), abs=0.01)
    assert report["weights"]["nmse_db"] < -2
    explicit = looped(nested, tmp_path, *options, "--uep", "none", "--truth", nested)
    assert explicit["weights"] == report["weights"] and explicit["layers"] == report["layers"]


@pytest.mark.parametrize("snr_db", [0, 12])
def test_a_digital_model_arrives_exactly_as_it_was_sent(tmp_path, snr_db):
    """What is saved is the same whatever the noise, as long as it is less than planned for."""
    saved = []
    for seed, above_db in ((1, 0), (2, 5)):
        options = ["--scheme", "digital", "--snr-db", snr_db + above_db, "--plan-snr-db", snr_db, "--seed", seed]
        path = tmp_path / f"{seed}.safetensors"
        report = looped("fashion", tmp_path, *options, "--payload-uses", "20000", "--save", path)
        assert report["scheme"] == "digital" and report["channel_uses"]["payload"] == 20_000
        assert report["weights"]["snr_db"] is None and report["weights"]["nmse_db"] < 0
        saved.append(load(path).tensors)
    assert all(np.array_equal(saved[0][name], saved[1][name]) for name in saved[0])


def test_a_digital_model_below_its_cliff_is_nothing(tmp_path):
    options = ["--scheme", "digital", "--snr-db", "7", "--plan-snr-db", "10", "--payload-uses", "20000"]
    result = run(loopback.main, "--model", "fashion", "--evaluate", "none", "--report", tmp_path / "r.json", *options)
    assert result.status == 2 and "code blocks" in result.err and not (tmp_path / "r.json").exists()


@pytest.mark.parametrize(
    "options, word",
    [
        (["--preset", "moon"], "moon"),
        (["--snr-db", "loud"], "loud"),
        (["--snr-db", "70"], "--snr-db"),  # no plan is made for that
        (["--echo", "1:2:3:4"], "DELAY"),
        (["--echo", "1:-3", "--tdl", "tdl-a"], "tdl"),
        (["--bits", "1.5"], "bits"),
        (["--sco-ppm", "20000"], "--sco-ppm"),
        (["--rate-hz", "0"], "rate"),
        (["--freq-hz", "nan"], "nan"),
        (["--evaluate", "nothing"], "nothing"),
        (["--truth", "nosuch"], "nosuch"),
        (["--cycles", "-1"], "--cycles"),
        (["--cycles", "0"], "--cycles must be a whole number of at least 1; got 0"),
        (["--tone", "2.5e6:0"], "--tone must be within half the rate, ±1.25e+06 Hz; got 2.5e+06"),
        (["--cfo-hz", "5e6"], "--cfo-hz must be within half the rate"),
        (["--background-snr-db", "5"], "--background-snr-db has no effect without --background"),
        (["--data", "nowhere"], "--data is a folder; got 'nowhere'"),
        (["--data", "nowhere", "--estimator", "magic"], "magic"),
    ],
)
def test_options_that_make_no_sense(model, tmp_path, options, word):
    result = run(loopback.main, "--model", model, "--report", tmp_path / "report.json", *options)
    assert_refused(result, 1, word)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options, word",
    [
        (["--snr-db", "-25"], "no frame"),
        (
            ["--snr-db", "-3", "--cut-stop-samples", "17296"],
            "1 of 9 frames",
        ),  # half of it, and so a part of the manifest
    ],
)
def test_nothing_decodable_is_exit_status_2(model, tmp_path, options, word):
    result = run(loopback.main, "--model", model, "--report", tmp_path / "report.json", *options)
    assert_refused(result, 2, word)
    assert not list(tmp_path.iterdir())
