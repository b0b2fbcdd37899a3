"""What the tests of the documents share: the commands and Python in them, and the ways in which they are run."""

import contextlib
import io
import os
import re
import runpy
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from airnet_sdr.models.cifar import CLASSES
from airnet_sdr.sim.demo import free_ports
from airnet_sdr.tests.command import PATIENCE_S, ROOT, environment, finish, start
from airnet_sdr.tests.flowgraph import MISSING as NO_GNURADIO
from airnet_sdr.tests.pluto import MISSING as NO_LIBIIO

DOCUMENTS = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
SHORT_SWEEP = ["--attenuation-db", "0", "20", "--repeats", "2"]


def blocks(document: str, language: str) -> list[str]:
    """The contents of a document's code blocks of one language."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def command_lines(document: str) -> list[str]:
    """The command lines of a document, in order."""
    return [line for block in blocks(document, "sh") for line in block.splitlines() if line.strip()]


def arguments(line: str) -> list[str]:
    """What comes after `python` on a command line."""
    python, *rest = shlex.split(line)
    assert python == "python"
    return rest


def save_few_pictures(folder: Path, num: int) -> None:
    """Random pictures as a data set in place of CIFAR-10 (JPEG), ``num`` of each class and split."""
    rng = np.random.default_rng(1)
    for split in ("train", "test"):
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True)
            for i in range(num):
                content = io.BytesIO()
                Image.fromarray(rng.integers(256, size=(32, 32, 3), dtype=np.uint8)).save(content, "JPEG")
                (folder / split / name / f"{i}.jpg").write_bytes(content.getvalue())


def make(tree, lines):
    """As printed, where make has set this machine up."""
    if shutil.which("make") is None or subprocess.call(["make", "-q", ".venv/.ready"], cwd=ROOT):
        pytest.skip("no make here, or this environment is not the one it sets up")
    for line in lines:
        subprocess.run(shlex.split(line), cwd=tree, env=environment(tree / "few"), check=True, timeout=PATIENCE_S)


def with_gnuradio(how):
    """The same on a machine that has GNU Radio."""

    def run(tree, lines):
        if NO_GNURADIO is not None:
            pytest.skip(NO_GNURADIO)
        how(tree, lines)

    return run


def one_by_one(tree, lines, more=(), data="few"):
    """As printed but for the name of the Python; ``more`` options and few images make it short."""
    for line in lines:
        result = finish(start(*arguments(line), *more, cwd=tree, data=tree / data))
        assert (result.status, result.err) == (0, ""), result


def shortened(*more, data="few"):
    """`one_by_one` with these options added."""
    return lambda tree, lines: one_by_one(tree, lines, more, data)


def in_this_process(*more, data="few"):
    """By their paths, with these options added, where torch is imported already: for experiments, which are many."""

    def run(tree, lines):
        for line in lines:
            file, *options = arguments(line)
            with contextlib.ExitStack() as stack:
                stack.enter_context(contextlib.chdir(tree))
                stack.enter_context(mock.patch.dict(os.environ, {"AIRNET_DATA": str(tree / data)}))
                stack.enter_context(mock.patch.object(sys, "argv", [file, *options, *more]))
                stack.enter_context(mock.patch.object(sys, "path", sys.path.copy()))
                stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
                with pytest.raises(SystemExit) as stop:
                    runpy.run_path(file, run_name="__main__")
            assert stop.value.code == 0

    return run


def few_trials(tree, lines):
    """The sweep, of one scheme and one cell for each question, then its figures."""
    sweep, figures = lines
    grid = ["--arch", "fashion", "--training-seeds", "1", "--snr-db", "0", "--budgets", "4", "--plan-snr-db", "10"]
    grid += ["--met-snr-db", "8", "--fading-snr-db", "10", "--link-seeds", "1", "--fading-seeds", "1", "--images", "20"]
    grid += ["--schemes", "analog"]  # the choice among digital networks takes a minute
    one_by_one(tree, [sweep], [*grid, "--workers", "1"])
    one_by_one(tree, [figures])


def together(tree, lines):
    """One terminal each, on free ports; the air runs until it is terminated."""
    ports = dict(zip(("5555", "5556"), map(str, free_ports(2)), strict=True))
    lines = [re.sub(r"\b555[56]\b", lambda port: ports[port[0]], line) for line in lines]
    receiver, air, sender = (start(*arguments(line), cwd=tree, data=tree / "few") for line in lines)
    try:
        for process in (receiver, sender):
            result = finish(process)
            assert (result.status, result.err) == (0, ""), result
        air.terminate()
        result = finish(air)
        assert (result.status, result.err) == (0, ""), result
    finally:
        for process in (receiver, air, sender):
            process.kill()


def on_boards(tree, lines):
    """Boards, sender and receiver together; then the sender is stopped and the other lines run, the sweep shortened."""
    if NO_LIBIIO is not None:
        pytest.skip(NO_LIBIIO)
    ports = dict(zip(("40431", "40432"), map(str, free_ports(2)), strict=True))
    lines = [re.sub(r"\b4043[12]\b", lambda port: ports[port[0]], line) for line in lines]
    # in lockstep, so that a busy machine loses nothing
    boards = start(*arguments(lines[0]), "--clock", "lockstep", cwd=tree, data=tree / "few")
    others = []
    try:
        _wait_for_port(int(ports["40432"]))
        for line in lines[1:3]:
            others.append(start(*arguments(line), cwd=tree, data=tree / "few"))
        result = finish(others[1])
        assert (result.status, result.err) == (0, ""), result
        others[0].terminate()
        assert finish(others[0]).status == 143
        for line in lines[3:]:
            if "attenuation.py" not in line:
                one_by_one(tree, [line])
                continue
            result = finish(start(*arguments(line), *SHORT_SWEEP, cwd=tree, data=tree / "few"))
            assert result.status == 0 and "2 of 2" in result.out, result
    finally:
        for process in (boards, *others):
            process.kill()


def on_a_pair(*more):
    """By themselves on two virtual boards, as real ones, in place of the addresses 192.168.2.1 and 192.168.3.1."""

    def run(tree, lines):
        if NO_LIBIIO is not None:
            pytest.skip(NO_LIBIIO)
        ports = free_ports(2)
        options = [word for port in ports for word in ("--board", f"{port}:real=1")]
        boards = start("-m", "sim.virtual_pluto", *options, "--clock", "lockstep", cwd=tree, data=tree / "few")
        try:
            _wait_for_port(ports[1])
            for line in lines:
                here = line.replace("192.168.2.1", f"127.0.0.1:{ports[0]}").replace(
                    "192.168.3.1", f"127.0.0.1:{ports[1]}"
                )
                result = finish(start(*arguments(here), *more, cwd=tree, data=tree / "few"))
                assert result.status == 0 and "FAILED" not in result.out + result.err, result
        finally:
            boards.kill()
            boards.communicate()

    return run


def this_very_run(tree, lines):
    """Tests that run themselves would never end."""


def run_python(tree: Path, source: str) -> str:
    """Run Python as a user of this checkout does, in a process of its own; what it prints."""
    env = {**environment(tree / "few"), "PYTHONPATH": str(ROOT / "src"), "MPLBACKEND": "agg"}
    command = [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", source]
    done = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _wait_for_port(port):
    """Until a process listens there."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise AssertionError(f"nobody listens at {port}")
