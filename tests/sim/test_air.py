"""The air as a process of its own between two sockets, and its relay in this process."""

import re
import signal
import socket as os_socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zmq

from airnet_sdr.dsp.errors import RadioTimeoutError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT
from airnet_sdr.dsp.radio import RadioConfig, open_sink, open_source
from airnet_sdr.dsp.radio.scale import NOMINAL_POWER
from airnet_sdr.sim import air
from airnet_sdr.sim.channel import Channel, ChannelConfig, channel_preset
from airnet_sdr.sim.channel.control import Control, ControlConfig
from airnet_sdr.sim.demo import free_ports

ROOT = Path(__file__).resolve().parents[2]
PATIENT = RadioConfig(timeout_s=20.0)  # an air process takes seconds to start on a busy machine
RAW = RadioConfig(timeout_s=20.0, backoff_db=None)
BLOCK = 8192  # of the channel: what is sent in such messages leaves in such messages


@pytest.fixture
def endpoints():
    with os_socket.socket() as one, os_socket.socket() as two:
        for probe in (one, two):
            probe.bind(("127.0.0.1", 0))
        return [f"zmq:tcp://127.0.0.1:{probe.getsockname()[1]}" for probe in (one, two)]


@pytest.fixture
def air_process(endpoints):
    command = [sys.executable, "sim/air.py", "--rx", endpoints[0] + "?bind=1", "--tx", endpoints[1] + "?bind=1"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


def blocks_numbered(first, num):
    return [np.full(BLOCK, number, np.complex64) for number in range(first, first + num)]


def send(address, blocks):
    with open_sink(address, RAW) as sink:
        for block in blocks:
            sink.send(block)


def read(source, num):
    blocks = []
    while sum(block.size for block in blocks) < num * BLOCK:
        blocks.append(source.read())
    return np.concatenate(blocks).reshape(-1, BLOCK)


def numbers(blocks):
    """The number each block carries; that every block is whole, and as it was sent, is checked on the way."""
    assert np.all(blocks == blocks[:, :1])
    return blocks[:, 0].real.astype(int)


def stop(process):
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    return [int(number) for number in re.findall(r"\d+", out)]


@pytest.mark.parametrize("receiver_first", [True, False])
def test_nothing_is_lost_whoever_starts_first_and_sigterm_ends_it_well(air_process, endpoints, receiver_first):
    sending = threading.Thread(target=send, args=(endpoints[0], blocks_numbered(0, 100)))
    if not receiver_first:
        sending.start()
        time.sleep(0.3)
    with open_source(endpoints[1], PATIENT) as source:
        if receiver_first:
            with pytest.raises(RadioTimeoutError):
                source.read(timeout_s=0.3)
            sending.start()
        np.testing.assert_array_equal(numbers(read(source, 100)), np.arange(100))
    sending.join()
    assert stop(air_process) == [100 * BLOCK, 100 * BLOCK]


def test_a_slow_receiver_loses_nothing(air_process, endpoints):
    with ThreadPoolExecutor(1) as executor:
        executor.submit(send, endpoints[0], blocks_numbered(0, 1000))  # 66 MB: more than all queues hold
        with open_source(endpoints[1], PATIENT) as source:
            first = read(source, 1)
            time.sleep(0.5)
            np.testing.assert_array_equal(numbers(np.concatenate([first, read(source, 999)])), np.arange(1000))


def test_either_end_may_die_and_come_back(air_process, endpoints):
    with ThreadPoolExecutor(1) as executor:
        sending = executor.submit(send, endpoints[0], blocks_numbered(0, 500))  # more than the dead one's queues hold
        with open_source(endpoints[1], PATIENT) as source:
            before = numbers(read(source, 20))
        with open_source(endpoints[1], PATIENT) as source:  # the receiver's successor
            after = []
            while not after or after[-1] != 499:
                after.extend(numbers(read(source, 1)))
            sending.result()
            send(endpoints[0], blocks_numbered(1000, 30))  # the sender's successor
            again = numbers(read(source, 30))
    np.testing.assert_array_equal(before, np.arange(20))
    np.testing.assert_array_equal(after, np.arange(after[0], 500))  # one gap, of whole messages
    assert after[0] >= 20
    np.testing.assert_array_equal(again, np.arange(1000, 1030))


def test_the_relay_is_the_channel_bit_for_bit_and_ends_when_idle(endpoints):
    config, rng = channel_preset("bench"), np.random.default_rng(5)
    samples = rng.normal(scale=np.sqrt(NOMINAL_POWER / 2), size=(50_000, 2)).astype(np.float32).view(np.complex64)[:, 0]

    def relay():
        with open_source(endpoints[0] + "?bind=1", RAW) as source, open_sink(endpoints[1] + "?bind=1", RAW) as sink:
            air.relay(source, sink, config, seed=7, idle_s=0.3)
            return sink.samples

    with ThreadPoolExecutor(2) as executor:
        relaying = executor.submit(relay)
        executor.submit(send, endpoints[0], np.split(samples, [1, 1000, 30_000]))
        channel = Channel(config, RAW.rate_hz, RAW.freq_hz, 7, signal_power=NOMINAL_POWER)
        expected = np.concatenate([channel.process(samples), channel.flush()])
        received = []
        with open_source(endpoints[1], PATIENT) as source:
            while sum(map(len, received)) < expected.size:
                received.append(source.read())
        assert relaying.result() == expected.size
    np.testing.assert_array_equal(np.concatenate(received), expected)


def test_a_recording_goes_through_at_its_own_rate_and_scale(tmp_path):
    samples = np.linspace(0, 1.7, 20_000).astype(np.complex64)  # above full scale: neither scaled nor clipped
    config = RadioConfig(freq_hz=915e6, rate_hz=1e6, backoff_db=None)
    with open_sink(f"file:{tmp_path}/in.sigmf-meta", config) as sink:
        sink.send(samples)
    assert air.main(["--rx", f"file:{tmp_path}/in.sigmf-meta", "--tx", f"file:{tmp_path}/out.sigmf-meta"]) == 0
    with open_source(f"file:{tmp_path}/out.sigmf-meta") as source:
        np.testing.assert_array_equal(np.concatenate(list(source)), samples)
    assert (source.rate_hz, source.freq_hz) == (1e6, 915e6)


@pytest.mark.parametrize("rx, status", [("udp:1", 1), ("file:missing.sigmf-meta", 1), ("pluto:ip:127.0.0.1:1", 3)])
def test_errors_are_one_line_with_their_exit_status(tmp_path, capsys, rx, status):
    assert air.main(["--rx", rx, "--tx", f"file:{tmp_path}/out.sigmf-meta"]) == status
    assert capsys.readouterr().err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_running_air_is_changed(endpoints):
    """Clean at first, at 0 dB once asked for; what makes no sense is refused and changes nothing."""
    port = free_ports(1)[0]
    config = ControlConfig(control=f"tcp://127.0.0.1:{port}")
    ones = [np.ones(BLOCK, np.complex64)] * 4
    with zmq.Context() as context, context.socket(zmq.REQ) as asking:
        asking.linger = 0
        asking.connect(config.control)

        def ask(request):
            asking.send_string(request)
            assert asking.poll(10_000)
            return asking.recv_string()

        with open_source(endpoints[1], RAW) as received, Control(config) as control:
            with open_sink(endpoints[1] + "?bind=1", RAW) as sink, open_source(endpoints[0] + "?bind=1", RAW) as source:
                relaying = threading.Thread(
                    target=air.relay, args=(source, sink, ChannelConfig(), 1, 5.0, control), daemon=True
                )
                relaying.start()
                with open_sink(endpoints[0], RAW) as sender:
                    for block in ones:
                        sender.send(block)
                    clean = read(received, 4)
                    assert "snr_db" in ask('{"snr_db": 1000}')
                    assert "sparkle" in ask('{"sparkle": 1}')
                    assert "JSON" in ask("[1]") and "JSON" in ask("{")
                    assert "echoes" in ask('{"echoes": 5}') and "interference" in ask('{"interference": true}')
                    asking.send_multipart([b"{", b'{"snr_db": 1000}'])  # the last part is the request
                    assert asking.poll(10_000) and "snr_db" in asking.recv_string()
                    assert "half the rate" in ask('{"cfo_hz": 1e9}')
                    assert ask('{"snr_db": 0, "echoes": []}') == "ok"
                    for block in ones:
                        sender.send(block)
                    noisy = read(received, 4)
                relaying.join(30)
    assert np.array_equal(clean, np.ones_like(clean))
    assert np.var(noisy) == pytest.approx(NOMINAL_POWER / DEFAULT_FORMAT.occupancy, rel=0.1)
