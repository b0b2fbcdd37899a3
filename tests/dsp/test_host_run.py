import json
import math
import re
import subprocess
from pathlib import Path

import pytest

from airnet_sdr.dsp.host import run
from airnet_sdr.dsp.radio.config import RadioConfig


def test_a_record_is_json_and_says_when_and_with_what():
    options = {"timeout_s": math.inf, "path": Path("a/b"), "echoes": ((1.0, -3.0),), "none": None}
    record = run.Run("python x.py", options, 3, {"snr_db": 5.0}, 10.0).record()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["options"] == {"timeout_s": "inf", "path": "a/b", "echoes": [[1.0, -3.0]], "none": None}
    assert (record["seed"], record["channel"], record["plan_snr_db"]) == (3, {"snr_db": 5.0}, 10.0)
    assert {"python", "torch", "airnet-sdr"} <= record["versions"].keys()
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT[\d:]{8}\+00:00", record["date"])


def test_a_command_line_runs_in_a_shell():
    assert run.command_line("rx/receive.py", ["--data", Path("my data")]) == "python rx/receive.py --data 'my data'"


def test_options_of_configs_by_name():
    assert run.options_of(RadioConfig(rate_hz=1e6))["rate_hz"] == 1e6


def git(folder, *words):
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", folder, *who, *words], check=True, capture_output=True)


def test_the_commit_is_that_of_the_checkout_alone(tmp_path, monkeypatch):
    pytest.importorskip("shutil").which("git") or pytest.skip("no git")
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("1")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-qm", "one")
    monkeypatch.setattr(run, "ROOT", tmp_path)
    run.commit.cache_clear()
    clean = run.commit()
    assert re.fullmatch(r"[0-9a-f]{40}", clean)
    (tmp_path / "file").write_text("2")
    run.commit.cache_clear()
    assert run.commit() == f"{clean}-dirty"
    (tmp_path / "below").mkdir()
    monkeypatch.setattr(run, "ROOT", tmp_path / "below")  # installed inside of a user's repository
    run.commit.cache_clear()
    assert run.commit() is None
