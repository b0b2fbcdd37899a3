"""Real sockets on this machine: every pattern with a small peer, both start orders, peers that die and come back."""

import math
import multiprocessing
import socket as os_socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zmq
import zmq.auth
from zmq.auth.thread import AuthenticationThread

from airnet_sdr.dsp.errors import InputError, RadioError, RadioTimeoutError
from airnet_sdr.dsp.radio import RadioConfig, open_sink, open_source, zmq_stream
from airnet_sdr.dsp.radio.scale import to_full_scale

QUICK = RadioConfig(timeout_s=5.0)
RAW = RadioConfig(timeout_s=5.0, backoff_db=None)


@pytest.fixture
def endpoint():
    with os_socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def peer():
    """Makes plain ZMQ sockets, as a foreign program would."""
    context = zmq.Context()

    def make(socket_type, endpoint, bind):
        socket = context.socket(socket_type)
        socket.RCVTIMEO = socket.SNDTIMEO = 5000
        (socket.bind if bind else socket.connect)(endpoint)
        return socket

    yield make
    context.destroy(linger=0)


@pytest.fixture
def background():
    with ThreadPoolExecutor(1) as executor:
        yield executor.submit


def numbered(first, num):
    """Samples that tell where they are in the stream (exact below 2²⁴)."""
    return np.arange(first, first + num, dtype=np.float32).astype(np.complex64)


def collect(source, num):
    blocks = []
    while sum(block.size for block in blocks) < num:
        blocks.append(source.read())
    return np.concatenate(blocks)


def send_later(delay_s, address, blocks, config=RAW):
    time.sleep(delay_s)
    with open_sink(address, config) as sink:
        for block in blocks:
            sink.send(block)


@pytest.mark.parametrize("sink_binds", [0, 1])
@pytest.mark.parametrize("delay_s", [0.0, 0.3])
@pytest.mark.parametrize("patterns", [("push", "pull"), ("rep", "req"), ("srsran", "srsran")])
def test_every_lossless_pair_in_both_start_orders(endpoint, background, patterns, sink_binds, delay_s):
    blocks = [numbered(1000 * i, 1000) for i in range(30)]  # more messages than both high-water marks hold
    sending = background(send_later, delay_s, f"zmq:{endpoint}?pattern={patterns[0]}&bind={sink_binds}", blocks)
    time.sleep(0.15)
    with open_source(f"zmq:{endpoint}?pattern={patterns[1]}&bind={1 - sink_binds}", QUICK) as source:
        np.testing.assert_array_equal(collect(source, 30_000), numbered(0, 30_000))
    sending.result()
    assert source.describe()["samples"] == 30_000


def test_a_slow_reader_loses_nothing_and_slows_the_sender(endpoint, background):
    blocks = [numbered(i << 16, 1 << 16) for i in range(60)]  # 31 MB: more than the marks and TCP hold together
    sending = background(send_later, 0, f"zmq:{endpoint}?bind=1", blocks)
    with open_source(f"zmq:{endpoint}", QUICK) as source:
        first = source.read()
        time.sleep(0.5)
        assert not sending.done()
        np.testing.assert_array_equal(np.concatenate([first, collect(source, 59 << 16)]), numbered(0, 60 << 16))
    sending.result()


def test_samples_go_out_below_full_scale_and_long_sends_are_cut(endpoint, background):
    rng = np.random.default_rng(3)
    samples = rng.normal(size=(zmq_stream.MAX_MESSAGE_SAMPLES + 5, 2)).astype(np.float32).view(np.complex64)[:, 0]
    sending = background(send_later, 0, f"zmq:{endpoint}?bind=1", [samples], QUICK)
    with open_source(f"zmq:{endpoint}", QUICK) as source:
        blocks = [source.read(), source.read()]
    assert [block.size for block in blocks] == [zmq_stream.MAX_MESSAGE_SAMPLES, 5]
    np.testing.assert_array_equal(np.concatenate(blocks), to_full_scale(samples)[0])
    assert blocks[0].flags.writeable and blocks[0].dtype == np.complex64
    sending.result()


def test_pub_reaches_a_subscriber_that_is_there(endpoint):
    with (
        open_sink(f"zmq:{endpoint}?pattern=pub&bind=1", RAW) as sink,
        open_source(f"zmq:{endpoint}?pattern=sub", QUICK) as source,
    ):
        for _ in range(100):  # what is published before the subscription arrives is lost
            sink.send(numbered(7, 3))
            try:
                block = source.read(timeout_s=0.05)
                break
            except RadioTimeoutError:
                pass
    np.testing.assert_array_equal(block, numbered(7, 3))


def test_push_to_a_foreign_pull_and_pull_from_a_foreign_push_with_key(endpoint, peer):
    pull = peer(zmq.PULL, endpoint, bind=True)
    with open_sink(f"zmq:{endpoint}", RAW) as sink:
        sink.send(numbered(0, 4))
    assert pull.recv() == numbered(0, 4).tobytes()
    push = peer(zmq.PUSH, "tcp://127.0.0.1:*", bind=True)
    with open_source(f"zmq:{push.LAST_ENDPOINT.decode()}", QUICK) as source:
        push.send_multipart([b"key", numbered(4, 4).tobytes()])
        np.testing.assert_array_equal(source.read(), numbered(4, 4))


def test_rep_answers_gnu_radio_with_no_more_than_it_wants_and_srsran_with_all(endpoint, peer, background):
    for pattern in ("rep", "srsran"):
        sending = background(send_later, 0, f"zmq:{endpoint}?pattern={pattern}&bind=1", [numbered(0, 10)])
        req, answers = peer(zmq.REQ, endpoint, bind=False), []
        for request in (np.uint32(4).tobytes(), b"\x00" if pattern == "rep" else b"\xff"):
            req.send(request)
            answers.append(np.frombuffer(req.recv(), np.complex64))
        sending.result()
        assert [answer.size for answer in answers] == [4, 6]
        np.testing.assert_array_equal(np.concatenate(answers), numbered(0, 10))
        req.close()


@pytest.mark.parametrize("pattern, request_bytes", [("req", np.uint32(1 << 20).tobytes()), ("srsran", b"\xff")])
def test_requests_are_what_the_peer_expects(endpoint, peer, background, pattern, request_bytes):
    rep = peer(zmq.REP, endpoint, bind=True)

    def answer():
        request = rep.recv()
        rep.send(numbered(0, 5).tobytes())
        return request

    answering = background(answer)
    with open_source(f"zmq:{endpoint}?pattern={pattern}", QUICK) as source:
        np.testing.assert_array_equal(source.read(), numbered(0, 5))
    assert answering.result() == request_bytes


def test_a_short_wait_forgets_no_request(endpoint, background):
    """The answer to a request that timed out must not be lost: nothing is asked twice."""
    sending = background(send_later, 0.4, f"zmq:{endpoint}?pattern=rep&bind=1", [numbered(0, 9), numbered(9, 9)])
    waits = 0
    with open_source(f"zmq:{endpoint}?pattern=req", QUICK) as source:
        blocks = []
        while len(blocks) < 2:
            try:
                blocks.append(source.read(timeout_s=0.05))
            except RadioTimeoutError:
                waits += 1
    sending.result()
    assert waits >= 4
    np.testing.assert_array_equal(np.concatenate(blocks), numbered(0, 18))


def test_a_requester_recovers_after_its_timeout(endpoint, peer):
    rep = peer(zmq.REP, endpoint, bind=True)
    with open_source(f"zmq:{endpoint}?pattern=req", RadioConfig(timeout_s=0.3)) as source:
        with pytest.raises(RadioTimeoutError, match="no samples came"):
            source.read()
        with ThreadPoolExecutor(1) as executor:
            reading = executor.submit(source.read, 3.0)
            while not reading.done():  # the request that nobody waits for any more may come, too, or be lost
                if rep.poll(10):
                    rep.recv()
                    rep.send(numbered(0, 2).tobytes())
            np.testing.assert_array_equal(reading.result(), numbered(0, 2))


def flood(address, stop):
    with open_sink(address, RadioConfig(timeout_s=math.inf, backoff_db=None)) as sink:
        block = 0
        while not stop.is_set():
            sink.send(np.full(1000, block, np.complex64))
            block += 1


def read_some(address, num):
    with open_source(address, QUICK) as source:
        return [source.read() for _ in range(num)]


@pytest.mark.parametrize("sink_binds", [0, 1])
@pytest.mark.parametrize("patterns", [("push", "pull"), ("rep", "req")])
def test_a_receiver_that_dies_and_returns_misses_whole_messages_only(endpoint, background, patterns, sink_binds):
    stop = threading.Event()
    sending = background(flood, f"zmq:{endpoint}?pattern={patterns[0]}&bind={sink_binds}", stop)
    address = f"zmq:{endpoint}?pattern={patterns[1]}&bind={1 - sink_binds}"
    before = read_some(address, 20)
    with open_source(address, QUICK) as source:
        after = [source.read() for _ in range(20)]
        stop.set()
        while not sending.done():
            try:
                source.read(timeout_s=0.1)
            except RadioTimeoutError:
                pass
    sending.result()
    assert all(block.size == 1000 and np.ptp(block.real) == 0 for block in before + after)
    for blocks in (before, after):
        assert [int(block[0].real) for block in blocks] == list(
            range(int(blocks[0][0].real), int(blocks[0][0].real) + 20)
        )
    assert before[-1][0].real < after[0][0].real


@pytest.mark.parametrize("patterns", [("push", "pull"), ("srsran", "srsran")])
def test_a_sender_killed_and_returned_is_heard_again(endpoint, patterns):
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()

    def start():
        process = spawn.Process(target=flood, args=(f"zmq:{endpoint}?pattern={patterns[0]}&bind=1", stop), daemon=True)
        process.start()
        return process

    with open_source(f"zmq:{endpoint}?pattern={patterns[1]}", RadioConfig(timeout_s=10.0)) as source:
        first = start()
        before = [source.read() for _ in range(5)]
        first.kill()
        first.join()
        second = start()
        blocks = [source.read()]
        while blocks[-1][0] != 4:  # what the first had sent, then the second from its beginning
            blocks.append(source.read())
        second.kill()
        second.join()
    assert all(block.size == 1000 and np.ptp(block.real) == 0 for block in before + blocks)


def test_nobody_there_is_a_timeout_that_names_the_address(endpoint):
    for bind in (0, 1):
        address, impatient = f"zmq:{endpoint}?bind={bind}", RadioConfig(timeout_s=0.1)
        with (
            pytest.raises(RadioTimeoutError, match="nobody took samples at zmq:tcp"),
            open_sink(address, impatient) as sink,
        ):
            sink.send(numbered(0, 1))
        with (
            pytest.raises(RadioTimeoutError, match=r"no samples came from zmq:tcp.* within 0\.1 s;"),
            open_source(address, impatient) as source,
        ):
            source.read()


def test_a_message_that_is_no_whole_number_of_samples_is_counted_and_the_next_one_taken(endpoint, peer):
    push = peer(zmq.PUSH, endpoint, bind=True)
    with open_source(f"zmq:{endpoint}", QUICK) as source:
        for message in (bytes(12), b"GET / HTTP/1.1", numbered(0, 3).tobytes()):
            push.send(message)
        np.testing.assert_array_equal(source.read(), numbered(0, 3))
        (warning,) = source.describe()["warnings"]
        assert warning.startswith("2 messages were no whole number")
        push.send(bytes(1))
        with pytest.raises(RadioTimeoutError):
            source.read(timeout_s=0.5)


def test_a_context_that_does_not_end_does_not_hold_its_radio(endpoint, monkeypatch):
    """As libzmq's do now and then: the block is left all the same, and nothing waits for it later."""
    never = threading.Event()
    monkeypatch.setattr(zmq_stream, "END_S", 0.1)
    monkeypatch.setattr(zmq_stream, "_endless", [])
    with open_source(f"zmq:{endpoint}", QUICK) as source:
        original = source._context.destroy
        monkeypatch.setattr(type(source._context), "destroy", lambda context, linger: never.wait())
    assert zmq_stream._endless == [source._context]
    never.set()
    monkeypatch.undo()
    original(linger=0)


def test_a_request_of_another_kind_is_a_radio_error(endpoint, peer):
    req = peer(zmq.REQ, endpoint, bind=False)
    req.send(b"hello")
    with (
        pytest.raises(RadioError, match="request of 5 bytes"),
        open_sink(f"zmq:{endpoint}?pattern=rep&bind=1", QUICK) as sink,
    ):
        sink.send(numbered(0, 1))


def test_a_request_of_two_parts_is_answered(endpoint, peer):
    req = peer(zmq.REQ, endpoint, bind=False)
    req.send_multipart([b"key", b"\xff"])
    with open_sink(f"zmq:{endpoint}?pattern=rep&bind=1", RAW) as sink:
        sink.send(numbered(0, 10))
        np.testing.assert_array_equal(np.frombuffer(req.recv(), np.complex64), numbered(0, 10))


def test_an_address_in_use_is_a_radio_error(endpoint, peer, monkeypatch):
    monkeypatch.setattr(zmq_stream.time, "sleep", lambda seconds: None)
    holder = peer(zmq.PUSH, endpoint, bind=True)
    with pytest.raises(RadioError, match="cannot bind"):
        open_sink(f"zmq:{endpoint}?bind=1").__enter__()
    holder.close()


@pytest.mark.parametrize("pattern", ["pull", "req"])
def test_strangers_at_a_port_are_counted_and_the_peer_is_heard(endpoint, peer, pattern):
    """Something that speaks HTTP, and something that says nothing, at a receiver that binds."""
    with open_source(f"zmq:{endpoint}?pattern={pattern}&bind=1", QUICK) as source:
        host, port = endpoint.removeprefix("tcp://").split(":")
        for words in (b"GET / HTTP/1.1\r\n\r\n", b"x"):
            with os_socket.create_connection((host, int(port))) as stranger:
                stranger.sendall(words)
                time.sleep(0.1)
        sender = peer(zmq.PUSH if pattern == "pull" else zmq.REP, endpoint, bind=False)
        if pattern == "req":
            with pytest.raises(RadioTimeoutError):
                source.read(0.5)  # it asks
            sender.recv()
        sender.send(numbered(0, 10).tobytes())
        np.testing.assert_array_equal(source.read(), numbered(0, 10))
        assert any("2 connections were refused" in text for text in source.describe()["warnings"])


# CURVE


@pytest.fixture
def keys(tmp_path):
    """The options of an end called one of these, whose peer is another: each has a certificate."""
    for name in ("sender", "receiver", "stranger"):
        zmq.auth.create_certificates(tmp_path, name)
    return lambda own, other: f"curve={tmp_path / own}.key_secret&peer={tmp_path / other}.key"


@pytest.mark.parametrize("sink_binds", [0, 1])
@pytest.mark.parametrize("patterns", [("push", "pull"), ("rep", "req")])
def test_samples_under_curve_whoever_binds(endpoint, background, keys, patterns, sink_binds):
    to = f"zmq:{endpoint}?pattern={patterns[0]}&bind={sink_binds}&{keys('sender', 'receiver')}"
    at = f"zmq:{endpoint}?pattern={patterns[1]}&bind={1 - sink_binds}&{keys('receiver', 'sender')}"
    sending = background(send_later, 0.0, to, [numbered(0, 1000)])
    with open_source(at, QUICK) as source:
        np.testing.assert_array_equal(collect(source, 1000), numbered(0, 1000))
    sending.result()


@pytest.mark.parametrize(
    ("sender", "receiver"),
    [
        (("stranger", "receiver"), ("receiver", "sender")),  # refused by the end that binds
        (("sender", "receiver"), ("stranger", "sender")),  # not the server that was looked for
        (None, ("receiver", "sender")),
        (("sender", "receiver"), None),
    ],
)
def test_whoever_has_another_key_or_none_gets_and_gives_nothing(endpoint, keys, sender, receiver):
    quick = RadioConfig(timeout_s=0.7)
    to, at = (
        f"zmq:{endpoint}?bind={bind}" + (f"&{keys(*own)}" if own else "") for bind, own in ((0, sender), (1, receiver))
    )
    with open_source(at, quick) as source:
        with pytest.raises(RadioTimeoutError), open_sink(to, quick) as sink:
            sink.send(numbered(0, 1000))
        with pytest.raises(RadioTimeoutError):
            source.read(0.2)


def test_keys_that_are_none_are_refused(endpoint, keys, tmp_path):
    own, other = keys("sender", "receiver").split("&")
    (tmp_path / "empty.key").write_text("")
    for options, word in [
        (own, "belong together"),
        (other, "belong together"),
        (f"{own}&peer=", "each once with a value"),
        (f"{own}&peer={tmp_path / 'missing.key'}", "cannot be read"),
        (f"{own}&peer={tmp_path / 'empty.key'}", "cannot be read"),
        (f"curve={tmp_path / 'sender.key'}&{other}", "no secret key"),
    ]:
        with pytest.raises(InputError, match=word), open_sink(f"zmq:{endpoint}?{options}", QUICK):
            pass


def test_a_sink_that_does_not_open_leaves_no_thread(endpoint, peer, keys, tmp_path, monkeypatch):
    monkeypatch.setattr(zmq_stream.time, "sleep", lambda seconds: None)
    holder = peer(zmq.PUSH, endpoint, bind=True)
    both, other = keys("sender", "receiver"), keys("sender", "receiver").split("&")[1]
    for options in (both, f"curve={tmp_path / 'sender.key'}&{other}"):  # the port is taken; no secret key
        sink = open_sink(f"zmq:{endpoint}?bind=1&{options}")
        with pytest.raises((InputError, RadioError)):
            sink.__enter__()
        assert sink._context.closed
        assert not any(isinstance(thread, AuthenticationThread) for thread in threading.enumerate())
    holder.close()
