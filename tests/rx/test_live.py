"""The feed of the lab page: its messages, what a receiver tells, and that nobody has to listen."""

import json
import threading
import time

import numpy as np
import pytest
import zmq

from airnet_sdr.dsp.errors import InputError, LinkError, RadioTimeoutError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT
from airnet_sdr.dsp.radio import RadioConfig
from airnet_sdr.rx.config import ListenConfig, LiveConfig, ReceiveConfig
from airnet_sdr.rx.live import INTERVAL_S, NUM_SAMPLES, LiveFeed, LiveSource, receive_live
from airnet_sdr.rx.live_message import DTYPES, MAGIC, MAX_BYTES, Message, pack, unpack
from airnet_sdr.rx.samples import ArraySource
from airnet_sdr.sim.loopback import transmit
from airnet_sdr.tests.command import save_few_images, save_untrained
from airnet_sdr.tx.sender import make_burst

SOME = Message(
    {"kind": "display", "snr_db": 3.5},
    {"a": np.arange(4, dtype=np.complex64), "b": np.ones((2, 3), np.float32), "c": np.zeros(0, np.uint8)},
)


def test_a_message_arrives_as_it_was():
    got = unpack(pack(SOME))
    assert got.values == SOME.values and got.arrays.keys() == SOME.arrays.keys()
    for name, array in SOME.arrays.items():
        assert got.arrays[name].dtype == array.dtype and np.array_equal(got.arrays[name], array)


def test_messages_that_do_not_fit_are_not_made():
    for message in (
        Message({}, {"a": np.zeros(MAX_BYTES, np.uint8)}),
        Message({"text": "x" * MAX_BYTES}, {}),
        Message({}, {"a": np.zeros(3)}),  # float64
    ):
        with pytest.raises(LinkError):
            pack(message)


def with_header(header, rest=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return MAGIC + (len(text) if length is None else length).to_bytes(4, "big") + text + rest


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        MAGIC,
        pack(SOME)[:-1],
        pack(SOME) + b"x",
        with_header(b"\xff\xfe"),
        with_header([1, 2]),
        with_header({"arrays": []}),
        with_header({}),
        with_header({"arrays": {"a": ["<f8", [1]]}}, bytes(8)),
        with_header({"arrays": {"a": ["|O", [1]]}}, bytes(8)),
        with_header({"arrays": {"a": ["<f4", [-1]]}}, bytes(4)),
        with_header({"arrays": {"a": ["<f4", [1 << 40, 1 << 40]]}}),
        with_header({"arrays": {"a": ["<f4", ["1"]]}}, bytes(4)),
        with_header({"arrays": {"a": ["<f4", [1] * 5]}}, bytes(4)),
        with_header({"arrays": {"a": "<f4"}}, bytes(4)),
        with_header(b"[" * 5000),
        with_header({"arrays": {}}, length=1 << 31),
        b"\0" * (MAX_BYTES + 1),
    ],
)
def test_what_is_no_message_is_told_in_one_line(content):
    with pytest.raises(LinkError) as told:
        unpack(content)
    assert "\n" not in str(told.value)


def test_random_bytes_in_place_of_a_message_do_no_harm():
    rng = np.random.default_rng(1)
    whole = bytearray(pack(SOME))
    for _ in range(500):
        hit = whole.copy()
        for at in rng.integers(len(hit), size=3):
            hit[at] = rng.integers(256)
        try:
            assert all(array.dtype.str in DTYPES for array in unpack(bytes(hit)).arrays.values())
        except LinkError:
            pass


@pytest.mark.parametrize(
    "address", ["tcp://", "tcp://host", "tcp://h:0", "tcp://h:70000", "ipc:///tmp/x", "tcp://a b:1"]
)
def test_a_page_is_at_a_tcp_address(address):
    with pytest.raises(InputError, match="live"):
        LiveConfig(live=address)


def test_names_are_plain():
    with pytest.raises(InputError, match="live_name"):
        LiveConfig(live_name="<b>")


@pytest.fixture
def page():
    """A socket in place of the page, and its address."""
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        socket.linger = 0
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        yield socket, f"tcp://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def sent(tmp_path_factory):
    """Samples of an untrained network at 12 dB, two cycles, and a folder of few images."""
    folder = tmp_path_factory.mktemp("live")
    burst = make_burst(str(save_untrained(folder / "fashion.safetensors")), uep="none", seed=1)
    return transmit(burst, snr_db=12, cycles=2, seed=1), str(save_few_images(folder / "few", 60))


def receive(samples, address, data_dir, **listening):
    source = ArraySource(np.array_split(samples, 40), RadioConfig())
    networks = []
    receive_live(
        source,
        ReceiveConfig(data_dir=data_dir),
        ListenConfig(**listening),
        LiveConfig(live=address, live_name="rx", live_images=50),
        on_reception=networks.append,
    )
    return networks


def test_a_page_gets_what_was_heard_and_every_network(sent, page):
    socket, address = page
    messages = []
    done = threading.Event()

    def take():
        while not done.is_set():
            if socket.poll(50):
                messages.append(unpack(socket.recv()))

    taking = threading.Thread(target=take)
    taking.start()
    try:
        networks = receive(sent[0], address, sent[1])
        time.sleep(0.3)
    finally:
        done.set()
        taking.join()
    assert {message.values["name"] for message in messages} == {"rx"}
    displays = [message for message in messages if message.values["kind"] == "display"]
    results = [message for message in messages if message.values["kind"] == "result"]
    last = displays[-1].values
    assert last["flowing"] and last["heard"] > 0 and last["lost"] == 0
    assert last["snr_db"] == pytest.approx(12, abs=0.5)
    with_frames = [message.arrays for message in displays if "matched" in message.arrays]
    assert all(message.arrays["samples"].size <= NUM_SAMPLES for message in displays)
    arrays = with_frames[-1]
    assert (
        arrays["symbol"].max() < DEFAULT_FORMAT.max_symbols_per_frame
        and arrays["symbol"].size == arrays["matched"].size
    )
    assert np.mean(arrays["inv_noise_var"]) == pytest.approx(10**1.2, rel=0.15)
    assert results and len(networks) >= len(results)
    newest = results[-1]
    assert (newest.values["scheme"], newest.values["images"]) == ("analog", 50)
    assert newest.values["report"]["frames"]["lost"] == 0
    assert newest.values["accuracy"] == newest.values["report"]["accuracy"]
    pictures, labels, guesses = (newest.arrays[name] for name in ("pictures", "labels", "guesses"))
    assert pictures.shape == (12, 1, 28, 28) and labels.shape == guesses.shape == (12,)
    layers = newest.values["report"]["layers"]
    assert all(-40 < layer["nmse_expected_db"] < 0 for layer in layers)


def test_a_receiver_does_not_wait_for_a_page(sent):
    """Nobody listens at the address: the same networks, and displays cost microseconds."""
    networks = receive(sent[0], "tcp://127.0.0.1:9", sent[1])
    assert networks and networks[-1].report["frames"]["lost"] == 0
    feed = LiveFeed("tcp://127.0.0.1:9", "rx")
    samples = np.zeros(NUM_SAMPLES, np.complex64)
    started = time.process_time()
    for _ in range(200):
        feed.show({"flowing": True}, {"samples": samples})
    feed.close()
    assert (time.process_time() - started) / 200 < 0.1 * INTERVAL_S


def test_a_receiver_that_hears_nothing_says_so():
    """Waiting is cut into short waits, each of them shown; the caller's timeout stays."""

    class Silent:
        config = RadioConfig()

        def read(self, timeout_s):
            time.sleep(min(timeout_s, 0.01))
            raise RadioTimeoutError("nothing")

    class Shown:
        num = 0

        def waiting(self):
            self.num += 1

    shown = Shown()
    with pytest.raises(RadioTimeoutError):
        LiveSource(Silent(), shown).read(0.1)
    assert shown.num > 1
