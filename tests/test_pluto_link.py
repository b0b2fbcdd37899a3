"""Sender and receiver as processes on virtual PlutoSDRs, through the real libiio."""

import contextlib
import json
import queue
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.command import save_untrained
from tests.pluto import needs_libiio

pytestmark = needs_libiio


class Process(subprocess.Popen):
    """A command of the project; its lines are read as they come."""

    def __init__(self, *arguments):
        command = [sys.executable, *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        super().__init__(command, **pipes, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
        self._lines = queue.Queue()
        threading.Thread(target=lambda: [self._lines.put(line) for line in self.stdout], daemon=True).start()

    def line(self, pattern, timeout_s=60):
        """The match of the first line, from here on, that holds the pattern."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                text = self._lines.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no line with {pattern}") from None
            if match := re.search(pattern, text):
                return match


@contextlib.contextmanager
def running(*arguments):
    process = Process(*arguments)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        process.stderr.close()


@contextlib.contextmanager
def virtual(*options):
    """Two virtual boards, +23 and -21 ppm: the process and their addresses."""
    boards = ["--board", "0:ppm=23", "--board", "0:ppm=-21"]
    with running("-m", "sim.virtual_pluto", *boards, "--clock", "lockstep", "--show-state", *options) as air:
        yield air, [f"pluto:{air.line(r'at (ip:127.0.0.1:[0-9]+)')[1]}" for _ in range(2)]


def becomes_muted(air, wanted=True):
    """Whether the first board becomes muted, or not muted; its states come as they change."""
    return bool(air.line(rf'^\[{{"muted": {json.dumps(wanted)}', 10))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_untrained(tmp_path_factory.mktemp("model") / "net.safetensors")


def send(model, address, *options):
    return running("tx/send.py", "--model", model, "--uep", "none", "--radio", address, *options)


def receive(address, report, model, *options):
    options = ["--truth", model, "--evaluate", "none", "--report", report, "--cycles", "2", *options]
    return running("rx/receive.py", "--radio", address, *options)


@pytest.mark.parametrize("tx_gain_db", [-10, -30])
def test_the_model_arrives_as_over_the_same_air_without_boards(model, tmp_path, tx_gain_db):
    """SNR per symbol: 7 dBm - 12 dB of back-off + gain - 60 dB of path over -106.5 dBm of noise, + 1.07 dB as only the
    noise of the active subcarriers counts; NMSE near 1/(1 + 2·S) for two cycles, where the converter does not limit.
    """
    with virtual() as (air, (first, second)), send(model, first, "--gain-db", tx_gain_db, "--cycles", "0") as sender:
        sender.line("on the air")
        assert becomes_muted(air, False)
        with receive(second, tmp_path / "report.json", model, "--gain-db", "60") as receiver:
            assert receiver.wait(120) == 0, receiver.stderr.read()
        sender.send_signal(signal.SIGINT)
        assert sender.wait(20) == 130
        assert becomes_muted(air)
    report = json.loads((tmp_path / "report.json").read_text())
    snr_db = 7 - 12 + tx_gain_db - 60 + 106.5 + 1.07
    assert report["frames"]["lost"] == 0
    assert report["sync"]["cfo_hz"] == pytest.approx(44e-6 * 2.4e9, abs=50)
    assert report["sync"]["sco_ppm"] == pytest.approx(44, abs=1)
    assert "simulated" in report["radio"]["device"] and report["radio"]["overflow"] is False
    if tx_gain_db == -30:  # 12.6 dB: noise decides
        assert report["sync"]["snr_db"] == pytest.approx(snr_db, abs=0.5)
        assert report["weights"]["nmse_db"] == pytest.approx(-snr_db - 10 * 0.301, abs=0.7)
    else:
        assert report["weights"]["nmse_db"] < -25


def test_both_ends_record_what_they_send_and_hear(model, tmp_path):
    """Recordings that sigmf_validate accepts, an annotation a frame; the receiver's is received again, the same."""
    sent, heard = tmp_path / "sent.sigmf-meta", tmp_path / "heard.sigmf-meta"
    with virtual() as (_, (first, second)), send(model, first, "--cycles", "0", "--record", sent) as sender:
        sender.line("on the air")
        with receive(second, tmp_path / "r.json", model, "--gain-db", "60", "--record", heard) as receiver:
            assert receiver.wait(120) == 0, receiver.stderr.read()
        sender.terminate()
        assert sender.wait(20) == 143
    for path in (sent, heard):
        assert subprocess.run([sys.executable, "-m", "sigmf.validate", path], capture_output=True).returncode == 0
        meta = json.loads(path.read_text())
        assert "simulated" in meta["global"]["core:hw"] and len(meta["annotations"]) >= 4
    assert not list(tmp_path.glob("*.part"))
    with receive(f"file:{heard}", tmp_path / "again.json", model) as receiver:
        assert receiver.wait(60) == 0, receiver.stderr.read()
    first, again = (json.loads((tmp_path / name).read_text()) for name in ("r.json", "again.json"))
    assert again["frames"] == first["frames"]
    assert again["weights"]["nmse_db"] == pytest.approx(first["weights"]["nmse_db"], abs=1e-3)


def end_and_look(model, number, seconds):
    """Whether the board is muted after the sender got a signal so long after it was on the air."""
    with virtual() as (air, (first, _)), send(model, first, "--cycles", "0") as sender:
        sender.line("on the air")
        if not becomes_muted(air, False):
            return False
        time.sleep(seconds)
        sender.send_signal(number)
        status = sender.wait(20)
        return status == 128 + number and becomes_muted(air)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_sender_that_is_stopped_leaves_the_board_muted(model, number):
    assert end_and_look(model, number, 0.3)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_does_so_20_times_of_20(model, number):
    assert sum(end_and_look(model, number, 0.05 * trial) for trial in range(20)) == 20


def test_a_sender_whose_board_goes_away_ends_with_a_line(model):
    with virtual("--fault", "disconnect@8") as (_, (first, _)), send(model, first, "--cycles", "0") as sender:
        assert sender.wait(60) == 3
        assert "ip:127.0.0.1" in sender.stderr.read()


def test_a_receiver_whose_board_stalls_ends_with_a_line(model, tmp_path):
    with virtual("--fault", "stall@0.5:1") as (_, (_, second)):
        with receive(second, tmp_path / "r.json", model, "--timeout-s", "3") as receiver:
            assert receiver.wait(60) == 3
            assert receiver.stderr.read().strip().splitlines()[-1].startswith("receive: ")


def test_mute_silences_a_board_that_a_killed_sender_left(model):
    with virtual() as (air, (first, _)), send(model, first, "--cycles", "0") as sender:
        sender.line("on the air")
        sender.kill()
        sender.wait(10)
        assert becomes_muted(air, False)
        done = subprocess.run(
            [sys.executable, "tx/send.py", "--mute", "--radio", first], capture_output=True, timeout=60
        )
        assert done.returncode == 0 and becomes_muted(air)


def test_mute_is_for_boards():
    command = [sys.executable, "tx/send.py", "--mute", "--radio", "zmq:tcp://127.0.0.1:5555"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
