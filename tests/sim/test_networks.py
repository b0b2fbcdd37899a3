"""Networks of every kind and family arrive as they were sent, over a perfect recording."""

import importlib.util
import json

import pytest

from airnet_sdr.models.examples import families
from airnet_sdr.sim.experiments import brought, networks
from airnet_sdr.sim.experiments.library import panels
from airnet_sdr.sim.experiments.library.store import read
from airnet_sdr.sim.experiments.networks import ENTRIES, KINDS, TIMM, TORCHVISION
from airnet_sdr.tests.command import ROOT

SMALL = {"modulation", *KINDS, "timm_test_resnet", "timm_test_vit"}


def needed(name: str) -> str | None:
    """The package that a network needs, beside those of the set-up."""
    return {"timm": "timm", "torchvision": "torchvision", "crepe": "torchcrepe"}.get(name.partition("_")[0])


@pytest.mark.parametrize(
    "entry",
    [pytest.param(e, marks=() if e.name in SMALL else pytest.mark.slow, id=e.name) for e in ENTRIES],
)
def test_a_network_arrives_as_it_was_sent(entry):
    package = needed(entry.name)
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}")
    row = networks.measure(entry)
    assert networks.holds(row), row
    assert row.get("same_answers", 1) >= 0.98, row  # of a network of random weights one in 50 may be near a tie


def test_the_table_has_every_network_that_there_is():
    assert set(TIMM) == set(families.TIMM) and set(TORCHVISION) == set(families.TORCHVISION)


def test_the_document_has_the_stored_table():
    rows = json.loads((ROOT / "sim" / "results" / "networks.json").read_text())["rows"]
    assert networks.table(rows) in (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    assert {row["network"] for row in rows} <= {entry.name for entry in ENTRIES}
    assert all(networks.holds(row) for row in rows)


def test_the_document_has_the_stored_table_of_a_network_that_was_trained_on():
    rows = json.loads((ROOT / "sim" / "results" / "brought-trained.json").read_text())["rows"]
    assert "\n".join(brought.table(rows)) in (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "sim" / "results").glob("example-*.parquet")), ids=lambda path: path.stem
)
def test_the_document_has_the_tables_of_the_examples(path):
    document = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    (panel,) = panels.known(read(path), path.stem.removeprefix("example-")).values()
    assert all(line in document for line in panel.table())
