"""Workers on a cluster: program and files travel by content, and what is wrong with one is said in one line."""

import subprocess
import sys
from pathlib import Path

import pytest

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.workers import Workers, _pack
from airnet_sdr.models.checkpoint import load
from airnet_sdr.models.data import load as load_data
from airnet_sdr.models.shipped import SHIPPED
from airnet_sdr.sim.experiments.library.place import Place
from airnet_sdr.tests.cluster import MISSING, two_nodes
from airnet_sdr.tests.command import ROOT, save_few_images

pytestmark = [pytest.mark.skipif(MISSING is not None, reason=str(MISSING)), pytest.mark.alone]
WHERE = """
import sys
sys.path[0] = sys.argv[1]
from pathlib import Path
from airnet_sdr.dsp.host.workers import Workers

def where(_):
    import time
    import ray
    import airnet_sdr.dsp.units as units
    time.sleep(1)
    return ray.get_runtime_context().get_node_id(), units.__file__, Path("folder/a.txt").read_text()

with Workers(2, sys.argv[2], {"folder": Path(sys.argv[3])}) as workers:
    for _, found in workers.map(where, [(k,) for k in range(8)]):
        print(*found)
"""


@pytest.mark.slow
def test_program_and_files_travel_to_both_nodes(tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    (here / "a.txt").write_text("content")
    with two_nodes(tmp_path) as address:
        command = [sys.executable, "-c", WHERE, str(ROOT / "src"), address, str(here)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=here)
        rows = [line.split() for line in result.stdout.splitlines()]
        assert len(rows) == 8 and len({node for node, _, _ in rows}) == 2, result
        assert {content for _, _, content in rows} == {"content"}
        assert not any(str(ROOT) in file or not file.endswith("units.py") for _, file, _ in rows), rows
        with (
            pytest.MonkeyPatch.context() as patch,
            pytest.raises(InputError, match="no Ray at .*Failed to connect.*token"),
        ):
            patch.setenv("RAY_AUTH_TOKEN", "0" * 64)
            Workers(1, address)


def test_a_cluster_that_is_not_there_is_one_line():
    with pytest.raises(InputError, match=r"no Ray at 127.0.0.1:9 \(.*refused\); start one: ray start --head"):
        Workers(1, "127.0.0.1:9")


def test_what_is_packed_is_enough_elsewhere(tmp_path, monkeypatch):
    """Networks, sensitivity, data and one's own code by relative paths, the same there."""
    save_few_images(tmp_path / "data", 30)
    code = tmp_path / "code"
    code.mkdir()
    (code / "mine.py").write_text("import neighbour\nmine = neighbour.make\n")
    (code / "neighbour.py").write_text("from torch import nn\ndef make():\n    return nn.Linear(2, 3)\n")
    place = Place(SHIPPED["fashion"], str(tmp_path / "data"), 7, f"{code / 'mine.py'}:mine")
    files, there = place.packed(["fashion"])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    _pack(elsewhere, files)
    monkeypatch.chdir(elsewhere)
    monkeypatch.delenv("AIRNET_DATA", raising=False)
    assert not there.networks.is_absolute() and (there.data_dir, there.images) == ("data", 7)
    assert load(there.networks).tensors.keys() == load(place.networks).tensors.keys()
    assert there.networks.with_name("sensitivity.json").is_file()
    for split in ("train", "test"):
        images, _ = load_data("fashion-mnist", split, there.data_dir)
        assert images.equal(load_data("fashion-mnist", split, place.data_dir)[0]) and len(images) == 30
    assert there.architecture == "architecture/mine.py:mine"
    assert {path.name for path in (elsewhere / "architecture").iterdir()} >= {"mine.py", "neighbour.py"}
    program = "import airnet_sdr.sim.experiments.grid.sweep as sweep; print(sweep.__file__)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=elsewhere, timeout=120)
    assert Path(run.stdout.strip()) == elsewhere / "airnet_sdr" / "sim" / "experiments" / "grid" / "sweep.py", run
