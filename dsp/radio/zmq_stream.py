"""Samples over ZMQ, as GNU Radio's zeromq blocks and srsRAN's radio speak it: raw complex64, no header.

| sender  | receiver | request                               | lost samples                                        |
| push    | pull     | –                                     | none while both ends live; a slow reader slows both |
| pub     | sub      | –                                     | whatever a slow or late reader misses               |
| rep     | req      | uint32, host order: most items wanted | none while both ends live                           |
| srsran  | srsran   | one byte, 0xFF (0x00 is taken too)    | none while both ends live                           |

A send is one message, cut only above 2²⁰ samples (or into what a requester wants), so what dies with a peer is whole
messages. Not modelled: time. The sample count is the clock.
"""

import math
import re
import threading
import time
from collections.abc import Sequence

import numpy as np
import zmq
from zmq.utils.monitor import recv_monitor_message

from airnet_sdr.dsp.errors import InputError, RadioError, RadioTimeoutError
from airnet_sdr.dsp.radio.address import Address
from airnet_sdr.dsp.radio.base import Sink, Source
from airnet_sdr.dsp.radio.config import DEVICE_SETTINGS, RadioConfig
from airnet_sdr.dsp.radio.zmq_curve import Guard, secure

SINK_PATTERNS = ("push", "pub", "rep", "srsran")
SOURCE_PATTERNS = ("pull", "sub", "req", "srsran")
FAILED_HANDSHAKE = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
OPTIONS = ("pattern", "bind", "curve", "peer")
MAX_MESSAGE_SAMPLES = 1 << 20  # 8 MiB; srsRAN takes up to 3,072,000 samples
HIGH_WATER_MARK = 8  # messages: at most 64 MiB wait in each end
MAX_LINGER_S = 60.0  # at the end, deliver what is waiting for so long at most
SAMPLE_BYTES = 8  # complex64
END_S = 5.0  # that libzmq gets to end its threads
POLL_S = 0.5  # a signal that comes just before a wait is seen after so long at most
FAILED_LINGER_S = 1.0  # the same after an error
_endless: list[zmq.Context] = []  # contexts that did not end
_TYPES = {"push": zmq.PUSH, "pub": zmq.PUB, "rep": zmq.REP, "pull": zmq.PULL, "sub": zmq.SUB, "req": zmq.REQ}
SENDING = (zmq.PUSH, zmq.PUB, zmq.REP)
_SINK_TYPES = {**_TYPES, "srsran": zmq.REP}
_SOURCE_TYPES = {**_TYPES, "srsran": zmq.REQ}
_ENDPOINT = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(?P<port>\d{1,5})|ipc://\S+")


def parse_target(text: str) -> tuple[str, dict]:
    """Endpoint and options: pattern (absent: the default), bind ("0", "1"), curve and peer (files, see `zmq_curve`).

    ValueError for what makes no sense.
    """
    endpoint, _, query = text.partition("?")
    match = _ENDPOINT.fullmatch(endpoint)
    if not match or (match["port"] and not 0 < int(match["port"]) < 65536):
        raise ValueError("try zmq:tcp://127.0.0.1:5555 or zmq:ipc:///tmp/air")
    options = {}
    for item in filter(None, query.split("&")):
        name, _, value = item.partition("=")
        if name not in OPTIONS or name in options or not value:
            raise ValueError(f"got option {item!r}; the options are {', '.join(OPTIONS)}, each once with a value")
        options[name] = value
    if options.get("pattern", "push") not in SINK_PATTERNS + SOURCE_PATTERNS:
        raise ValueError(f"a pattern is one of {', '.join(dict.fromkeys(SINK_PATTERNS + SOURCE_PATTERNS))}")
    if options.get("bind", "0") not in ("0", "1"):
        raise ValueError(f"bind is 0 or 1, got {options['bind']!r}")
    if ("curve" in options) != ("peer" in options):
        raise ValueError("curve, this end's secret key, and peer, the other's public key, belong together")
    return endpoint, options


def samples_of(message: Sequence[memoryview]) -> np.ndarray | None:
    """The samples of a message, complex64 (n,), of its last part: GNU Radio may send a key before; None for no samples.

    Copied, as the part is read-only and may be unaligned.
    """
    payload = message[-1]
    return np.frombuffer(payload, np.complex64).copy() if payload.nbytes % SAMPLE_BYTES == 0 else None


def samples_wanted(request: bytes) -> int | None:
    """The most samples that a request allows in its answer; None for what is no request."""
    if request in (b"\xff", b"\x00"):
        return MAX_MESSAGE_SAMPLES
    if len(request) == 4 and any(request):
        return min(int(np.frombuffer(request, np.uint32)[0]), MAX_MESSAGE_SAMPLES)
    return None


class ZmqSink(Sink):
    """Sends to whoever pulls, subscribes or requests; leaving the `with` block waits until all is delivered."""

    ignored = DEVICE_SETTINGS

    def __init__(self, address: Address, config: RadioConfig):
        super().__init__(address, config)
        self._pattern = _pattern(address, SINK_PATTERNS)

    def _open(self):
        self._context = zmq.Context()
        self._guard = Guard(self._context, self.address)
        try:
            self._socket = _connected(self._context, _SINK_TYPES[self._pattern], self.address)
        except BaseException:
            self._close(failed=True)
            raise

    def _close(self, failed):
        started = time.monotonic()
        linger_s = FAILED_LINGER_S if failed else min(self.config.timeout_s, MAX_LINGER_S)
        self._guard.stop()
        _end(self._context, linger_s)
        if not failed and time.monotonic() - started >= linger_s:
            raise RadioTimeoutError(
                f"the last samples sent to {self.address} were not taken within {linger_s:g} s; "
                "is the receiver still running there?"
            )

    def _write(self, scaled, label):
        start = 0
        while start < scaled.size:
            stop = min(start + self._room(), scaled.size)
            self._wait(zmq.POLLOUT)
            self._socket.send(scaled[start:stop].view(np.uint8), copy=False)
            start = stop

    def _room(self):
        """Samples that the next message may carry; a replier waits for the request that says so."""
        if self._socket.type != zmq.REP:
            return MAX_MESSAGE_SAMPLES
        self._wait(zmq.POLLIN)
        request = self._socket.recv_multipart()[-1]
        wanted = samples_wanted(request)
        if wanted is not None:
            return wanted
        raise RadioError(
            f"radio {self.address}: a request of {len(request)} bytes, {request[:8].hex()}; "
            "try a peer that sends 4 bytes (GNU Radio) or one byte ff (srsRAN)"
        )

    def _wait(self, event):
        deadline = time.monotonic() + self.config.timeout_s
        while not self._socket.poll(_milliseconds(min(POLL_S, deadline - time.monotonic())), event):
            if time.monotonic() >= deadline:
                raise RadioTimeoutError(
                    f"nobody took samples at {self.address} within {self.config.timeout_s:g} s; "
                    "is a receiver running there?"
                )


class ZmqSource(Source):
    """Receives messages in order; each is one block."""

    ignored = DEVICE_SETTINGS
    num_malformed = 0  # messages that were no samples
    num_strangers = 0  # connections that spoke no ZMQ, or had another key
    _monitor = None

    def __init__(self, address: Address, config: RadioConfig, beside: Sink | None = None):
        super().__init__(address, config, beside)
        self._pattern = _pattern(address, SOURCE_PATTERNS)

    def _open(self):
        self._request = {"req": np.uint32(MAX_MESSAGE_SAMPLES).tobytes(), "srsran": b"\xff"}.get(self._pattern)
        self._context = zmq.Context()
        self._connect()

    def _connect(self):
        """A fresh socket and, for a requester, nothing asked yet; the monitor tells it when its peer is gone."""
        self._socket = _connected(self._context, _SOURCE_TYPES[self._pattern], self.address)
        self._asked = None
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | FAILED_HANDSHAKE)

    def _peer_left(self):
        """Whether a connection has ended since the last call; those that never were a peer's are counted."""
        left = False
        while self._monitor is not None and self._monitor.poll(0):
            failed = recv_monitor_message(self._monitor)["event"] & FAILED_HANDSHAKE
            self.num_strangers += bool(failed)
            left |= not failed
        return left

    def _reconnect(self):
        self._socket.disable_monitor()
        self._socket.close(linger=0)
        self._connect()

    def _close(self):
        self._peer_left()
        self._socket.disable_monitor()
        self._monitor = None
        _end(self._context, 0.0)

    def _read(self, timeout_s):
        deadline = time.monotonic() + timeout_s
        while True:
            self._await_message(timeout_s, deadline)
            samples = samples_of([frame.buffer for frame in self._socket.recv_multipart(copy=False)])
            self._asked = None
            if samples is not None:
                return samples
            self.num_malformed += 1

    def describe(self) -> dict:
        """As every source; with the messages that were no samples, and the connections that were no peers."""
        about = super().describe()
        self._peer_left()
        if self.num_strangers:
            about["warnings"].append(
                f"{self.num_strangers} connections were refused: they spoke no ZMQ, or had another key"
            )
        if self.num_malformed:
            about["warnings"].append(
                f"{self.num_malformed} messages were no whole number of {SAMPLE_BYTES}-byte complex64 samples and "
                "were passed over; what sends there?"
            )
        return about

    def _await_message(self, timeout_s, deadline):
        while not self._ready(min(POLL_S, deadline - time.monotonic())):
            if time.monotonic() < deadline:
                continue
            if self._request and time.monotonic() - (self._asked or math.inf) >= self.config.timeout_s:
                self._reconnect()  # the request or its answer went astray; a new socket may ask again
            raise RadioTimeoutError(
                f"no samples came from {self.address} within {timeout_s:g} s; is a sender running there?"
            )

    def _ready(self, timeout_s):
        """Whether a message is there within `timeout_s`; a requester asks first, once."""
        if not self._request:
            return self._socket.poll(_milliseconds(timeout_s), zmq.POLLIN)
        started = time.monotonic()
        if self._asked is None:
            if not self._socket.poll(_milliseconds(timeout_s), zmq.POLLOUT):
                return False
            self._peer_left()  # a farewell to a peer that was not asked
            self._socket.send(self._request)
            self._asked = time.monotonic()
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._monitor, zmq.POLLIN)
        poller.poll(_milliseconds(timeout_s - (time.monotonic() - started)))
        if self._socket.poll(0):  # looked at last: an answer comes before its sender's farewell
            return True
        if self._peer_left() and not self._socket.poll(0):
            self._reconnect()  # the peer that was asked is gone: its successor must be asked again
        return False


def _end(context: zmq.Context, linger_s: float) -> None:
    """Close the context's sockets and end it, after ``linger_s`` at the latest.

    libzmq waits for its own threads without a limit, and now and then for ever (gnuradio#1132): a thread of ours waits
    in our place, and a context that does not end is left to the process's own end.
    """
    ending = threading.Thread(target=context.destroy, kwargs={"linger": _milliseconds(linger_s)}, daemon=True)
    ending.start()
    ending.join(linger_s + END_S)
    if ending.is_alive():
        _endless.append(context)  # not collected, which would wait again


def _connected(context, socket_type, address):
    """A socket bound or connected."""
    socket = context.socket(socket_type)
    socket.set_hwm(HIGH_WATER_MARK)
    if socket_type == zmq.PUSH:  # queue for peers that are there only; on a receiver this drops what a leaver has sent
        socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.IPV6, address.target.startswith("tcp://["))
    if socket_type == zmq.SUB:
        socket.subscribe(b"")
    secure(socket, address, socket_type in SENDING)
    bind = address.options.get("bind") == "1"
    for attempts_left in reversed(range(20)):
        try:
            (socket.bind if bind else socket.connect)(address.target)
            return socket
        except zmq.ZMQError as error:
            if error.errno != zmq.EADDRINUSE or not attempts_left:
                socket.close(linger=0)
                raise RadioError(
                    f"cannot {'bind' if bind else 'connect'} {address}: {error.strerror}; try another port or host"
                ) from error
            time.sleep(0.05)  # a socket closed a moment ago lets go of its port in the background


def _pattern(address, allowed):
    pattern = address.options.get("pattern", allowed[0])
    if pattern not in allowed:
        what = "send" if allowed is SINK_PATTERNS else "receive"
        raise InputError(f"radio {address} cannot {what} with pattern {pattern}; try one of {', '.join(allowed)}")
    return pattern


def _milliseconds(seconds):
    return -1 if seconds == math.inf else max(0, math.ceil(1000 * seconds))
