"""The PlutoSDR driver against virtual boards: settings, words, timeouts, and that a board is left silent."""

import importlib.metadata
import math
import re
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

from airnet_sdr.dsp.errors import InputError, RadioError, RadioTimeoutError
from airnet_sdr.dsp.radio import RadioConfig, open_sink, open_source, parse
from airnet_sdr.dsp.radio.pluto import silence
from airnet_sdr.dsp.radio.pluto_check import check
from airnet_sdr.dsp.radio.record import RecordedSource, recording
from airnet_sdr.dsp.units import db, linear
from airnet_sdr.tests.link import white
from airnet_sdr.tests.pluto import becomes_muted, boards, needs_libiio

pytestmark = needs_libiio
PART = 1 << 14


def config(**fields):
    return RadioConfig(**{"timeout_s": 5.0, "buffer_samples": PART} | fields)


@pytest.fixture
def pair():
    with boards(0, 0) as servers:
        yield servers


def run_python(code, *arguments):
    """A process of its own that runs the code."""
    command = [sys.executable, "-c", "import sys\n" + textwrap.dedent(code), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def address(server):
    return f"pluto:{server.uri}"


def test_what_is_sent_is_heard_at_the_level_that_the_gains_say(pair):
    """Unit power at 12 dB of back-off: 7 dBm - 12 - 10 - 60 dB of path, + 50 of gain, - 5 dBm full scale."""
    sender, receiver = pair
    with open_sink(address(sender), config(gain_db=-10)) as sink:
        sink.repeat(white(50_000, 1.0, 1))
        with open_source(address(receiver), config(gain_db=50)) as source:
            samples = np.concatenate([source.read() for _ in range(6)])
            found = source.describe()
        assert samples.dtype == np.complex64 and samples.size == 6 * PART
        assert db(np.mean(np.abs(samples) ** 2)) == pytest.approx(7 - 12 - 10 - 60 + 50 - 5, abs=0.2)
        assert (found["overflow"], found["clipped"], found["gain_db"], found["warnings"]) == (False, 0, 50, [])
        assert "simulated" in found["device"] and found["libraries"]["pylibiio"].startswith("0.")
        assert found["libraries"]["libiio of the board"] == "0.24" and "virtual" in found["firmware"]
        assert not sender.board.muted
    assert becomes_muted(sender)


@pytest.mark.parametrize("loud", [1.0, 3.0, 1000.0])
def test_full_scale_and_beyond_never_wrap_and_are_counted(pair, loud):
    """Without back-off a rail of 1 is the DAC's full scale; the digital loopback shows the words that were sent."""
    sender, _ = pair
    samples = (loud * np.exp(2j * np.pi * np.arange(5000) / 50)).astype(np.complex64)
    with open_sink(address(sender), config(backoff_db=None, loopback=1)) as sink:
        sink.repeat(samples)
        assert (sink.clipped > 0) == (loud > 1)
        with open_source(address(sender), config()) as source:
            words = (2048 * np.concatenate([source.read() for _ in range(2)])).view(np.float32).reshape(-1, 2)
    period = np.rint(np.clip(samples[:50].view(np.float32), -1, 1) * 32767).reshape(-1, 2)
    expected = [np.floor(period[(np.arange(len(words)) + shift) % 50] / 16) for shift in range(50)]
    assert min(np.abs(words - guess).max() for guess in expected) <= 1


def test_clips_are_counted(pair):
    sender, _ = pair
    samples = np.zeros(10_000, np.complex64)
    samples[:10] = 10 + 10j
    with open_sink(address(sender), config()) as sink:
        sink.repeat(samples)
        assert sink.describe()["clipped"] == 20


@pytest.mark.parametrize("num", [1000, 3 * PART + 17])
def test_a_short_transmission_leaves_whole(num):
    """In one buffer, when the sink closes; the receiver is there before, and goes on until the sink has closed."""
    with boards(0, 0) as (sender, receiver):
        with open_source(address(receiver), config(gain_db=60)) as source:
            powers, closed = [], threading.Event()

            def listen():
                closed_at = None
                while closed_at is None or len(powers) < closed_at + 8:
                    powers.append(np.abs(source.read()) ** 2)
                    closed_at = len(powers) if closed.is_set() and closed_at is None else closed_at

            listener = threading.Thread(target=listen)
            with open_sink(address(sender), config(gain_db=0)) as sink:
                listener.start()
                sink.send(white(num, 1.0, 2), "burst")
            closed.set()
            listener.join(20)
        power = np.concatenate(powers)
        # exponential with the mean that the gains give; noise is 40 dB below
        assert np.sum(power > 1e-3 * linear(7 - 12 - 60 + 60 - 5)) == pytest.approx(num, rel=0.02)
        assert becomes_muted(sender)


@pytest.mark.parametrize("fields, word", [
    ({"rate_hz": 100e3}, "`rate_hz`"), ({"rate_hz": 70e6}, "`rate_hz`"), ({"freq_hz": 5.8e9}, "`freq_hz`"),
    ({"freq_hz": 100e6}, "`freq_hz`"), ({"bandwidth_hz": 60e6}, "`bandwidth_hz`"), ({"gain_db": 5}, "gain"),
    ({"gain_db": -90}, "gain"), ({"rate_hz": 1e6}, "raise `rate_hz`"),
    ({"bandwidth_hz": 2.0e6}, "raise `bandwidth_hz`"), ({"gain_db": "auto"}, "auto"),
    ({"rate_hz": 61.44e6}, "lower `rate_hz`"), ({"gain_db": math.nan}, "gain"),
])  # fmt: skip
def test_what_the_board_does_not_take_is_refused_before_anything_is_sent(pair, fields, word):
    sender, _ = pair
    before = (sender.board.rate_hz, dict(sender.board.lo_hz), sender.board.tx)
    with pytest.raises(InputError, match=word) as caught, open_sink(address(sender), config(**fields)):
        pass
    assert "\n" not in str(caught.value)
    assert (sender.board.rate_hz, sender.board.lo_hz, sender.board.tx) == before


@pytest.mark.parametrize("fields", [
    {"gain_mode": "loud"}, {"num_buffers": 0}, {"buffer_samples": 10}, {"capture_samples": 1 << 25},
    {"bandwidth_hz": -1},
])  # fmt: skip
def test_what_no_board_takes_is_refused_at_once(fields):
    with pytest.raises(InputError):
        config(**fields)


def test_a_gain_needs_manual_mode(pair):
    with pytest.raises(InputError, match="manual"):
        open_source(address(pair[0]), config(gain_db=30, gain_mode="slow_attack")).__enter__()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RadioError])
def test_a_recording_survives_what_ends_the_reception(pair, tmp_path, error):
    path = tmp_path / "heard.sigmf-meta"
    with pytest.raises(error), open_source(address(pair[0]), config()) as source, recording(path, source) as record:
        blocks = [RecordedSource(source, record).read() for _ in range(2)]
        raise error
    with open_source(f"file:{path}") as again:
        assert np.array_equal(again.read(), np.concatenate(blocks))
    assert subprocess.run([sys.executable, "-m", "sigmf.validate", path], capture_output=True).returncode == 0
    assert len(list(tmp_path.iterdir())) == 2


def test_one_contiguous_capture_ends_by_itself(pair):
    with open_source(address(pair[0]), config(capture_samples=200_000)) as source:
        assert source.read().size == 200_000 and source.read() is None


@pytest.mark.parametrize("tx_gain_db, loss_db", [(0, 10), (0, 60), (-30, 60)])
def test_a_gain_is_found_that_neither_clips_nor_drowns(tx_gain_db, loss_db):
    """Whether the first gain tried, 40 dB, clips by far, fits, or is too little."""
    with boards(0, 0, loss_db=loss_db) as (sender, receiver):
        with open_sink(address(sender), config(gain_db=tx_gain_db)) as sink:
            sink.repeat(white(50_000, 1.0, 1))
            with open_source(address(receiver), config(gain_db="auto")) as source:
                peak = np.abs(np.concatenate([source.read() for _ in range(4)]).view(np.float32)).max()
                gain_db = source.describe()["gain_db"]
                assert source.clipped == 0 and (-13 < 20 * np.log10(peak) < -1 or gain_db == 71)


def test_advice_on_the_gain(pair):
    sender, receiver = pair
    with open_sink(address(sender), config(gain_db=0)) as sink:
        sink.repeat(white(50_000, 1.0, 1))
        for gain_db, word in ((71, "clips"), (0, "raise --gain-db")):
            with open_source(address(receiver), config(gain_db=gain_db)) as source:
                source.read()
                assert any(word in text for text in source.describe()["warnings"])


def test_a_busy_board_is_one_line(pair):
    with open_sink(address(pair[0]), config()) as first:
        first.repeat(white(5000, 1.0, 1))
        board = pair[0].board
        before = board.tx, board.tx_gain_db, dict(board.lo_hz), dict(board.powerdown)
        with pytest.raises(RadioError, match="busy"), open_sink(address(pair[0]), config(gain_db=-40, freq_hz=1e9)):
            pass
        with pytest.raises(RadioError, match="busy"):
            list(check(parse(address(pair[0])), config()))
        assert (board.tx, board.tx_gain_db, board.lo_hz, board.powerdown) == before  # who was first is not disturbed


def test_no_board_is_one_line():
    with pytest.raises(RadioError, match="no PlutoSDR at ip:127.0.0.1:1 ") as caught:
        open_source("pluto:ip:127.0.0.1:1", config()).__enter__()
    assert "\n" not in str(caught.value)


def test_a_hung_refill_ends_with_a_named_error_and_the_board_closes(pair):
    server = pair[0]
    with open_source(address(server), config()) as source:
        source.read()
        with server.air.changed:
            server.board.stalled = True
        started = time.monotonic()
        with pytest.raises(RadioTimeoutError):
            for _ in range(6):
                source.read(1.0)
        assert time.monotonic() - started < 12


def test_a_pulled_cable_is_one_line(pair):
    server = pair[0]
    with pytest.raises(RadioError) as caught, open_source(address(server), config()) as source:
        source.read()
        server.disconnect()
        for _ in range(6):
            source.read(1.0)
    assert "\n" not in str(caught.value)


def test_a_board_is_silenced_after_a_crash(pair):
    server = pair[0]
    sink = open_sink(address(server), config())
    sink.__enter__()
    sink.repeat(white(5000, 1.0, 1))
    sink.board.mutes = False  # what is left when a process is killed
    sink.__exit__(None, None, None)
    assert not server.board.muted
    assert "simulated" in silence(parse(address(server))) and becomes_muted(server)


def test_a_board_is_silenced_at_exit_where_no_with_block_does_it(pair):
    """A signal may come after a sink is open and before its `with` block has begun."""
    done = run_python(
        """
        import numpy as np
        from airnet_sdr.dsp.radio import open_sink
        sink = open_sink(sys.argv[1])
        sink.__enter__()
        sink.repeat(np.ones(5000, np.complex64))
        print(sink.board.mutes)
        sys.exit(7)
        """,
        address(pair[0]),
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (7, "True", "")
    assert becomes_muted(pair[0])


def test_who_waits_for_ever_hears(pair):
    with open_source(address(pair[0]), config(timeout_s=math.inf)) as source:
        assert source.read().size == PART


@pytest.mark.parametrize("pieces", [1, 7, 40])
def test_a_long_transmission_streams_without_a_gap(monkeypatch, pieces):
    """Word for word through the digital loopback, in whatever pieces it comes; the last buffer's rest is silence."""
    monkeypatch.setattr("airnet_sdr.dsp.radio.pluto.HOLD_SAMPLES", 2 * PART)
    monkeypatch.setattr("airnet_sdr.dsp.radio.pluto.STREAM_SAMPLES", PART)
    samples = white(11 * PART + 317, 1.0, 3)
    heard, sent = [], threading.Event()
    with boards(0) as (server,), open_source(address(server), config()) as source:

        def listen():
            sent_at = None
            while sent_at is None or len(heard) < sent_at + 8:
                heard.append(source.read())
                sent_at = len(heard) if sent.is_set() and sent_at is None else sent_at

        listener = threading.Thread(target=listen)
        with open_sink(address(server), config(loopback=1)) as sink:
            listener.start()
            for piece in np.array_split(samples, pieces):
                sink.send(piece)
        sent.set()
        listener.join(20)
        assert sink.clipped == 0 and becomes_muted(server)
    words = 2048 * np.concatenate(heard)
    expected = samples * np.float32(10 ** (-12 / 20) * 2048)  # of the first, 1000 and more
    start = int(np.flatnonzero(np.abs(words) > 100)[0])  # before and after, the receiver's own noise
    assert np.abs((words[start:][: samples.size] - expected).view(np.float32)).max() <= 1.2  # rounded downwards
    assert np.abs(words[start + samples.size :]).max() < 10


def test_an_underflow_is_reported_and_no_overflow():
    """Each core has its own register: the transmitter's tells of the transmitter."""
    with boards(0, realtime=True) as (server,), open_sink(address(server), config()) as sink:
        sink._streaming = True  # as after a long beginning
        sink.send(white(2 * PART, 1.0, 1))
        sink.send(white(17 * PART, 1.0, 1))
        time.sleep(20 * PART / 2.5e6 + 0.3)
        sink.send(white(17 * PART, 1.0, 1))
        assert sink.describe()["underflow"] and server.board.lost["TX"] > 0 and server.board.lost["RX"] == 0


def test_an_overflow_is_reported():
    with boards(0, realtime=True) as (server,), open_source(address(server), config()) as source:
        source.read()
        time.sleep(PART * 6 / 2.5e6 + 0.3)
        for _ in range(5):
            source.read()
        assert source.describe()["overflow"] and any("overflow" in text for text in source.describe()["warnings"])


def test_a_check_says_what_is_there_and_leaves_it_silent(pair):
    lines = list(check(parse(address(pair[0])), config()))
    assert "simulated" in lines[0] and "libiio" in lines[1]
    evm_db = float(re.search(r"EVM (-[0-9.]+) dB", "\n".join(lines))[1])
    assert evm_db == pytest.approx(-56, abs=2)  # 16 bits cut to 12, error up to a whole step; 12 dB of back-off
    assert "gain -3 to 71 dB" in "\n".join(lines) and "little is on the air" in lines[-1]
    assert becomes_muted(pair[0]) and pair[0].board.loopback == 0


def test_a_check_advises_a_gain_for_what_is_on_the_air(pair):
    with open_sink(address(pair[0]), config(gain_db=0)) as sink:
        sink.repeat(white(50_000, 1.0, 1))
        advice = list(check(parse(address(pair[1])), config()))[-1]
    gain_db = float(re.search(r"--gain-db ([0-9]+)", advice)[1])
    assert 7 - 12 - 60 + gain_db - 5 == pytest.approx(-6 - 10, abs=4)  # peaks are some 10 dB above the mean


def test_a_board_that_gives_back_something_else_fails_its_check(pair, monkeypatch):
    monkeypatch.setattr(pair[0].board, "set_loopback", lambda mode: None)
    with pytest.raises(RadioError, match="EVM"):
        list(check(parse(address(pair[0])), config()))
    assert becomes_muted(pair[0])


@pytest.mark.parametrize("module, word", [("adi", "adi"), ("iio", "iio")])
def test_a_missing_library_says_what_to_install(monkeypatch, module, word):
    for name in [name for name in sys.modules if name.split(".")[0] in ("adi", "iio")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RadioError, match="pip install") as caught:
        open_source("pluto:ip:127.0.0.1:1", config()).__enter__()
    assert word in str(caught.value)


def test_without_libiio_itself_one_line_says_so():
    """As where Debian's libiio0 is not installed: the loader finds nothing; a process of its own, to load it afresh."""
    done = run_python("""
        import ctypes.util
        find = ctypes.util.find_library
        ctypes.util.find_library = lambda name: None if name == "iio" else find(name)
        from airnet_sdr.dsp.radio import open_sink
        from airnet_sdr.dsp.host.command import CommandParser, run_command
        sys.exit(run_command(CommandParser(prog="send"), open_sink("pluto:ip:127.0.0.1:1").__enter__))
    """)
    assert done.returncode == 3 and done.stderr.count("\n") == 1
    assert "libiio is missing" in done.stderr and "libiio0" in done.stderr


def test_the_wrong_pylibiio_is_named(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.0")
    with pytest.raises(RadioError, match="pylibiio<1"):
        open_source("pluto:ip:127.0.0.1:1", config()).__enter__()
