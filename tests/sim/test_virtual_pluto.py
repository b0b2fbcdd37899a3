"""The virtual PlutoSDR through the real libiio: what a board does, and what it refuses."""

import contextlib
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from airnet_sdr.dsp.units import db
from airnet_sdr.sim.virtual_pluto.__main__ import cause
from airnet_sdr.sim.virtual_pluto.board import DEFAULT_TIMEOUT_S
from airnet_sdr.tests.pluto import boards, needs_libiio

pytestmark = needs_libiio
RATE_HZ, FREQ_HZ = 2_500_000, 2_400_000_000
NUM = 1 << 15


def opened(server, tx_gain_db=0.0, rx_gain_db=50.0):
    """The board through pyadi-iio, tuned, gain by hand."""
    import adi

    board = adi.Pluto(server.uri)
    board.sample_rate = RATE_HZ
    board.rx_lo = board.tx_lo = FREQ_HZ
    board.rx_rf_bandwidth = board.tx_rf_bandwidth = RATE_HZ
    board.gain_control_mode_chan0 = "manual"
    board.rx_hardwaregain_chan0, board.tx_hardwaregain_chan0 = rx_gain_db, tx_gain_db
    board.rx_buffer_size = NUM
    return board


def release(*opened_boards):
    """Buffers before contexts: the other way round crashes."""
    for board in opened_boards:
        board.rx_destroy_buffer()
        board.tx_destroy_buffer()


def send_tone(board, amplitude=8192, cycles=1000):
    """A tone for ever, at rate/25."""
    board.tx_cyclic_buffer = True
    board.tx(amplitude * np.exp(2j * np.pi * np.arange(25 * cycles) / 25))


def heard(board, skip=5):
    """Samples after what was in the buffers already, in parts of full scale."""
    for _ in range(skip):
        board.rx()
    return board.rx() / 2048


def tone_of(samples):
    """Frequency in Hz and level in dB over full scale of the strongest tone."""
    window = np.hanning(samples.size)
    spectrum = np.fft.fft(samples * window, 8 * samples.size)
    peak = np.argmax(np.abs(spectrum))
    return np.fft.fftfreq(spectrum.size)[peak] * RATE_HZ, float(db(np.abs(spectrum[peak]) ** 2 / window.sum() ** 2))


@pytest.fixture
def pair():
    with boards(23, -21) as servers:
        sender, receiver = map(opened, servers)
        yield sender, receiver, servers
        release(sender, receiver)


def test_the_crystals_shift_carrier_and_clock(pair):
    """44 ppm of 2.4 GHz, and of the tone itself; level: 7 dBm - 12.04 - 60 of path + 50 of gain - 5 dBm full scale."""
    sender, receiver, _ = pair
    send_tone(sender)
    frequency, level_db = tone_of(heard(receiver))
    assert frequency == pytest.approx(100e3 * (1 + 44e-6) + 44e-6 * FREQ_HZ, abs=20)
    assert level_db == pytest.approx(-20.04, abs=0.1)


@pytest.mark.parametrize("tx_gain_db, rx_gain_db", [(-10, 50), (-10.25, 60), (-30, 71)])
def test_gains_are_honest(pair, tx_gain_db, rx_gain_db):
    sender, receiver, _ = pair
    sender.tx_hardwaregain_chan0, receiver.rx_hardwaregain_chan0 = tx_gain_db, rx_gain_db
    send_tone(sender)
    assert tone_of(heard(receiver))[1] == pytest.approx(-20.04 + tx_gain_db + rx_gain_db - 50, abs=0.15)


def test_too_much_gain_clips(pair):
    sender, receiver, _ = pair
    receiver.rx_hardwaregain_chan0 = 71
    send_tone(sender, 30_000)
    words = 2048 * heard(receiver)
    assert words.real.max() == 2047 and words.real.min() == -2048


def test_who_is_tuned_elsewhere_hears_noise(pair):
    """kTB and 3.5 dB over 2.5 MHz: -106.5 dBm, at gain 71 - 5 dBm full scale."""
    sender, receiver, _ = pair
    send_tone(sender)
    receiver.rx_lo, receiver.rx_hardwaregain_chan0 = FREQ_HZ + 10_000_000, 71
    assert db(np.mean(np.abs(heard(receiver)) ** 2)) == pytest.approx(-174 + 63.98 + 3.5 + 71 - 5, abs=0.3)


def test_a_tone_outside_the_receivers_band_does_not_fold_into_it(pair):
    sender, receiver, _ = pair
    send_tone(sender)
    receiver.rx_lo = FREQ_HZ - 1_000_000  # the tone is at 1.1 MHz
    assert tone_of(heard(receiver))[0] == pytest.approx(1.2056e6, abs=1e3)
    receiver.rx_lo = FREQ_HZ - 1_300_000  # at 1.4 MHz, beyond half the rate
    assert tone_of(heard(receiver))[1] < -60


def test_a_transmitter_that_is_off_is_silent(pair):
    sender, receiver, (first, _) = pair
    assert not first.board.muted
    receiver.rx_hardwaregain_chan0 = 71
    send_tone(sender)
    loud = tone_of(heard(receiver))[1]
    sender.tx_destroy_buffer()
    sender.tx_hardwaregain_chan0 = -89.75
    sender._ctrl.find_channel("TX_LO", True).attrs["powerdown"].value = "1"
    assert first.board.muted and tone_of(heard(receiver, 12))[1] < loud - 30


def test_the_digital_loopback_is_exact():
    with boards(0) as (server,):
        board = opened(server)
        board.loopback = 1
        ramp = np.arange(-32768, 32768, 2) + 1j * np.arange(32767, -32769, -2)
        board.tx_cyclic_buffer = True
        board.tx(ramp)
        words = 2048 * heard(board)
        start = int(np.argmin(words.real[: ramp.size]))
        part = np.roll(words, -start)[: NUM // 2]
        expected = (ramp.real.astype(np.int16) >> 4) + 1j * (ramp.imag.astype(np.int16) >> 4)
        at = int(np.flatnonzero(expected.real == part[0].real)[0])
        period = np.roll(words[: ramp.size], -start) if words.size >= ramp.size else part
        assert {complex(v) for v in period} <= {complex(v) for v in expected} and at < 16
        release(board)


def test_four_blocks_are_stale_after_a_change(pair):
    sender, receiver, _ = pair
    send_tone(sender)
    heard(receiver)
    receiver.rx_hardwaregain_chan0 = 30
    levels = [tone_of(receiver.rx() / 2048)[1] for _ in range(8)]
    assert levels[0] == pytest.approx(-20.04, abs=0.2) and levels[7] == pytest.approx(-40.04, abs=0.3)
    assert 3 <= sum(level > -30 for level in levels) <= 5


def test_gain_control_brings_any_level_near_its_target(pair):
    sender, receiver, _ = pair
    receiver.gain_control_mode_chan0 = "slow_attack"
    for tx_gain_db in (0, -5, -12):
        sender.tx_hardwaregain_chan0 = tx_gain_db
        send_tone(sender)
        assert tone_of(heard(receiver, 12))[1] == pytest.approx(-15, abs=2)
        sender.tx_destroy_buffer()


@pytest.mark.parametrize("change", [
    lambda b: setattr(b, "rx_lo", 10_000_000), lambda b: setattr(b, "tx_lo", 7_000_000_000),
    lambda b: setattr(b, "tx_hardwaregain_chan0", 1), lambda b: setattr(b, "tx_hardwaregain_chan0", -90),
    lambda b: setattr(b, "rx_hardwaregain_chan0", 80), lambda b: setattr(b, "rx_rf_bandwidth", 100_000),
    lambda b: setattr(b, "sample_rate", 70_000_000), lambda b: setattr(b, "gain_control_mode_chan0", "loud"),
    lambda b: b._set_iio_attr_float("voltage0", "nosuch", False, 1.0), lambda b: setattr(b, "loopback", 3),
])  # fmt: skip
def test_what_is_out_of_range_is_refused(change):
    with boards(0) as (server,):
        board = opened(server)
        with pytest.raises((OSError, KeyError)):
            change(board)
        assert board.rx_lo == FREQ_HZ and board.sample_rate == RATE_HZ and board.tx_hardwaregain_chan0 == 0


def test_a_gain_is_refused_outside_manual_mode():
    with boards(0) as (server,):
        board = opened(server)
        board.gain_control_mode_chan0 = "fast_attack"
        with pytest.raises(OSError):
            board._set_iio_attr_float("voltage0", "hardwaregain", False, 30.0)


@pytest.mark.parametrize("rate_hz", [600_000, 2_083_334, 5_000_000, 61_440_000])
def test_rates_are_set_through_the_filter(rate_hz):
    with boards(0) as (server,):
        board = opened(server)
        board.sample_rate = rate_hz
        assert board.sample_rate == rate_hz and server.board.fir


def test_a_second_transmitter_finds_the_board_busy(pair):
    import adi

    sender, _, (first, _) = pair
    send_tone(sender)
    other = adi.Pluto(first.uri)
    with pytest.raises(OSError) as caught:
        send_tone(other)
    assert caught.value.errno == 16
    release(other)


def test_two_clients_may_receive_the_same(pair):
    sender, receiver, (_, second) = pair
    other = opened(second)
    send_tone(sender)
    assert tone_of(heard(other))[0] == pytest.approx(tone_of(heard(receiver))[0], abs=1)
    release(other)


def status(board, clear=None, core="cf-ad9361-lpc"):
    """The status register of a core; bits to clear are written."""
    core = board._ctx.find_device(core)
    if clear is not None:
        core.reg_write(0x80000088, clear)
    return core.reg_read(0x80000088)


def test_samples_that_nobody_fetches_in_time_are_lost_and_noted():
    with boards(0, realtime=True) as (server,):
        board = opened(server)
        board.rx()
        status(board, 0xFF)
        time.sleep(NUM * 6 / RATE_HZ + 0.1)
        assert status(board) & 4 and server.board.lost["RX"] > 0
        assert status(board, 0xFF) == 0 or status(board) & 4  # cleared, unless more was lost since
        release(board)


def test_a_transmitter_that_runs_dry_is_noted():
    with boards(0, realtime=True) as (server,):
        board = opened(server)
        core = "cf-ad9361-dds-core-lpc"
        status(board, 0xFF, core)
        board.tx_cyclic_buffer = False
        board.tx(1000 * np.ones(NUM))
        time.sleep(NUM * 2 / RATE_HZ + 0.1)
        assert status(board, core=core) & 1 and status(board) == 0 and server.board.lost["TX"] > 0
        release(board)


GNU_RADIO = """
import os, sys, time
from gnuradio import analog, blocks, gr, iio

uri, path = sys.argv[1:]
top = gr.top_block()
sink = iio.fmcomms2_sink_fc32(uri, [True, True], 32768, False)
sink.set_len_tag_key("")
sink.set_bandwidth(2500000)
sink.set_frequency(2400000000)
sink.set_samplerate(2500000)
sink.set_attenuation(0, 10.0)
sink.set_filter_params("Auto", "", 0, 0)
source = iio.fmcomms2_source_fc32(uri, [True, True], 32768)
source.set_len_tag_key("")
source.set_frequency(2400000000)
source.set_samplerate(2500000)
source.set_gain_mode(0, "manual")
source.set_gain(0, 50)
source.set_quadrature(True)
source.set_rfdc(True)
source.set_bbdc(True)
source.set_filter_params("Auto", "", 0, 0)
heard = blocks.vector_sink_c()
top.connect(analog.sig_source_c(2500000, analog.GR_COS_WAVE, 100e3, 0.25), sink)
top.connect(source, blocks.skiphead(gr.sizeof_gr_complex, 400000), blocks.head(gr.sizeof_gr_complex, 100000), heard)
top.start()
deadline = time.time() + 30
while len(heard.data()) < 100000 and time.time() < deadline:
    time.sleep(0.2)
top.stop()
top.wait()
import numpy
numpy.array(heard.data(), numpy.complex64).tofile(path)
os._exit(0)  # gr-iio's own threads do not end when a flowgraph was short
"""


def gnu_radio():
    """A Python that has GNU Radio with gr-iio, and that it is there: its own, as it needs another NumPy."""
    for python in ("/usr/bin/python3", sys.executable):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            if (
                subprocess.run([python, "-c", "from gnuradio import iio"], capture_output=True, timeout=60).returncode
                == 0
            ):
                return python
    return None


def test_gnu_radio_sends_and_receives_through_it(tmp_path):
    """fmcomms2_sink and fmcomms2_source as they are; 0.25 of full scale: 7 dBm - 12.04 - 10 - 60 + 50 - 5."""
    if (python := gnu_radio()) is None:
        pytest.skip("no Python here has GNU Radio with gr-iio: apt-get install gnuradio")
    with boards(0) as (server,):
        script = tmp_path / "flowgraph.py"
        script.write_text(GNU_RADIO)
        command = [python, str(script), server.uri, str(tmp_path / "heard")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert "not recognized" not in done.stderr  # every attribute that it sets is there
        assert server.board.rx_gain_db == 50 and server.board.tx_gain_db == -10
    samples = np.fromfile(tmp_path / "heard", np.complex64)
    assert samples.size == 100_000
    frequency, level_db = tone_of(samples)
    assert frequency == pytest.approx(100e3, abs=20) and level_db == pytest.approx(-30.04, abs=0.1)


def test_a_rail_alone_is_sent_and_received():
    """Clients may switch on I or Q alone: words of two bytes."""
    with boards(0) as (server,):
        board = opened(server)
        board.loopback = 1
        board.tx_cyclic_buffer = True
        board.tx(16 * np.arange(2048) + 160j)
        heard(board)
        board.rx_destroy_buffer()
        command = ["iio_readdev", "-u", server.uri, "-b", "4096", "-s", "40960", "cf-ad9361-lpc"]
        for channel, steps in (("voltage0", {1}), ("voltage1", {0})):
            data = subprocess.run([*command, channel], capture_output=True, timeout=30)
            words = np.frombuffer(data.stdout, "<i2")
            assert data.returncode == 0 and words.size == 40960
            assert set(np.diff(words.astype(int)) % 2048) == steps
        release(board)


def test_iio_tools_see_a_pluto():
    with boards(0) as (server,):
        info = subprocess.run(["iio_info", "-u", server.uri], capture_output=True, text=True, timeout=30)
        assert info.returncode == 0 and "ERROR" not in info.stdout and info.stderr == ""
        assert "cf-ad9361-lpc" in info.stdout and "(simulated)" in info.stdout
        command = ["iio_readdev", "-u", server.uri, "-b", "65536", "-s", "200000", "cf-ad9361-lpc"]
        data = subprocess.run(command, capture_output=True, timeout=30)
        assert data.returncode == 0 and len(data.stdout) == 4 * 200_000


@pytest.mark.parametrize("hostile", [
    b"", b"\n", b"\r\n" * 50, b"A" * 100_000, b"READ\r\n", b"READ x y z\r\n", b"WRITE iio:device0 a 99999999999\r\n",
    b"OPEN iio:device3 4096\r\n", b"OPEN iio:device3 -1 00000003\r\n", b"OPEN iio:device3 99999999999 00000003\r\n",
    b"OPEN iio:device3 64 00000001\r\n", b"READBUF iio:device3 16\r\n", b"WRITEBUF iio:device2 16\r\n",
    b"OPEN iio:device3 64 00000003\r\nREADBUF iio:device3 13\r\nREADBUF iio:device3 99999999\r\n",
    b"OPEN\r\n", b"OPEN iio:device3\r\n", b"TIMEOUT " + b"9" * 400 + b"\r\n",
    b"CLOSE\r\n", b"CLOSE iio:device9\r\n", b"TIMEOUT x\r\n", b"SET iio:device3 BUFFERS_COUNT 0\r\n", bytes(range(256)),
    b"WRITE iio:device0 INPUT voltage0 sampling_frequency 3\r\nabc", b"\xff\xfe READ\r\n",
])  # fmt: skip
def test_hostile_clients_lose_their_own_connection_at_most(hostile):
    with boards(0) as (server,):
        with socket.create_connection((server.server_address), timeout=5) as client:
            client.sendall(hostile)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
        assert opened(server).rx_lo == FREQ_HZ  # the next client is served
        assert server.board.tx is None


@pytest.mark.parametrize("line", [b"OPEN", b"OPEN iio:device3 64", b"TIMEOUT", b"TIMEOUT " + b"9" * 400])
def test_a_line_without_sense_is_answered_with_an_error_number(line):
    with boards(0) as (server,), socket.create_connection(server.server_address, timeout=5) as client:
        client.sendall(line + b"\r\nVERSION\r\n")
        answers = client.makefile("rb")
        assert answers.readline() == b"-22\n" and answers.readline().endswith(b".virtual\n")
        assert server.board.timeout_s == DEFAULT_TIMEOUT_S


def test_dropped_samples_are_missing():
    """A ramp through the digital loopback: one step of it is larger, by as many samples as were dropped."""
    with boards(0) as (server,):
        board = opened(server)
        board.loopback = 1
        board.tx_cyclic_buffer = True
        board.tx(16 * np.arange(2048) * (1 + 1j))
        parts = [heard(board)]
        cause("drop", server, 10)
        parts += [heard(board, 0) for _ in range(6)]
        steps = np.diff(2048 * np.concatenate(parts).real) % 2048
        assert sorted(set(steps)) == [1, 11] and np.count_nonzero(steps == 11) == 1
        release(board)


def test_faults_on_request(pair):
    sender, receiver, (_, second) = pair
    send_tone(sender)
    heard(receiver)
    receiver._ctx.set_timeout(700)
    cause("stall", second, 0)
    receiver.rx_destroy_buffer()
    with pytest.raises(OSError):
        for _ in range(6):
            receiver.rx()
    second.board.stalled = False
    receiver.rx_destroy_buffer()
    receiver.rx()
    cause("disconnect", second, 0)
    with pytest.raises(OSError):
        for _ in range(6):
            receiver.rx()


def test_the_program_serves_until_it_is_stopped():
    command = [sys.executable, "-m", "sim.virtual_pluto", "--board", "0:ppm=5", "--board", "0", "--clock", "lockstep"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = [process.stdout.readline() for _ in range(2)]
    assert "crystal +5 ppm" in lines[0] and "ip:127.0.0.1:" in lines[1]
    process.terminate()
    assert process.wait(10) == 0 and process.stderr.read() == ""


@pytest.mark.parametrize("options", [
    ["--board", "x"], ["--board", "1:ppm=a"], ["--board", "1:color=2"], ["--board", "99999"], ["--board", "0:ppm=5000"],
    ["--board", "0", "--fault", "smoke@1"], ["--board", "0", "--fault", "drop@1:3"], [],
    ["--board", "0", "--snr-db", "3"],
])  # fmt: skip
def test_bad_options_are_one_line(options):
    command = [sys.executable, "-m", "sim.virtual_pluto", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
