"""The flowgraphs for GNU Radio Companion: they compile and run; recordings go to GNU Radio and come back."""

import contextlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from airnet_sdr.dsp.frame import DEFAULT_FORMAT
from airnet_sdr.dsp.radio.scale import BACKOFF_DB
from airnet_sdr.rx import receive
from airnet_sdr.sim.channel.gnuradio_process import environment
from airnet_sdr.tests.command import ROOT, finish, killed, run, start, zmq_addresses
from airnet_sdr.tests.flowgraph import COMPLEX, PYTHON, flowgraph, needs_gnuradio
from airnet_sdr.tests.pluto import needs_libiio

pytestmark = pytest.mark.alone

FLOWGRAPHS = {path.stem: path for path in sorted((ROOT / "sim" / "channel" / "flowgraphs").glob("*.grc"))}
GRCC = PYTHON and (shutil.which("grcc", path=str(Path(PYTHON).parent)) or shutil.which("grcc"))
needs_grcc = pytest.mark.skipif(GRCC is None, reason="grcc is not here: apt-get install gnuradio")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The programs that GNU Radio Companion makes of the flowgraphs, by name."""
    folder = tmp_path_factory.mktemp("compiled")
    command = [GRCC, "-o", folder, *FLOWGRAPHS.values()]
    result = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "rror" not in result.stdout + result.stderr
    return {name: folder / f"airnet_{name}.py" for name in FLOWGRAPHS}


@contextlib.contextmanager
def program(path, *options):
    """A compiled flowgraph, its windows nowhere."""
    log = path.with_suffix(".log")
    with open(log, "w") as output:
        process = subprocess.Popen(
            [PYTHON, path, *map(str, options)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**environment(), "QT_QPA_PLATFORM": "offscreen", "HOME": str(path.parent)},
        )
    try:
        yield process
        assert process.poll() in (None, 0), log.read_text()  # 0: gr-iio ends once nobody takes its samples
        process.terminate()
        process.wait(30)
    finally:
        process.kill()
        process.wait()


def heard(model, address, report, *options):
    """Report of a receiver at the address, a process of its own."""
    argv = ["--radio", address, "--truth", model, "--evaluate", "none", "--report", report, *options]
    receiver = start("rx/receive.py", *argv)
    with killed(receiver):
        result = finish(receiver)
        assert (result.status, result.err) == (0, ""), result
    return json.loads(report.read_text())


def value_of(text, block):
    """The value that a block of a .grc has."""
    return re.search(rf"- name: {block}\n  id: \w+\n  parameters:\n(?:    .*\n)*?    value: (.*)\n", text)[1].strip("'")


def test_there_are_three_and_their_figures_are_those_of_the_link():
    assert list(FLOWGRAPHS) == ["air", "pluto_receive", "pluto_send"]
    air = FLOWGRAPHS["air"].read_text(encoding="utf-8")
    assert eval(value_of(air, "burst_power")) == pytest.approx(10 ** (-BACKOFF_DB / 10))
    assert eval(value_of(air, "occupied")) == DEFAULT_FORMAT.num_active / DEFAULT_FORMAT.fft_size


@needs_gnuradio
@needs_grcc
def test_all_compile(compiled):
    for path in compiled.values():
        compile(path.read_text(encoding="utf-8"), path, "exec")


@pytest.mark.slow
@needs_gnuradio
@needs_grcc
def test_the_air_with_sliders_is_an_air(compiled, model, tmp_path):
    """At its sliders' defaults: 15 dB over the direct path, to which the echoes add their power, and 40 kHz."""
    one, two = zmq_addresses(2)
    options = ["--rx-address", one.removeprefix("zmq:"), "--tx-address", two.removeprefix("zmq:")]
    with program(compiled["air"], *options):
        sender = start("tx/send.py", "--model", model, "--uep", "none", "--radio", f"{one}?bind=1")
        with killed(sender):
            report = heard(model, two, tmp_path / "r.json")
            assert finish(sender).status == 0
    echoes = 10**-0.8 + 10**-1.4
    assert report["frames"]["lost"] == 0
    assert report["sync"]["cfo_hz"] == pytest.approx(40e3, abs=10)
    assert report["sync"]["snr_db"] == pytest.approx(15 + 10 * np.log10(1 + echoes), abs=0.5)
    assert report["weights"]["nmse_db"] < -11


@needs_gnuradio
def test_recordings_go_to_gnu_radio_and_come_back(recording, model, tmp_path):
    """Our data is what its File Source reads as complex; what its SigMF Sink writes is received by ours."""
    back = tmp_path / "back.sigmf-meta"
    data = str(recording.with_suffix(".sigmf-data"))
    sigmf_sink = [
        "blocks",
        "sigmf_sink_minimal",
        COMPLEX,
        str(back.with_suffix("")),
        2.5e6,
        2.4e9,
        "me",
        "back",
        "",
        True,
    ]
    with flowgraph(["blocks", "file_source", COMPLEX, data, False], sigmf_sink, to_its_end=True):
        pass
    assert back.with_suffix(".sigmf-data").read_bytes() == Path(data).read_bytes()
    argv = ["--radio", f"file:{back}", "--truth", model, "--evaluate", "none", "--report", tmp_path / "r.json"]
    result = run(receive.main, *argv)
    assert (result.status, result.err) == (0, "")
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["frames"]["lost"] == 0 and report["weights"]["nmse_db"] < -40 and report["warnings"] == []
    assert (report["radio"]["rate_hz"], report["radio"]["freq_hz"]) == (2.5e6, 2.4e9)


@pytest.mark.slow
@needs_gnuradio
@needs_grcc
@needs_libiio
def test_a_recording_crosses_two_boards_by_gnu_radio_alone(compiled, recording, model, tmp_path):
    """File Source, gr-iio, virtual boards, gr-iio, ZMQ, our receiver: levels are those of this project's own driver.

    SNR per symbol as in `tests/test_pluto_link.py`: 7 dBm - 12 dB of back-off - 10 - 70 dB + 106.5 dBm + 1.07 dB.
    """
    (address,) = zmq_addresses(1)
    endpoint = address.removeprefix("zmq:")
    boards = start(
        "-m", "sim.virtual_pluto", "--board", "0:ppm=23", "--board", "0:ppm=-21", "--loss-db", 70, "--clock", "lockstep"
    )
    with killed(boards):
        first, second = (re.search(r"ip:\S+?(?=,)", boards.stdout.readline())[0] for _ in range(2))
        data = recording.with_suffix(".sigmf-data")
        with (
            program(compiled["pluto_receive"], "--uri", second, "--tx-address", endpoint, "--gain-db", 60),
            program(compiled["pluto_send"], "--uri", first, "--recording", data),
        ):
            report = heard(model, address, tmp_path / "r.json", "--cycles", 2)
    assert report["frames"]["lost"] == 0
    assert report["sync"]["cfo_hz"] == pytest.approx(44e-6 * 2.4e9, abs=50)
    assert report["sync"]["snr_db"] == pytest.approx(7 - 12 - 10 - 70 + 106.5 + 1.07, abs=0.7)


@needs_gnuradio
def test_flowgraphs_import_nothing_that_gnu_radios_python_lacks():
    """The script that runs there: the standard library, NumPy and GNU Radio; it says so, and it starts."""
    script = ROOT / "sim" / "channel" / "flowgraphs" / "headless_air.py"
    names = re.findall(r"^(?:import|from) (\w+)", script.read_text(encoding="utf-8"), re.M)
    assert set(names) <= {"ctypes", "json", "math", "os", "signal", "sys", "time", "numpy", "gnuradio"}
    command = [PYTHON, "-c", "import runpy, sys; runpy.run_path(sys.argv[1], run_name='imported')", str(script)]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment()}, timeout=60)
    assert result.returncode == 0, result.stderr
