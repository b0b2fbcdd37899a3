"""Short attacks on every parser and on the whole receiver; `python -m tests.fuzz` attacks for long."""

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airnet_sdr.dsp.errors import LinkError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, Header
from airnet_sdr.models.digital import compress
from airnet_sdr.models.manifest import Manifest
from airnet_sdr.tests.fuzz import seeds
from airnet_sdr.tests.fuzz.__main__ import main
from airnet_sdr.tests.fuzz.campaign import FuzzConfig, run
from airnet_sdr.tests.fuzz.link import attack, hostile_samples
from airnet_sdr.tests.fuzz.mutate import mutated, mutated_tree
from airnet_sdr.tests.fuzz.targets import TARGETS

pytestmark = pytest.mark.filterwarnings("error")
BY_NAME = {target.name: target for target in TARGETS}
quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)

headers = st.builds(
    Header, **{name: st.integers(offset, (1 << bits) - 1 + offset) for name, bits, offset in Header._LAYOUT}
)
plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
trees = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


@quick
@given(headers)
def test_headers_of_any_fields_are_read_back(header):
    assert Header.from_bytes(header.to_bytes()) == header
    BY_NAME["header"].outcome(header.to_bytes())
    if header.consistent(DEFAULT_FORMAT):
        assert header.layout[1:] == (header.num_symbols, header.num_chunk_steps)


@quick
@given(st.data())
def test_manifests_with_a_stretch_of_other_bytes(data):
    manifest = bytearray(data.draw(st.sampled_from(seeds.manifests())))
    place = data.draw(st.integers(0, len(manifest)))
    manifest[place : place + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=6))
    BY_NAME["manifest"].outcome(bytes(manifest))


@quick
@given(st.binary(max_size=200), st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_bodies_of_any_bytes_are_tensors_or_refused(data, numels):
    try:
        tensors = compress.decode(data, numels)
    except LinkError:
        return
    assert [tensor.levels.size for tensor in tensors] == numels


@quick
@given(st.sampled_from(["recording", "message", "address", "checkpoint"]), st.binary(max_size=80) | trees)
def test_files_and_messages_of_any_content(name, content):
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    BY_NAME[name].outcome(data)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_valid_inputs_are_accepted(target):
    """Otherwise hostile ones would all fail at the same place."""
    assert any(target.outcome(data)[0] for data in target.seeds())


@pytest.mark.parametrize("seed", range(12))
def test_hostile_samples_through_the_whole_receiver(seed):
    attack(seed)


def test_an_attack_follows_from_its_seed():
    np.testing.assert_array_equal(hostile_samples(random.Random(5)), hostile_samples(random.Random(5)))


def test_a_run_goes_on_where_it_stopped(tmp_path):
    config = FuzzConfig(out=str(tmp_path / "fuzz"), inputs=2000, attacks=3)
    once = run(config)
    twice = run(config)
    for name, counts in twice.items():
        assert counts["inputs"] == 2 * once[name]["inputs"] > 0, name
        assert counts["rounds"] == 2 and counts["findings"] == 0
    assert sum(counts["inputs"] for name, counts in twice.items() if name != "receiver") == pytest.approx(4000, abs=20)
    assert len(list((tmp_path / "fuzz" / "corpus" / "manifest").iterdir())) == twice["manifest"]["kinds"] > 2


def test_a_broken_promise_is_kept_and_told(tmp_path, monkeypatch, capsys):
    def broken(cls, data):
        if len(data) % 2:
            raise ZeroDivisionError("as a bug would")
        raise LinkError("refused")

    monkeypatch.setattr(Manifest, "from_bytes", classmethod(broken))
    assert main(["--out", str(tmp_path), "--inputs", "500", "--attacks", "0"]) == 1
    assert "findings" in capsys.readouterr().out
    kept = sorted((tmp_path / "findings" / "manifest").iterdir())
    assert kept and all("ZeroDivisionError" in path.read_text() for path in kept if path.suffix == ".txt")


def test_mutations_reach_every_byte_and_every_value():
    rng, data = random.Random(3), bytes(range(20))
    changed = [mutated(rng, data, [data[::-1]]) for _ in range(2000)]
    assert {len(each) for each in changed} >= set(range(0, 25))
    for place in range(20):
        assert any(len(each) > place and each[place] != data[place] for each in changed)
    tree = {"a": 1, "b": [1, {"c": 2}]}
    outcomes = [mutated_tree(rng, tree) for _ in range(300)]
    assert tree == {"a": 1, "b": [1, {"c": 2}]}
    assert any(isinstance(each, dict) and each.get("b") not in (tree["b"], None) for each in outcomes)
