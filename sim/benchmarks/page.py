"""The lab page beside a link in real time: what five browsers get, and what it costs the receiver.

Sender, simulated air and receiver are processes; the receiver is `rx.listen.Listener` with or without `rx.live`. The
same stream is received without a page, with a page and five browsers (one of them Chromium, where it is here), with one
more that has stopped reading, and without a page again; then a whole lab is started. DSP rate: samples a second of the
receiver's own processor time, which other processes on the same cores do not count in; by the clock is beside it.
"""

import dataclasses
import json
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context

from airnet_sdr.dsp.errors import LinkError
from airnet_sdr.dsp.radio import RadioConfig, Source, open_source
from airnet_sdr.rx.listen import Listener
from airnet_sdr.rx.live import Display, LiveFeed, LiveSource, forget
from airnet_sdr.sim.benchmarks.measure import BenchConfig, Measure
from airnet_sdr.sim.demo import free_ports
from airnet_sdr.sim.page.browser import Page, browser, lab
from airnet_sdr.sim.page.display import PAYLOAD, SPECTRUM
from airnet_sdr.sim.page.hub import SCOPE, STATE
from airnet_sdr.sim.page.processes import ROOT

PACE_HZ, RATE_HZ = 5.3e6, 5e6  # of the sender; at least, received
SECONDS, QUICK_SECONDS = 20.0, 2.0  # of each part
SETTLE_S = 3.0
NUM_CLIENTS = 5
LEAST_UPDATES, MOST_BYTES, LEAST_SHARE = 25.0, 2048, 0.95
MOST_START_S = 10.0
PATIENCE_S = 120.0


@dataclasses.dataclass(frozen=True)
class Reception:
    """What one receiver did: samples, frames heard and lost, its processor time and its time by the clock."""

    samples: int
    heard: int
    lost: int
    cpu_s: float
    dsp_s: float
    taken_s: float

    @property
    def dsp_rate_hz(self) -> float:
        """Samples a second of its processor time."""
        return self.samples / self.cpu_s


@dataclasses.dataclass(frozen=True)
class Clients:
    """What the browsers got: updates a second of each, and the longest line of the waterfall in bytes."""

    updates: list[float]
    line_bytes: int
    real: bool


def take_measures(config: BenchConfig) -> list[Measure]:
    """Updates a second, bytes a line, frames lost, and the receiver's DSP rate with the page over that without."""
    seconds = QUICK_SECONDS if config.quick else SECONDS
    before, _ = part(seconds)
    shown, clients = part(seconds, page=True)
    stalled, others = part(seconds, page=True, stalled=True)
    after, _ = part(seconds)
    alone = (before.samples + after.samples) / (before.cpu_s + after.cpu_s)
    bound = None if config.quick else LEAST_SHARE
    where = f"{NUM_CLIENTS} browsers, {'one of them Chromium' if clients.real else 'no Chromium here'}"
    measures = [
        Measure(f"updates a second of spectrum and constellation, the slowest of {where}", min(clients.updates), "/s",
                None if config.quick else LEAST_UPDATES, False, f"{seconds:g} s", {"each": _each(clients)}),
        Measure("a line of the waterfall", clients.line_bytes, "bytes", MOST_BYTES, True),
        Measure("rate of the link beside them", shown.samples / shown.taken_s / 1e6, "MS/s",
                None if config.quick else RATE_HZ / 1e6, False),
        Measure("frames lost", shown.lost + stalled.lost, "", 0.0, True, f"{shown.heard + stalled.heard} frames"),
    ]  # fmt: skip
    for what, found in (("with the page", shown), ("with a browser that does not read", stalled)):
        detail = {"MS/s": found.dsp_rate_hz / 1e6, "without": alone / 1e6, "by the clock MS/s": _clock(found)}
        detail |= {"by the clock without": _clock(before), "load": os.getloadavg()[0]}
        name = f"receiver's DSP rate {what} over that without"
        measures.append(Measure(name, found.dsp_rate_hz / alone, "", bound, False, f"{seconds:g} s", detail))
    name = "updates a second beside a browser that does not read, the slowest of the others"
    least = None if config.quick else LEAST_UPDATES
    measures.append(Measure(name, min(others.updates), "/s", least, False, detail={"each": _each(others)}))
    moving, accuracy = start()
    name, least = "start of the lab to the first moving picture", None if config.quick else MOST_START_S
    measures.append(Measure(name, moving, "s", least, detail={"to the first accuracy": accuracy}))
    return measures


def start() -> tuple[float, float]:
    """Seconds from the start of a lab to its first moving picture in a browser, and to the first accuracy."""
    from websockets.sync.client import connect

    started = time.monotonic()
    moving = 0.0
    with lab("--out=out/bench/lab") as (_, url):
        options: dict = {"origin": url.rstrip("/"), "max_size": None, "compression": None}
        with connect(url.replace("http", "ws", 1) + "live", **options) as socket:
            while True:
                content = bytes(socket.recv(PATIENCE_S))
                if content[0] == SCOPE and not moving and SPECTRUM in _parts(content[1:]):
                    moving = time.monotonic() - started
                if content[0] == STATE and json.loads(content[1:])["receivers"][0]["results"]:
                    return moving, time.monotonic() - started


def _each(clients: Clients) -> str:
    return " ".join(f"{rate:.1f}" for rate in clients.updates)


def _clock(found: Reception) -> float:
    return found.samples / found.dsp_s / 1e6


def part(seconds: float, page: bool = False, stalled: bool = False) -> tuple[Reception, Clients | None]:
    """One stream, received for so long, with or without a page; ``stalled``: one more browser that reads nothing."""
    sent, heard, control, feed = free_ports(4)
    with ExitStack() as stack:
        url = stack.enter_context(lab(f"--feed=tcp://127.0.0.1:{feed}", "--out=out/bench/lab"))[1] if page else None
        stack.enter_context(_link(sent, heard, control, feed))
        ours, theirs = get_context("spawn").Pipe()
        receiver = get_context("spawn").Process(
            target=receive, args=(f"zmq:tcp://127.0.0.1:{heard}", f"tcp://127.0.0.1:{feed}" if page else None, theirs)
        )
        receiver.start()
        stack.callback(receiver.join)
        stack.callback(receiver.terminate)
        _expect(ours, "receiving")
        if url is None:
            time.sleep(SETTLE_S)
            return _measured(ours, lambda: time.sleep(seconds)), None
        if stalled:
            stack.enter_context(_stalled(url))
        with _clients(url) as watch:
            time.sleep(SETTLE_S)
            found: list[Clients] = []
            return _measured(ours, lambda: found.append(watch(seconds))), found[0]


def _expect(pipe, what: str):
    if not pipe.poll(PATIENCE_S):
        raise LinkError(f"the benchmark's receiver is not {what} after {PATIENCE_S:g} s")
    return pipe.recv()


def _measured(pipe, work) -> Reception:
    """What the receiver did while ``work`` was done."""
    pipe.send("begin")
    work()
    pipe.send("end")
    return Reception(**_expect(pipe, "ending"))


@contextmanager
def _link(sent: int, heard: int, control: int, feed: int) -> Iterator[None]:
    """The sender and the air; nothing is lost between them."""
    address = "zmq:tcp://127.0.0.1:{}{}".format
    sender = ["sim/page/sender.py", "--radio", address(sent, ""), "--feed", f"tcp://127.0.0.1:{feed + 1}"]
    sender += ["--control", f"tcp://127.0.0.1:{control}", "--schemes", "analog", "--network", "full"]
    sender += ["--payload-uses", "160000", "--cycles", "64", "--pace-hz", str(PACE_HZ)]
    air = ["sim/air.py", "--rx", address(sent, "?bind=1"), "--tx", address(heard, "?bind=1"), "--snr-db", "15"]
    processes = [subprocess.Popen([sys.executable, str(ROOT / name), *rest]) for name, *rest in (air, sender)]
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(PATIENCE_S)


def receive(address: str, feed: str | None, pipe) -> None:
    """The receiver's process: listens until told to begin, and until told to end, and tells what it did between."""
    with open_source(address, RadioConfig(timeout_s=PATIENCE_S)) as source:
        listener = Listener(num_threads=2)
        live = None if feed is None else LiveFeed(feed, "bench")
        display = Display(live, listener, source) if live else Display(_Nobody(), listener, source)
        listener.on_frame = display.frame
        shown: Source = LiveSource(source, display) if live else source  # type: ignore[assignment]
        pipe.send(listener.push(shown.read()))
        begun: dict = {}
        while True:
            listener.push(shown.read())
            forget(listener)
            if not pipe.poll():
                continue
            now = {
                "samples": listener.receiver.num_samples, "heard": display.heard, "lost": display.lost,
                "cpu_s": time.process_time(), "dsp_s": listener.seconds, "taken_s": time.monotonic(),
            }  # fmt: skip
            if pipe.recv() == "begin":
                begun = now
                continue
            pipe.send({name: value - begun[name] for name, value in now.items()})
            return


class _Nobody(LiveFeed):
    """A feed to no page."""

    def __init__(self):
        pass


@contextmanager
def _stalled(url: str) -> Iterator[None]:
    """A browser that opens the page's WebSocket and never reads."""
    import socket

    host, _, port = url.removeprefix("http://").rstrip("/").rpartition(":")
    with socket.create_connection((host, int(port))) as silent:
        lines = ["GET /live HTTP/1.1", f"Host: {host}:{port}", f"Origin: http://{host}:{port}", "Upgrade: websocket"]
        lines += ["Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
        silent.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        yield


@contextmanager
def _clients(url: str) -> Iterator:
    """The browsers; a function that watches for so many seconds what they get."""
    with ExitStack() as stack:
        try:
            page = Page(stack.enter_context(browser()), url)
        except LinkError:
            page = None
        ours, theirs = get_context("spawn").Pipe()
        process = get_context("spawn").Process(target=watch, args=(url, NUM_CLIENTS - (page is not None), theirs))
        process.start()
        stack.callback(process.join)
        stack.callback(process.terminate)
        _expect(ours, "watching")

        def watched(seconds: float) -> Clients:
            ours.send(seconds)
            rates = []
            if page is not None:
                drawn = "[lab.updates.spectrum, lab.updates.constellation]"
                first, started = page.get(drawn), time.monotonic()
                page.pause(seconds)
                last, taken = page.get(drawn), time.monotonic() - started
                rates.append(min(b - a for a, b in zip(first, last, strict=True)) / taken)
            counts, longest = _expect(ours, "watching")
            return Clients([*rates, *(count / seconds for count in counts)], longest, page is not None)

        yield watched


def watch(url: str, num: int, pipe) -> None:
    """The process of the browsers that only count: scopes with spectrum and constellation, a thread each."""
    from websockets.sync.client import connect

    counts, longest, stop = [0] * num, [0] * num, threading.Event()

    def follow(i: int) -> None:
        address = url.replace("http", "ws", 1) + "live"
        options: dict = {"origin": url.rstrip("/"), "max_size": None, "compression": None}
        with connect(address, **options) as socket:
            while not stop.is_set():
                content = socket.recv()
                if content[0] == SCOPE:
                    parts = _parts(bytes(content[1:]))
                    counts[i] += {SPECTRUM, PAYLOAD} <= parts.keys()
                    longest[i] = max(longest[i], parts.get(SPECTRUM, 0))

    for i in range(num):
        threading.Thread(target=follow, args=(i,), daemon=True).start()
    pipe.send("watching")
    seconds = pipe.recv()
    first = list(counts)
    time.sleep(seconds)
    pipe.send(([b - a for a, b in zip(first, counts, strict=True)], max(longest)))
    stop.set()


def _parts(scope: bytes) -> dict[int, int]:
    """The bytes of each part of a scope."""
    found, at = {}, 0
    while at < len(scope):
        part, size = struct.unpack_from("<BH", scope, at)
        found[part] = size
        at += 3 + size
    return found
