"""The tables of docs/results.md are those that the stored results give."""

import json
import re

import numpy as np
import pytest

from airnet_sdr.tests.command import ROOT

RESULTS = ROOT / "sim" / "results"
DATA_SETS = {"fashion": "Fashion-MNIST", "cifar": "CIFAR-10 (JPEG)"}


def section(*headings: str) -> str:
    """The text of docs/results.md below the last heading, each looked for below the one before."""
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for heading in headings:
        level = heading.count("#")
        _, found, text = text.partition(f"\n{heading}\n")
        assert found, heading
        text = re.split(rf"^#{{1,{level}}} ", text, flags=re.M)[0]
    return text


def stored(name: str) -> list[dict]:
    """The rows of a table's runs."""
    return json.loads((RESULTS / f"{name}.json").read_text())["rows"]


def markdown(rows: list[dict], cell) -> str:
    """A line for each method, a column for each SNR; ``cell`` writes the runs of one of them."""
    levels = sorted({row["snr_db"] for row in rows})
    lines = ["| dB | " + " | ".join(f"{snr_db:g}" for snr_db in levels) + " |", "|---" * (len(levels) + 1) + "|"]
    for method in dict.fromkeys(row["method"] for row in rows):
        runs = [[row for row in rows if (row["method"], row["snr_db"]) == (method, snr_db)] for snr_db in levels]
        lines.append(f"| {method} | " + " | ".join(map(cell, runs)) + " |")
    return "\n".join(lines)


def accuracy(runs: list[dict]) -> str:
    """Mean ± deviation in percent."""
    values = [row["accuracy"] for row in runs]
    return f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f}"


def apart(runs: list[dict]) -> str:
    """The whole link less equivalent noise, points ± standard error."""
    values = [100 * (row["accuracy_link"] - row["accuracy"]) for row in runs]
    return f"{np.mean(values):+.2f} ± {np.std(values, ddof=1) / np.sqrt(len(values)):.2f}"


@pytest.mark.parametrize("arch", DATA_SETS)
def test_methods(arch):
    text = section("## What each method adds", f"### {DATA_SETS[arch]}")
    assert markdown(stored(f"methods-{arch}"), accuracy) in text


def test_whole_link():
    text = section("## What each method adds", "### Fashion-MNIST")
    assert markdown(stored("methods-link-fashion"), apart) in text


def test_protection():
    assert markdown(stored("protection-fashion"), accuracy) in section("## Ways to divide a budget")


@pytest.mark.parametrize("arch", DATA_SETS)
def test_analog_against_digital(arch):
    store = pytest.importorskip("airnet_sdr.sim.experiments.library.store", reason="trials are Parquet")
    from airnet_sdr.sim.experiments.library import panels

    rows = store.read(RESULTS / f"sweep-{arch}.parquet")
    text = section("## Analog against digital", f"### {DATA_SETS[arch]}, SNR known")
    for budget, curves in panels.known(rows, arch).items():
        assert f"Payload {budget}:\n\n" + "\n".join(curves.table()) in text
    text = section("## Analog against digital", f"### {DATA_SETS[arch]}, SNR other than planned")
    for curves in panels.mismatch(rows, arch).values():
        assert "\n".join(curves.table()) in text


def test_a_second_architecture():
    store = pytest.importorskip("airnet_sdr.sim.experiments.library.store", reason="trials are Parquet")
    from airnet_sdr.sim.experiments.library import panels

    rows = store.read(RESULTS / "sweep-cifar-resnet20.parquet")
    (curves,) = panels.known(rows, "cifar-resnet20").values()
    assert "\n".join(curves.table()) in section("## Analog against digital", "### ResNet-20 on CIFAR-10 (JPEG)")


def test_one_transmission_for_every_receiver():
    from airnet_sdr.sim.experiments.broadcast import link, tables

    rows, floored = (json.loads((RESULTS / f"{name}.json").read_text()) for name in ("broadcast", "broadcast-floor"))
    text = section("## One transmission for every receiver")
    for dataset in ("fashion-mnist", "cifar10-jpeg"):
        assert "\n".join(tables.table(rows, dataset)) in text
    apart, known = (json.loads((RESULTS / f"broadcast-{name}.json").read_text()) for name in ("feedback", "known"))
    assert not {row["entrant"] for row in apart} & {row["entrant"] for row in rows}
    for dataset in ("fashion-mnist", "cifar10-jpeg"):
        assert "\n".join(tables.table(apart, dataset)) in text
        assert "\n".join(tables.known_table(known, dataset)) in text
    for found in (rows, floored):
        assert "\n".join(tables.lead_table(found)) in text
        for dataset, law in {(row["dataset"], row["law"]) for row in found}:
            kinds = [row["analog"] for row in found if (row["dataset"], row["law"]) == (dataset, law)]
            assert sum(kinds) >= 3 and kinds.count(False) >= 4
    assert "\n".join(link.table(json.loads((RESULTS / "broadcast-link.json").read_text()))) in text
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert tables.headline(rows, floored) in readme
