"""The link through a small radio of srsRAN's convention: RX asks with one byte and connects, TX binds and answers.

As srsRAN_4G's ZMQ radio does, its host reads and writes one subframe after the other, at one clock: the sample count. A
transmission is any number of samples; what the host has not written when it is asked for is zeros.
"""

import collections
import json
import threading

import numpy as np
import pytest
import zmq

from airnet_sdr.tests.command import finish, killed, run, save_untrained, start, zmq_addresses
from airnet_sdr.tx import send

pytestmark = pytest.mark.alone

SUBFRAME = 1920  # samples in 1 ms at 1.92 MS/s


class SrsranRadio:
    """The two sockets and their queues; a context manager."""

    def __init__(self, rx_endpoint, tx_endpoint, request=b"\xff"):
        self._context, self._request = zmq.Context(), request
        self._rx, self._tx = self._context.socket(zmq.REQ), self._context.socket(zmq.REP)
        self._rx.connect(rx_endpoint)
        self._tx.bind(tx_endpoint)
        self._heard, self._to_send, self._asked = np.zeros(0, np.complex64), collections.deque(), False
        self.requests = set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._context.destroy(linger=0)

    def receive(self, num, timeout_ms):
        """The next num samples; zeros where nobody transmits in time, as a host that must keep its clock does."""
        while self._heard.size < num:
            if not self._asked:
                self._rx.send(self._request)
                self._asked = True
            if not self._rx.poll(timeout_ms):
                return np.zeros(num, np.complex64)
            self._heard = np.concatenate([self._heard, np.frombuffer(self._rx.recv(), np.complex64)])
            self._asked = False
        samples, self._heard = self._heard[:num], self._heard[num:]
        return samples

    def transmit(self, samples):
        """Hand over samples; they leave when the other end asks, as many as there are."""
        self._to_send.append(samples)
        while self._to_send and self._tx.poll(1):
            self.requests.add(self._tx.recv())
            self._tx.send(np.concatenate(self._to_send).tobytes())
            self._to_send.clear()


def relay(rx_endpoint, tx_endpoint, request, stop, requests):
    """A host that sends what it hears, subframe for subframe, until told to stop."""
    with SrsranRadio(rx_endpoint, tx_endpoint, request) as radio:
        while not stop.is_set():
            radio.transmit(radio.receive(SUBFRAME, 20))
        requests |= radio.requests


@pytest.mark.parametrize("request_byte", [b"\xff", pytest.param(b"\x00", marks=pytest.mark.slow)])
def test_a_network_crosses_a_radio_of_srsrans_convention(tmp_path, request_byte):
    model = save_untrained(tmp_path / "net.safetensors")
    one, two = zmq_addresses(2)
    argv = ["--truth", model, "--evaluate", "none", "--report", tmp_path / "r.json"]
    receiver = start("rx/receive.py", "--radio", f"{two}?pattern=srsran", *argv)
    stop, requests = threading.Event(), set()
    endpoints = one.removeprefix("zmq:"), two.removeprefix("zmq:")
    radio = threading.Thread(target=relay, args=(*endpoints, request_byte, stop, requests))
    with killed(receiver):
        radio.start()
        try:
            address = f"{one}?pattern=srsran&bind=1"
            sent = run(send.main, "--model", model, "--uep", "none", "--radio", address)
            assert (sent.status, sent.err) == (0, "")
            result = finish(receiver)
        finally:
            stop.set()
            radio.join()
    assert (result.status, result.err) == (0, ""), result
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["frames"]["lost"] == 0 and report["weights"]["nmse_db"] < -40
    assert requests == {b"\xff"}
