"""SoapySDR: through its real bindings, a driver compiled here, its network server, and SoapyPlutoSDR where it is."""

import contextlib
import shutil
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from airnet_sdr.dsp.errors import InputError, RadioError, RadioTimeoutError
from airnet_sdr.dsp.radio import RadioConfig, open_sink, open_source
from airnet_sdr.dsp.radio.soapy_library import library
from airnet_sdr.dsp.units import db, linear
from airnet_sdr.tests.command import environment, wait_for
from airnet_sdr.tests.link import white
from airnet_sdr.tests.pluto import boards, needs_libiio

SOURCE = Path(__file__).resolve().parents[1] / "soapy" / "wire.cpp"
WIRE = "soapy:driver=wire"


def missing():
    """Why the tests cannot run here, or None."""
    try:
        library()
    except RadioError as error:
        return str(error)
    return None if shutil.which("g++") else "no g++ to compile the test driver"


pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    """The test driver, compiled; its folder."""
    folder = tmp_path_factory.mktemp("soapy")
    command = ["g++", "-std=c++17", "-shared", "-fPIC", "-O1", "-o", folder / "libwireSupport.so", SOURCE, "-lSoapySDR"]
    done = subprocess.run(command, capture_output=True, text=True)
    if "SoapySDR/Device.hpp" in done.stderr:
        pytest.skip("SoapySDR's headers are not here: apt-get install libsoapysdr-dev")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def wire(driver):
    """The test driver loaded into this process, its wire empty."""
    library().loadModules()  # the installed ones, which are not looked for once one was loaded
    library().loadModule(str(driver / "libwireSupport.so"))
    return WIRE


def config(**fields):
    return RadioConfig(**{"timeout_s": 5.0} | fields)


def exchanged(samples, sending=WIRE, receiving=WIRE, tx_gain_db=-10.0):
    """What a source hears of samples that a sink sends; the source is settled before."""
    heard = []
    with open_sink(sending, config(gain_db=tx_gain_db)) as sink:
        feed = threading.Thread(target=lambda: sink.send(np.zeros(1 << 20, np.complex64)))
        feed.start()  # what a source throws away at first
        with open_source(receiving, config(gain_db=60)) as source:
            feed.join(30)
            send = threading.Thread(target=lambda: sink.send(samples))
            send.start()
            total = (1 << 20) - int(0.3 * 2.5e6) + samples.size
            while sum(map(len, heard)) < total // 65536 * 65536:
                heard.append(source.read())
            send.join(30)
            found = sink.describe(), source.describe()
    return np.concatenate(heard), *found


def test_what_is_sent_is_heard_sample_for_sample(wire):
    """12 dB of back-off, 10 dB of attenuation, 60 dB of gain being 1: and not a sample more or less."""
    samples = white(300_000, 1.0, 1)
    heard, sent, received = exchanged(samples)
    start = int(np.flatnonzero(np.abs(heard) > 0)[0])
    assert start == (1 << 20) - int(0.3 * 2.5e6)
    expected = samples[: heard.size - start] * np.float32(10 ** (-22 / 20))
    assert np.abs(heard[start:][: expected.size] - expected).max() < 1e-6
    assert "wire" in sent["device"] and received["libraries"]["SoapySDR"].startswith("0.")
    assert (sent["gain_db"], received["gain_db"], received["overflow"], received["warnings"]) == (-10, 60, False, [])


def test_a_sink_leaves_its_least_gain(wire):
    with open_sink(wire, config(gain_db=0)) as sink:
        device = sink._device.device
        assert device.getGain(library().SOAPY_SDR_TX, 0) == 0
        with open_sink(wire, config()) as other:
            assert other.describe()["gain_db"] == -60
        sink._device.set_gain(0)
    with open_source(f"{wire},carrier=1", config()) as source:
        assert source._device.device.getGain(library().SOAPY_SDR_TX, 0) == -60


def test_a_gain_is_found_where_none_is_asked_for(wire):
    """A tone of 0.01 at 60 dB: -16 dB over full scale needs 24 more, of which the device has 10."""
    for gain_db in (None, "auto"):
        with open_source(f"{wire},carrier=1", config(gain_db=gain_db)) as source:
            assert source.describe()["gain_db"] == 70
            assert db(np.mean(np.abs(source.read()) ** 2)) == pytest.approx(-30, abs=0.1)


def test_a_capture_ends_by_itself(wire):
    with open_source(f"{wire},carrier=1", config(gain_db=60, capture_samples=100_001)) as source:
        assert source.read().size == 100_001 and source.read() is None


@pytest.mark.parametrize("fields, word", [
    ({"rate_hz": 20e6}, "`rate_hz` must be 100000 to 10000000"), ({"rate_hz": 9.5e6}, "makes 9000000 samples/s"),
    ({"freq_hz": 50e6}, "`freq_hz` must be 100000000 to"), ({"gain_db": 71.0}, "`gain_db` must be 0 to 70"),
    ({"gain_mode": "hybrid"}, "gain_mode"),
])  # fmt: skip
def test_what_the_device_does_not_take_is_refused(wire, fields, word):
    with pytest.raises(InputError, match=word) as caught:
        open_source(wire, config(**fields)).__enter__()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("target, word", [
    ("driver=wire,antenna=C", "antennas A, B; got C"), ("driver=wire,channel=1", "1 such channels"),
    ("driver=nosuch", "soapy:driver=nosuch"),
])  # fmt: skip
def test_what_is_not_there_is_one_line(wire, target, word):
    with pytest.raises((InputError, RadioError), match=word) as caught:
        open_source(f"soapy:{target}", config()).__enter__()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["soapy:", "soapy:wire", "soapy:driver=a,b", "soapy:driver=a,channel=x", "soapy:a=1,a=2"]
)
def test_a_device_string_is_keys_and_values(text):
    with pytest.raises(InputError, match="makes no sense"):
        open_source(text)


def test_losses_are_noted_and_silence_ends_in_time(wire):
    with open_source(f"{wire},carrier=1", config(gain_db=60)) as source:
        source._device.device.writeSetting("lose", "1")
        assert source.read().size and source.describe()["overflow"]
        source._device.device.writeSetting("break", "1")
        with pytest.raises(RadioError, match="STREAM_ERROR"):
            source.read()
    with pytest.raises(RadioTimeoutError, match="within 1 s"):
        open_source(wire, config(gain_db=60, timeout_s=1.0)).__enter__()


class Halting:
    """A device that halts after each of these numbers of samples, which count up."""

    def __init__(self, *nums):
        self.left, self.next = list(nums), 0

    def readStream(self, stream, buffers, size, flags, timeout_us):
        if not self.left or not (num := min(self.left[0], size)):
            self.left = self.left[1:]
            time.sleep(1e-6 * timeout_us)
            return SimpleNamespace(ret=library().SOAPY_SDR_TIMEOUT)
        self.left[0] -= num
        buffers[0][:num] = np.arange(self.next, self.next + num)
        self.next += num
        return SimpleNamespace(ret=num)


def test_what_came_before_a_timeout_is_read(wire, monkeypatch):
    """A stream gives it at once; a capture, which is whole, begins with it."""
    with open_source(f"{wire},carrier=1", config(gain_db=60)) as source, monkeypatch.context() as patch:
        patch.setattr(source._device, "device", Halting(1000, 500))
        for expected in (range(1000), range(1000, 1500)):
            assert source.read(0.1).real.tolist() == list(expected)
        with pytest.raises(RadioTimeoutError):
            source.read(0.1)
    capture = config(gain_db=60, capture_samples=1200)
    with open_source(f"{wire},carrier=1", capture) as source, monkeypatch.context() as patch:
        patch.setattr(source._device, "device", Halting(1000, 500))
        with pytest.raises(RadioTimeoutError):
            source.read(0.1)
        assert source.read(0.1).real.tolist() == list(range(1200)) and source.read() is None


def test_without_the_bindings_one_line_says_what_to_install():
    code = """
        import sys
        from airnet_sdr.dsp.host.command import CommandParser, run_command
        from airnet_sdr.dsp.radio import open_sink, soapy_library
        soapy_library.FOLDERS = ()
        sys.modules["SoapySDR"] = None
        sys.exit(run_command(CommandParser(prog="send"), open_sink("soapy:driver=wire").__enter__))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 3 and done.stderr.count("\n") == 1 and "python3-soapysdr" in done.stderr


@pytest.fixture
def server(driver):
    """SoapySDR's network server with the test driver."""
    if (command := shutil.which("SoapySDRServer")) is None:
        pytest.skip("SoapySDRServer is not here: apt-get install soapyremote-server")
    if "remote" not in subprocess.run(["SoapySDRUtil", "--info"], capture_output=True, text=True).stdout:
        pytest.skip("SoapySDR's client module is not here: apt-get install soapysdr-module-remote")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = {**environment(), "SOAPY_SDR_PLUGIN_PATH": str(driver)}
    process = subprocess.Popen(
        [command, f"--bind=127.0.0.1:{port}"], env=path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def listens():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return True

    try:
        wait_for(listens, 20)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2)
            pytest.skip("SoapySDRServer ends by itself: it needs the Avahi daemon, apt-get install avahi-daemon")
        yield f"soapy:driver=remote,remote=tcp://127.0.0.1:{port},remote:driver=wire"
    finally:
        process.kill()
        process.wait()


def test_a_radio_of_another_machine(server):
    """A carrier through SoapySDRServer: opened, tuned, its gain set, received; over TCP, as UDP may lose packets."""
    with open_source(f"{server},remote:carrier=1,remote:prot=tcp", config(gain_db=60, rate_hz=1e6)) as source:
        samples = source.read()
    assert db(np.mean(np.abs(samples) ** 2)) == pytest.approx(-40, abs=0.1)


def pluto_driver():
    """Whether SoapyPlutoSDR is installed, or found through SOAPY_SDR_PLUGIN_PATH."""
    if shutil.which("SoapySDRUtil") is None:
        return False
    return "plutosdr" in subprocess.run(["SoapySDRUtil", "--info"], capture_output=True, text=True).stdout


needs_pluto_driver = pytest.mark.skipif(
    not pluto_driver(), reason="SoapyPlutoSDR is not here: compile it and name its folder in SOAPY_SDR_PLUGIN_PATH"
)


@needs_libiio
@needs_pluto_driver
def test_soapy_pluto_sends_and_receives():
    """Against virtual boards, the other end being this program's own driver: SoapyPlutoSDR has one board a process.

    7 dBm - 12 of back-off - 10 - 60 of path + 60 - 5 dBm full scale; a transmit gain of 89 is 0 dB there.
    """
    with boards(0, 0) as (first, second):
        for soapy_sends in (True, False):
            ours, theirs = f"pluto:{second.uri}", f"soapy:driver=plutosdr,uri={first.uri}"
            sending, receiving = (theirs, ours) if soapy_sends else (ours, theirs)
            heard, done = [], threading.Event()
            with open_source(receiving, config(gain_db=60)) as source:

                def listen(source=source, heard=heard, done=done):
                    while not done.is_set():
                        heard.append(source.read())

                listener = threading.Thread(target=listen)
                with open_sink(sending, config(gain_db=79 if soapy_sends else -10)) as sink:
                    listener.start()
                    sink.send(white(1_000_000, 1.0, 1))
                time.sleep(0.2)
                done.set()
                listener.join(30)
            power = np.abs(np.concatenate(heard)) ** 2
            assert power.sum() == pytest.approx(1_000_000 * linear(7 - 12 - 10 - 60 + 60 - 5), rel=0.05)
