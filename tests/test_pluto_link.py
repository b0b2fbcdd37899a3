"""Sender and receiver as processes on virtual PlutoSDRs, through the real libiio; whatever is killed, and when."""

import contextlib
import json
import queue
import random
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from airnet_sdr.sim import loopback
from airnet_sdr.sim.virtual_pluto.__main__ import cause
from airnet_sdr.tests.command import hear_signals, run
from airnet_sdr.tests.pluto import boards, link_snr_db, needs_libiio

pytestmark = [needs_libiio, pytest.mark.alone]


class Process(subprocess.Popen):
    """A command of the project; its lines are read as they come."""

    def __init__(self, *arguments):
        command = [sys.executable, *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        super().__init__(command, **pipes, preexec_fn=hear_signals)
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


class Boards:
    """Two virtual boards, +23 and -21 ppm, as a process, and what they do."""

    def __init__(self, air):
        self.process = air
        self.addresses = [f"pluto:{air.line(r'at (ip:127.0.0.1:[0-9]+)')[1]}" for _ in range(2)]
        self._states, self._changed = [{}, {}], threading.Condition()
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self):
        with contextlib.suppress(AssertionError):
            while True:
                states = json.loads(self.process.line(r"^\[.*\]$", 600)[0])
                with self._changed:
                    self._states = states
                    self._changed.notify_all()

    def become(self, number, timeout_s=10, **wanted):
        """Whether the board comes to be in that state."""
        return self.until(number, lambda state: wanted.items() <= state.items(), timeout_s)

    def until(self, number, condition, timeout_s=10):
        """Whether the board's state comes to fulfil the condition; what lasts some milliseconds may go unseen."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self._states[number]), timeout_s)


@contextlib.contextmanager
def virtual(*options):
    """Running boards; time passes as samples are read."""
    boards = ["--board", "0:ppm=23", "--board", "0:ppm=-21", "--clock", "lockstep", "--show-state"]
    with running("-m", "sim.virtual_pluto", *boards, *options) as air:
        yield Boards(air)


def send(model, address, *options):
    return running("tx/send.py", "--model", model, "--uep", "none", "--radio", address, *options)


def receive(address, report, model, *options):
    options = ["--truth", model, "--evaluate", "none", "--report", report, "--cycles", "2", *options]
    return running("rx/receive.py", "--radio", address, *options)


def ended(process, timeout_s, *statuses):
    """The only line on standard error of a process that ends in time with one of the statuses."""
    status, text = process.wait(timeout_s), process.stderr.read()
    assert status in statuses, text
    assert text.count("\n") == (status not in (0, 143)), text
    return text


@pytest.mark.parametrize("air", [[], pytest.param(["--preset", "room"], marks=pytest.mark.slow)])
def test_the_model_arrives_as_over_the_same_air_without_boards(model, tmp_path, air):
    """20 cycles at 2.6 dB, noise or noise and echoes; in one process the same channel, without boards and driver.

    They stream, in small buffers: a frame more or less at the end makes no difference.
    """
    with virtual(*air) as pair:
        options = ["--gain-db", "60", "--cycles", "20"]
        with receive(pair.addresses[1], tmp_path / "report.json", model, *options) as receiver:
            assert pair.become(1, 60, receiving=1)
            options = ["--gain-db", "-40", "--cycles", "20", "--buffer-samples", "16384"]
            with send(model, pair.addresses[0], *options) as sender:
                assert ended(sender, 120, 0) == "" and ended(receiver, 120, 0) == ""
        assert pair.become(0, muted=True)
    crystals = ["--cfo-hz", 44e-6 * 2.4e9, "--sco-ppm", 44, "--snr-db", link_snr_db(-40, 60)]
    options = ["--model", model, "--uep", "none", "--evaluate", "none", "--cycles", "20", *crystals, *air]
    assert run(loopback.main, *options, "--report", tmp_path / "without.json").status == 0
    report, without = (json.loads((tmp_path / name).read_text()) for name in ("report.json", "without.json"))
    assert report["frames"]["lost"] == 0 and report["frames"]["cycles"] >= 19
    assert report["weights"]["nmse_db"] == pytest.approx(without["weights"]["nmse_db"], abs=0.5)
    assert report["sync"]["snr_db"] == pytest.approx(without["sync"]["snr_db"], abs=0.5)
    assert report["sync"]["cfo_hz"] == pytest.approx(44e-6 * 2.4e9, abs=50)
    assert report["sync"]["sco_ppm"] == pytest.approx(44, abs=1)
    assert "simulated" in report["radio"]["device"] and report["radio"]["overflow"] is False
    assert report["radio"]["firmware"] and report["radio"]["libraries"]["pyadi-iio"]


def test_both_ends_record_what_they_send_and_hear(model, tmp_path):
    """Recordings that sigmf_validate accepts, an annotation a frame; the receiver's is received again, the same."""
    sent, heard = tmp_path / "sent.sigmf-meta", tmp_path / "heard.sigmf-meta"
    with virtual() as pair, send(model, pair.addresses[0], "--cycles", "0", "--record", sent) as sender:
        sender.line("on the air")
        second = pair.addresses[1]
        with receive(second, tmp_path / "r.json", model, "--gain-db", "60", "--record", heard) as receiver:
            assert ended(receiver, 120, 0) == ""
        sender.terminate()
        ended(sender, 20, 143)
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


def stop_at_a_random_moment(pair, number, model, signal_number, rng):
    """Start a sender on a board, end it some time after it has taken the board; whether all is well afterwards."""
    with send(model, pair.addresses[number], "--cycles", "0") as sender:
        # it takes the board, least gain first, and goes on the air some 0.1 s later
        assert pair.until(number, lambda state: state["tx_gain_db"] != AWAKE_GAIN_DB, 60)
        time.sleep(rng.uniform(0, 0.5))
        sender.send_signal(signal_number)
        status = sender.wait(20)
        return status == 128 + signal_number and pair.become(number, muted=True) and len(sender.stderr.readlines()) <= 1


AWAKE_GAIN_DB = -20.0


def wake(pair, number):
    """Undo what a sender leaves: a board that is not muted."""
    import adi

    board = adi.Pluto(pair.addresses[number].removeprefix("pluto:"))
    board.tx_hardwaregain_chan0 = AWAKE_GAIN_DB
    assert pair.become(number, muted=False, tx_gain_db=AWAKE_GAIN_DB)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_sender_that_is_stopped_leaves_the_board_muted(model, number):
    with virtual() as pair, send(model, pair.addresses[0], "--cycles", "0") as sender:
        sender.line("on the air")
        assert pair.become(0, muted=False, transmitting=True)
        sender.send_signal(number)
        assert sender.wait(20) == 128 + number and pair.become(0, muted=True)


@pytest.mark.slow
def test_an_impatient_ctrl_c_changes_nothing(model):
    with virtual() as pair, send(model, pair.addresses[0], "--cycles", "0") as sender:
        sender.line("on the air")
        for _ in range(3):
            sender.send_signal(signal.SIGINT)
            time.sleep(0.03)
        sender.wait(20)
        assert pair.become(0, muted=True)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_does_so_at_any_moment_20_times_of_20(model, number):
    rng, good = random.Random(int(number)), 0
    with virtual() as pair:
        for _ in range(20):
            wake(pair, 0)
            good += stop_at_a_random_moment(pair, 0, model, number, rng)
    assert good == 20


def kill_the_board(model, tmp_path, seconds):
    """Both ends, the board's process killed some time after both have it: each ends in time, with a line."""
    with virtual() as pair, send(model, pair.addresses[0], "--cycles", "0") as sender:
        assert pair.become(0, 60, transmitting=True, muted=False)
        options = ["--cycles", "1000", "--timeout-s", "4"]
        with receive(pair.addresses[1], tmp_path / "r.json", model, *options) as receiver:
            assert pair.become(1, 60, receiving=1)
            time.sleep(seconds)
            pair.process.kill()
            for process in (sender, receiver):
                assert "ip:127.0.0.1" in ended(process, 20, 3)


def test_a_killed_board_ends_both_with_a_line(model, tmp_path):
    kill_the_board(model, tmp_path, 0.5)


@pytest.mark.slow
def test_a_board_killed_at_any_moment_ends_both_with_a_line(model, tmp_path):
    rng = random.Random(1)
    for _ in range(4):
        kill_the_board(model, tmp_path, rng.uniform(0, 1.5))


@pytest.mark.slow
def test_a_killed_sender_or_receiver_leaves_the_other_to_its_successor(model, tmp_path):
    """The receiver goes on with the next sender's frames, the sender does not notice; nothing needs to be restarted."""
    rng = random.Random(2)
    with virtual() as pair:
        first, second = pair.addresses
        for _ in range(3):
            with receive(second, tmp_path / "r.json", model, "--cycles", "6", "--timeout-s", "60") as receiver:
                assert pair.become(1, 60, receiving=1)
                with send(model, first, "--cycles", "0") as sender:
                    sender.line("on the air")
                    time.sleep(rng.uniform(0, 0.4))
                    sender.kill()
                    assert pair.become(0, transmitting=False)
                with send(model, first, "--cycles", "0"):
                    assert ended(receiver, 60, 0) == ""
            assert json.loads((tmp_path / "r.json").read_text())["frames"]["lost"] == 0
        with send(model, first, "--cycles", "0") as sender:
            sender.line("on the air")
            for _ in range(3):
                with receive(second, tmp_path / "r.json", model, "--cycles", "1000") as receiver:
                    assert pair.become(1, 60, receiving=1)
                    time.sleep(rng.uniform(0, 1.0))
                    receiver.kill()
                    assert pair.become(1, receiving=0) and pair.become(0, 1, transmitting=True)
            with receive(second, tmp_path / "r.json", model) as receiver:
                assert ended(receiver, 60, 0) == ""
            assert sender.poll() is None


@pytest.mark.slow
def test_a_sender_that_is_gone_for_good_ends_the_receiver_in_time(model, tmp_path):
    """Killed in the middle of a burst: the receiver reports what it has, or says in a line what is missing."""
    with virtual() as pair, send(model, pair.addresses[0], "--cycles", "0") as sender:
        sender.line("on the air")
        options = ["--cycles", "1000", "--timeout-s", "3"]
        with receive(pair.addresses[1], tmp_path / "r.json", model, *options) as receiver:
            assert pair.become(1, 60, receiving=1)
            time.sleep(0.2)
            sender.kill()
            ended(receiver, 30, 0, 2)


def test_a_sender_whose_board_goes_away_ends_with_a_line(model):
    with boards(0) as (server,), send(model, f"pluto:{server.uri}", "--cycles", "0") as sender:
        sender.line("on the air")
        server.disconnect()
        assert "ip:127.0.0.1" in ended(sender, 30, 3)


def test_a_receiver_whose_board_stalls_ends_with_a_line(model, tmp_path):
    with boards(0) as (server,):
        cause("stall", server, 0)
        with receive(f"pluto:{server.uri}", tmp_path / "r.json", model, "--timeout-s", "3") as receiver:
            assert ended(receiver, 60, 3).startswith("receive: ")


def test_mute_silences_a_board_that_a_killed_sender_left(model):
    with virtual() as pair, send(model, pair.addresses[0], "--cycles", "0") as sender:
        sender.line("on the air")
        sender.kill()
        sender.wait(10)
        assert pair.become(0, muted=False, transmitting=False)
        with running("tx/send.py", "--mute", "--radio", pair.addresses[0]) as mute:
            assert ended(mute, 60, 0) == "" and pair.become(0, muted=True)


@pytest.mark.parametrize("command", ["tx/send.py", "rx/receive.py"])
def test_a_check_tests_the_board_alone_and_names_the_test_of_the_whole_link(command):
    with virtual() as pair, running(command, "--check", "--radio", pair.addresses[0]) as check:
        evm_db = float(check.line(r"EVM (-[0-9.]+) dB")[1])
        assert evm_db < -50 and check.line(r"python (sim/selftest.py) --radio (\S+)")[2] == pair.addresses[0]
        assert ended(check, 60, 0) == "" and pair.become(0, muted=True)


def test_mute_is_for_boards():
    command = [sys.executable, "tx/send.py", "--mute", "--radio", "zmq:tcp://127.0.0.1:5555"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
