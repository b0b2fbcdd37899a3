"""Every command of the README, as it stands there, in an empty folder that has the rooms of this program."""

import contextlib
import re
import shlex
import shutil
import socket
import subprocess
import time

import pytest

from airnet_sdr.sim.demo import free_ports
from airnet_sdr.tests.command import PATIENCE_S, ROOT, environment, finish, save_few_images, start
from airnet_sdr.tests.flowgraph import MISSING as NO_GNURADIO
from airnet_sdr.tests.pluto import MISSING

ROOMS = ("dsp", "models", "tx", "rx", "sim", "Makefile", "setup.sh", "pyproject.toml", "constraints.txt", ".venv")


def make(tree, lines):
    """Literally, where make has set this machine up."""
    if shutil.which("make") is None or subprocess.call(["make", "-q", ".venv/.ready"], cwd=ROOT):
        pytest.skip("no make here, or this environment is not what it sets up")
    for line in lines:
        subprocess.run(shlex.split(line), cwd=tree, env=environment(tree / "few"), check=True, timeout=PATIENCE_S)


def with_gnuradio(how):
    """The same where GNU Radio is."""

    def run(tree, lines):
        if NO_GNURADIO is not None:
            pytest.skip(NO_GNURADIO)
        how(tree, lines)

    return run


def one_by_one(tree, lines, more=()):
    """Literally but for the name of the Python; ``more`` options make it short."""
    for line in lines:
        result = finish(start(*arguments(line), *more, cwd=tree, data=tree / "few"))
        assert (result.status, result.err) == (0, ""), result


def one_epoch(tree, lines):
    one_by_one(tree, lines, ["--epochs", "1", "--limit", "256"])


def few_trials(tree, lines):
    """The sweep, of one scheme and a cell a question; then what is drawn of it."""
    sweep, figures = lines
    grid = ["--arch", "fashion", "--training-seeds", "1", "--snr-db", "0", "--budgets", "4", "--plan-snr-db", "10"]
    grid += ["--met-snr-db", "8", "--fading-snr-db", "10", "--link-seeds", "1", "--fading-seeds", "1", "--images", "20"]
    grid += ["--schemes", "analog"]  # the choice among digital networks takes a minute
    one_by_one(tree, [sweep], [*grid, "--workers", "1"])
    one_by_one(tree, [figures])


def few_draws(tree, lines):
    one_by_one(tree, lines, ["--images", "8", "--draws", "1"])


def together(tree, lines):
    """One terminal each, on ports that are free here; the air goes on until it is told to stop."""
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


SHORT_SWEEP = ["--attenuation-db", "0", "20", "--repeats", "2"]


def on_boards(tree, lines):
    """Boards, sender, receiver; what goes on without end is stopped, the other lines come after; a short sweep last."""
    if MISSING is not None:
        pytest.skip(MISSING)
    ports = dict(zip(("40431", "40432"), map(str, free_ports(2)), strict=True))
    lines = [re.sub(r"\b4043[12]\b", lambda port: ports[port[0]], line) for line in lines]
    # in lockstep, so that a busy machine loses nothing
    boards = start(*arguments(lines[0]), "--clock", "lockstep", cwd=tree, data=tree / "few")
    others = []
    try:
        wait_for_port(int(ports["40432"]))
        for line in lines[1:3]:
            others.append(start(*arguments(line), cwd=tree, data=tree / "few"))
        result = finish(others[1])
        assert (result.status, result.err) == (0, ""), result
        others[0].terminate()
        assert finish(others[0]).status == 143
        one_by_one(tree, lines[3:-1])
        result = finish(start(*arguments(lines[-1]), *SHORT_SWEEP, cwd=tree, data=tree / "few"))
        assert result.status == 0 and "2 of 2" in result.out, result
    finally:
        for process in (boards, *others):
            process.kill()


def wait_for_port(port):
    """Until somebody listens there."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise AssertionError(f"nobody listens at {port}")


def this_very_run(tree, lines):
    """Tests that run themselves would never end."""


# how the lines are run, which, and the files they leave behind
RUNS = [
    (make, ["make demo"], ["out/demo/report.json", "out/demo/report.png"]),
    (one_by_one, ["python tx/send.py --list"], []),
    (
        one_by_one,
        [
            "python tx/send.py --model fashion --radio file:out/capture.sigmf-meta",
            "python rx/receive.py --radio file:out/capture.sigmf-meta --truth fashion --report out/report.json "
            "--picture out/report.png",
        ],
        ["out/capture.sigmf-meta", "out/capture.sigmf-data", "out/report.json", "out/report.png"],
    ),
    (
        together,
        [
            "python rx/receive.py --radio zmq:tcp://127.0.0.1:5556",
            'python sim/air.py --rx "zmq:tcp://127.0.0.1:5555?bind=1" --tx "zmq:tcp://127.0.0.1:5556?bind=1" '
            "--preset room",
            "python tx/send.py --model fashion --radio zmq:tcp://127.0.0.1:5555 --snr-db 15",
        ],
        [],
    ),
    (
        one_by_one,
        ["python sim/loopback.py --model fashion --preset bench --seed 1 --report out/loopback.json"],
        ["out/loopback.json"],
    ),
    (one_by_one, ["python sim/loopback.py --model fashion --snr-db -5 --cycles 16 --seed 1"], []),
    (
        on_boards,
        [
            "python -m sim.virtual_pluto --board 40431:ppm=23 --board 40432:ppm=-21 --loss-db 70",
            "python tx/send.py --model fashion --radio pluto:ip:127.0.0.1:40431 --cycles 0",
            "python rx/receive.py --radio pluto:ip:127.0.0.1:40432 --gain-db auto --cycles 2",
            "python tx/send.py --mute --radio pluto:ip:127.0.0.1:40431",
            "python tx/send.py --check --radio pluto:ip:127.0.0.1:40431",
            "python sim/selftest.py --radio pluto:ip:127.0.0.1:40431 --model fashion",
            "python sim/sweep.py --radio pluto:ip:127.0.0.1:40431 --rx-radio pluto:ip:127.0.0.1:40432 --model fashion",
        ],
        ["out/sweep/attenuation.json", "out/sweep/attenuation.csv", "out/sweep/attenuation.png"],
    ),
    (with_gnuradio(make), ["make demo AIR=gnuradio"], ["out/demo/report.json"]),
    (
        with_gnuradio(together),
        [
            "python rx/receive.py --radio zmq:tcp://127.0.0.1:5556",
            'python sim/gnuradio_air.py --rx zmq:tcp://127.0.0.1:5555 --tx "zmq:tcp://127.0.0.1:5556?bind=1" '
            "--preset bench",
            'python tx/send.py --model fashion --radio "zmq:tcp://127.0.0.1:5555?bind=1" --snr-db 12',
        ],
        [],
    ),
    (
        one_by_one,
        [
            "python tx/send.py --scheme digital --model models/zoo/fashion-mnist/digital/seed-1 --snr-db 0 "
            "--payload-uses 157752 --radio file:out/digital.sigmf-meta",
            "python rx/receive.py --radio file:out/digital.sigmf-meta",
        ],
        ["out/digital.sigmf-meta"],
    ),
    (
        one_epoch,
        [
            "python models/train.py --init models/zoo/fashion-mnist/pruned8/seed-1/fashion.safetensors --bits 39300 "
            "--out out/digital39"
        ],
        ["out/digital39/fashion.safetensors"],
    ),
    (
        one_by_one,
        [
            "python sim/loopback.py --scheme hybrid --model "
            "models/zoo/fashion-mnist/norm8/seed-1/fashion-bn.safetensors "
            "--digital-share 0.4 --payload-uses 78876 --snr-db 10 --plan-snr-db 5"
        ],
        [],
    ),
    (
        one_by_one,
        [
            "python tx/send.py --architecture models/examples/modulation.py:modulation "
            "--model models/examples/modulation.safetensors --radio file:out/modulation.sigmf-meta",
            "python rx/receive.py --architecture models/examples/modulation.py:modulation "
            "--radio file:out/modulation.sigmf-meta",
        ],
        ["out/modulation.sigmf-meta"],
    ),
    (
        few_trials,
        [
            "python sim/sweep.py --out out/sweep",
            "python sim/experiments/figures.py --trials out/sweep/trials.parquet --out out/sweep",
        ],
        ["out/sweep/trials.parquet", "out/sweep/known-fashion.png", "out/sweep/mismatch-fashion.png"],
    ),
    (one_epoch, ["python models/train.py --model fashion --out out/fashion --seed 1"], ["out/fashion/train.log"]),
    (
        few_draws,
        ["python models/sensitivity.py --model out/fashion/fashion.safetensors"],
        ["out/fashion/sensitivity.json"],
    ),
    (this_very_run, ["make test"], []),
]


def readme_lines():
    blocks = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def arguments(line):
    python, *rest = shlex.split(line)
    assert python == "python"
    return rest


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A folder that looks like a checkout; what the commands write goes there. Few images make them quick."""
    tree = tmp_path_factory.mktemp("readme")
    for room in ROOMS:
        if (ROOT / room).exists():
            (tree / room).symlink_to(ROOT / room)
    save_few_images(tree / "few", 500)
    return tree


def test_the_table_has_the_commands_of_the_readme_and_no_others():
    assert [line for _, lines, _ in RUNS for line in lines] == readme_lines()


@pytest.mark.parametrize("how, lines, files", RUNS, ids=[lines[0] for _, lines, _ in RUNS])
def test_readme(tree, how, lines, files):
    how(tree, lines)
    for file in files:
        assert (tree / file).stat().st_size > 0
    assert not list(tree.glob("out/**/*.part"))
