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
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from airnet_sdr.models.cifar import CLASSES
from airnet_sdr.sim.demo import free_ports
from airnet_sdr.sim.experiments.library.store import read
from airnet_sdr.tests.cluster import MISSING as NO_RAY
from airnet_sdr.tests.cluster import two_nodes
from airnet_sdr.tests.command import PATIENCE_S, ROOT, environment, finish, killed, start
from airnet_sdr.tests.flowgraph import MISSING as NO_GNURADIO
from airnet_sdr.tests.page import MISSING as NO_CHROMIUM
from airnet_sdr.tests.page import serving, states
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


def unless(reason, how):
    """The same, skipped where there is a reason to."""

    def run(tree, lines):
        if reason is not None:
            pytest.skip(reason)
        how(tree, lines)

    return run


def with_gnuradio(how):
    """The same on a machine that has GNU Radio."""
    return unless(NO_GNURADIO, how)


def with_package(name, how):
    """The same where a package is installed that the set-up does not bring; it is not imported."""
    return unless(None if find_spec(name) else f"needs pip install --no-deps {name}", how)


def with_chromium(how):
    """The same on a machine that has Chromium."""
    return unless(NO_CHROMIUM, how)


def at_free_ports(lines: list[str]) -> tuple[list[str], dict[str, str]]:
    """The lines with free ports in place of those of the two virtual boards, and which stands for which."""
    ports = dict(zip(("40431", "40432"), map(str, free_ports(2)), strict=True))
    return [re.sub(r"\b4043[12]\b", lambda port: ports[port[0]], line) for line in lines], ports


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


def own_network(tree, lines):
    """Train, measure and sweep a network of one's own, in miniature."""
    short = {
        "models/train.py": ["--epochs", "2", "--limit", "2000"],
        "models/sensitivity.py": ["--images", "100", "--draws", "1"],
        "sim/sweep.py": ["--link-seeds", "1", "--whole-link", "0", "--workers", "1"],
    }
    for line in lines:
        file, *options = arguments(line)
        process = start(file, *options, *short[file], cwd=tree, data=tree / "few")
        result = finish(process, 4 * PATIENCE_S)  # Ray takes its time to start on a busy machine
        assert (result.status, result.err) == (0, ""), result
    table = (tree / "out" / "mine" / "sweep" / "tables.md").read_text()
    rows = [line.split("|") for line in table.splitlines() if line.startswith(("| analog", "| digital"))]
    assert len(rows) == 2 and all(len(row) == 2 + 1 + 5 for row in rows), table
    trials = read(tree / "out" / "mine" / "sweep" / "trials.parquet")
    assert all(trial["network"] for trial in trials if trial["scheme"] == "analog")  # it fits its payload at every SNR


def one_transmission(tree, lines):
    """The comparison, of one training seed, then two of its plans over the link, at one SNR."""
    comparison, link = lines
    one_by_one(tree, [comparison], ["--arch", "fashion", "--training-seeds", "1", "--images", "50"])
    one_by_one(tree, [link], ["--images", "50", "--snr-db", "5"])


def protected(tree, lines):
    """A network is imported, measured on few examples and protected; then trained on, and protected again."""
    importing, measuring, protecting, training, protecting_again = lines
    short = ["--budgets", "1", "--snr-db", "10", "--link-seeds", "1"]
    one_by_one(tree, [importing])
    one_by_one(tree, [measuring], ["--images", "10", "--draws", "1"])
    one_by_one(tree, [protecting], [*short, "--uep", "none", "auto"])
    one_by_one(tree, [training], ["--epochs", "1", "--limit", "200"])
    one_by_one(tree, [protecting_again], [*short, "--uep", "size"])


def plans_on_boards(tree, lines):
    """The plans of the comparison, which was run before, over virtual boards at one attenuation."""
    if NO_LIBIIO is not None:
        pytest.skip(NO_LIBIIO)
    (boards, link), ports = at_free_ports(lines)
    with killed(start(*arguments(boards), "--clock", "lockstep", cwd=tree, data=tree / "few")):
        _wait_for_port(int(ports["40432"]))
        more = ["--attenuation-db", "20", "--link-seeds", "1", "--images", "50"]
        result = finish(start(*arguments(link), *more, cwd=tree, data=tree / "few"), 4 * PATIENCE_S)
    assert result.status == 0 and result.out.count("| 12.") == 2, result


def reusing(folder, how):
    """The same, with the outputs of networks that another command stored."""

    def run(tree, lines):
        out = tree / arguments(lines[0])[-1]
        for stored in (tree / folder).glob("*-*/"):
            shutil.copytree(stored, out / stored.name)
        how(tree, lines)

    return run


def few_trials(tree, lines):
    """The sweep, of one scheme and one cell for each question, then its figures."""
    sweep, figures = lines
    grid = ["--arch", "fashion", "--training-seeds", "1", "--snr-db", "0", "--budgets", "4", "--plan-snr-db", "10"]
    grid += ["--met-snr-db", "8", "--fading-snr-db", "10", "--link-seeds", "1", "--fading-seeds", "1", "--images", "20"]
    grid += ["--schemes", "analog"]  # the choice among digital networks takes a minute
    one_by_one(tree, [sweep], [*grid, "--workers", "1"])
    one_by_one(tree, [figures])


def on_a_cluster(tree, lines):
    """A sweep of two cells and a comparison of one training seed, each on two nodes and then here: the same rows."""
    if NO_RAY is not None:
        pytest.skip(NO_RAY)
    few = ["--arch", "fashion", "--training-seeds", "1", "--images", "20"]
    cell = [
        "--link-seeds",
        "2",
        "--snr-db",
        "15",
        "--budgets",
        "1",
        "--questions",
        "known",
        "--schemes",
        "analog",
        "bound",
    ]
    for line, more in zip(lines, ([*few, *cell], few), strict=True):
        *start_of, out = arguments(line)
        where = start_of.index("--ray-address")
        here = [*start_of[:where], *start_of[where + 2 :], f"{out}-here", *more]
        with two_nodes(tree) as address:
            start_of[where + 1] = address
            there = finish(start(*start_of, out, *more, cwd=tree, data=tree / "few"), 4 * PATIENCE_S)
        result = finish(start(*here, cwd=tree, data=tree / "few"), 4 * PATIENCE_S)
        assert (there.status, there.err) == (result.status, result.err) == (0, ""), (there, result)
        tables = [path for path in (tree / out).glob("*") if path.suffix == ".parquet" or path.name == "broadcast.json"]
        assert len(tables) == 1
        for path in tables:
            same = tree / f"{out}-here" / path.name
            assert read(path) == read(same) if path.suffix == ".parquet" else path.read_bytes() == same.read_bytes()


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


def in_checkout(*more):
    """Here, with these options added, as what is run is no part of the tree; its output goes there."""
    return lambda tree, lines: one_by_one(ROOT, lines, [*more, "--out", tree / "out"], tree / "few")


def behind_keys(tree, lines):
    """The keys are made, then receiver and sender meet on a free port."""
    (port,) = free_ports(1)
    *making, receiving, sending = (line.replace("5557", str(port)) for line in lines)
    for line in making:
        assert finish(start(*arguments(line), cwd=tree)).status == 0
    ends = [start(*arguments(line), cwd=tree, data=tree / "few") for line in (receiving, sending)]
    with killed(*ends):
        for process in ends:
            result = finish(process)
            assert (result.status, result.err) == (0, ""), result


def on_boards(tree, lines):
    """Boards, sender and receiver together; then the sender is stopped and the other lines run, the sweep shortened."""
    if NO_LIBIIO is not None:
        pytest.skip(NO_LIBIIO)
    lines, ports = at_free_ports(lines)
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


def pages(tree, lines):
    """Each lab at a port of its own, until its page is served."""
    for line in lines:
        with serving(arguments(line), tree) as url:
            assert next(states(url))["running"]


def fed(tree, lines):
    """A lab that a receiver started elsewhere feeds, though that hears nothing."""
    ports = dict(zip(("5600", "5556"), map(str, free_ports(2)), strict=True))
    lab, receiver = (re.sub(r"\b5(600|556)\b", lambda port: ports[port[0]], line) for line in lines)
    with serving(arguments(lab), tree) as url:
        feeding = start(*arguments(receiver), cwd=tree, data=tree / "few")
        with killed(feeding):
            assert any(each["name"] == "bench" for state in states(url) for each in state["receivers"])


def on_live_boards(tree, lines):
    """A lab on virtual boards, until its receiver hears frames."""
    if NO_LIBIIO is not None:
        pytest.skip(NO_LIBIIO)
    (boards, lab), ports = at_free_ports(lines)
    with killed(start(*arguments(boards), "--clock", "lockstep", cwd=tree, data=tree / "few")):
        _wait_for_port(int(ports["40432"]))
        with serving(arguments(lab), tree) as url:
            assert any(state["receivers"][0].get("heard") for state in states(url))


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
    """Tests that run themselves, and pages, would never end."""


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
