"""Feeds a lab page while receiving: what was heard last, some thirty times a second, and every evaluated network.

The receiver only copies slices; spectra and points are computed by whoever shows them. Both sockets drop what nobody
takes: an absent, slow or stalled page costs the receiver nothing. Networks are rebuilt and evaluated in a thread, from
a copy of the combined symbols, the newest of each scheme; meanwhile reception goes on.
"""

import dataclasses
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import zmq

from airnet_sdr.dsp.errors import LinkError, NothingReceivedError, RadioError, RadioTimeoutError
from airnet_sdr.dsp.frame import Header, frame_samples, payload_slots
from airnet_sdr.dsp.host.run import Run
from airnet_sdr.dsp.radio import Source
from airnet_sdr.dsp.radio.record import RecordedSource, recording
from airnet_sdr.dsp.reception import ReceivedFrame
from airnet_sdr.dsp.sync import MAX_CFO
from airnet_sdr.dsp.units import db
from airnet_sdr.rx.combine import BurstCombiner
from airnet_sdr.rx.config import ListenConfig, LiveConfig, ReceiveConfig
from airnet_sdr.rx.explain import as_link_error, without_traceback
from airnet_sdr.rx.listen import Listener, listen
from airnet_sdr.rx.live_evaluation import Evaluator
from airnet_sdr.rx.live_message import Message, pack
from airnet_sdr.rx.receiver import MAX_THREADS, Reception, check
from airnet_sdr.rx.report import plain

INTERVAL_S = 1 / 40  # between two displays, at least
WAIT_S = 0.25  # a receiver that hears nothing says so this often
NUM_SAMPLES = 4096  # of a display: for its spectrum
NUM_POINTS, NUM_CONTROL, NUM_SUBCARRIERS = 1024, 256, 400  # of a display, at most
MAX_KEPT = 8  # bursts: a page follows a sender that changes its burst every few seconds
MAX_LOSSES = 100  # losses of samples that are remembered
LINGER_MS = 200  # that the page gets to take the last messages
MAX_GAP = 64  # frame lengths: a longer silence is a pause and loses no frame


class LiveFeed:
    """The receiver's end: two sockets to the page, one for the newest display, one for evaluated networks."""

    def __init__(self, address: str, name: str):
        self.name = name
        self._context = zmq.Context()
        self._display = self._socket(address, conflate=True)
        self._results = self._socket(address, conflate=False)

    def _socket(self, address, conflate) -> zmq.Socket:
        socket = self._context.socket(zmq.PUSH)
        socket.setsockopt(zmq.CONFLATE, conflate)
        socket.setsockopt(zmq.SNDHWM, 8)
        socket.setsockopt(zmq.SNDBUF, 1 << 17)
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.IPV6, address.startswith("tcp://["))
        try:
            socket.connect(address)
        except zmq.ZMQError as error:
            raise RadioError(f"cannot reach a lab page at {address}: {error.strerror}") from error
        return socket

    def show(self, values: dict, arrays: dict[str, np.ndarray]) -> None:
        """Offer a display; a newer one takes its place where the page has not taken it."""
        self._send(self._display, "display", values, arrays)

    def result(self, values: dict, arrays: dict[str, np.ndarray]) -> None:
        """Offer an evaluated network; called by one thread only."""
        self._send(self._results, "result", values, arrays)

    def _send(self, socket, kind, values, arrays):
        message = Message({"kind": kind, "name": self.name, "pid": os.getpid(), **values}, arrays)
        try:
            socket.send(pack(message), zmq.NOBLOCK)
        except zmq.Again:
            pass  # nobody there, or not as fast

    def close(self) -> None:
        """Drop what is not taken within `LINGER_MS`."""
        self._context.destroy(linger=LINGER_MS)


class LiveSource:
    """A source whose blocks are shown as they come; while none comes, that is shown."""

    def __init__(self, source: Source, display: "Display"):
        self._source, self._display = source, display

    def read(self, timeout_s: float | None = None) -> np.ndarray | None:
        """The next block of the source."""
        deadline = time.monotonic() + (self._source.config.timeout_s if timeout_s is None else timeout_s)
        while True:
            try:
                block = self._source.read(max(0.0, min(WAIT_S, deadline - time.monotonic())))
            except RadioTimeoutError:
                self._display.waiting()
                if time.monotonic() >= deadline:
                    raise
                continue
            if block is not None:
                self._display.block(block)
            return block

    def __getattr__(self, name):
        return getattr(self._source, name)


class Display:
    """What is shown of a reception: the newest samples, the newest frame, and counts."""

    def __init__(self, feed: LiveFeed, listener: Listener, source: Source):
        self._feed, self._listener, self._source = feed, listener, source
        self._next = 0.0
        self._samples = np.empty(0, np.complex64)  # the newest
        self._frame: ReceivedFrame | None = None  # the newest, until shown
        self._last: ReceivedFrame | None = None
        self.heard = self.lost = self.erased = 0  # frames, frames, OFDM symbols

    def frame(self, frame: ReceivedFrame) -> None:
        """Count a frame, and keep it for the next display."""
        if frame.supplement:
            return
        if self._last is not None:
            length = frame_samples(self._last.header, self._listener.receiver.fmt)
            gap = round((frame.start - self._last.start) / length) - 1
            self.lost += gap if 0 < gap <= MAX_GAP else 0
        self.heard += 1
        self.erased += frame.erased_symbols
        self._frame = self._last = frame

    def block(self, samples: np.ndarray) -> None:
        """Show a block of samples, with the newest frame, if it is time."""
        now = time.monotonic()
        if samples.size:
            self._samples = samples
        if now >= self._next:
            self._next = max(self._next + INTERVAL_S, now)
            self.show()

    def show(self) -> None:
        """Show the newest block and the newest frame now."""
        frame, self._frame = self._frame, None
        arrays = {"samples": self._samples[-NUM_SAMPLES:].astype(np.complex64)}
        self._feed.show(self._values(True), arrays | self._arrays_of(frame))

    def waiting(self) -> None:
        """Show that no samples come."""
        self._feed.show(self._values(False), {})

    def _values(self, flowing: bool) -> dict:
        listener, last = self._listener, self._last
        values = {
            "flowing": flowing,
            "rate_hz": self._source.rate_hz,
            "freq_hz": self._source.freq_hz,
            "samples": listener.receiver.num_samples,
            "seconds_dsp": listener.seconds,
            "heard": self.heard,
            "lost": self.lost,
            "erased": self.erased,
        }
        if last is not None:
            fmt = listener.receiver.fmt
            values |= {
                "snr_db": plain(db(last.snr)),
                "cfo_hz": plain(last.cfo * self._source.rate_hz / (2 * np.pi)),
                "sco_ppm": plain(1e6 * last.sco),
                "bandwidth": fmt.num_active / fmt.fft_size,
                "silent_frames": listener.silent_frames,
            }
        return values

    def _arrays_of(self, frame: ReceivedFrame | None) -> dict[str, np.ndarray]:
        """Slices of a frame's soft slots; `symbol` is the OFDM symbol of each payload slot kept."""
        if frame is None:
            return {}
        fmt = self._listener.receiver.fmt
        num = payload_slots(frame.header, fmt)
        kept = slice(None, None, -(-num // NUM_POINTS))
        control = slice(None, None, -(-frame.chunk.size // NUM_CONTROL) or 1)
        first = frame.header.num_symbols * fmt.slots_per_symbol - num
        return {
            "matched": frame.statistic[kept],
            "inv_noise_var": frame.information[kept],
            "symbol": ((first + np.arange(num)[kept]) // fmt.slots_per_symbol).astype(np.uint8),
            "control": frame.chunk[control],
            "control_inv_noise_var": frame.chunk_information[control],
            "h_hat": frame.channel.h_hat[:: -(-fmt.num_active // NUM_SUBCARRIERS)].astype(np.complex64),
        }


def receive_live(
    source: Source,
    config: ReceiveConfig,
    listening: ListenConfig,
    live: LiveConfig,
    record: str | None = None,
    on_reception: Callable[[Reception], None] = lambda reception: None,
    run: Run = Run(),
) -> None:
    """Listen until the source ends, or ``timeout_s`` passes without a frame, and feed the lab page at ``live.live``.

    Raises NothingReceivedError if no network was rebuilt, RadioError where the page's address or the radio fails, and
    at the end the first error of ``on_reception``.

    on_reception : called, by another thread, with every network that was evaluated, on ``live.live_images`` images
    run : what the reports say of this run
    """
    check(config)
    listener = Listener(
        max_cfo=listening.max_cfo(source.rate_hz, MAX_CFO),
        num_threads=min(os.cpu_count() or 1, MAX_THREADS),
        max_bytes=listening.memory_mb << 20,
    )
    feed = LiveFeed(live.live, live.live_name)
    try:
        with source, recording(record, source) as written:
            heard: Any = RecordedSource(source, written) if written else source
            display = Display(feed, listener, source)
            shown: Any = LiveSource(heard, display)  # it passes all of a source on
            evaluator = Evaluator(listener, config, live.live_images, source.describe, run)
            listener.on_frame = display.frame
            failures: list[LinkError] = []
            publisher = threading.Thread(target=_publish, args=(evaluator, feed, on_reception, failures))
            publisher.start()
            followed = dataclasses.replace(listening, follow=True)
            try:
                for burst in listen(shown, listener, followed):
                    forget(listener)
                    evaluator.submit(burst)
                display.show()
                evaluator.finish()
                publisher.join()
            finally:
                evaluator.abandon()
                publisher.join()
        if failures:
            raise failures[0]
        if not evaluator.num_rebuilt:
            raise NothingReceivedError(f"no network was rebuilt from {listener.receiver.num_samples} samples")
    finally:
        feed.close()


def _publish(evaluator: Evaluator, feed: LiveFeed, on_reception, failures: list[LinkError]) -> None:
    """Pass every result on. What fails with one is shown, and the next follow.

    failures : takes the first of ``on_reception``
    """
    for result in evaluator:
        try:
            feed.result(result.values, result.arrays)
        except LinkError as error:  # too large for a message
            feed.result(result.failed(error).values, {})
        if result.reception is None:
            continue
        try:
            on_reception(result.reception)
        except Exception as reason:  # a full disk, a closed pipe
            failure = without_traceback(as_link_error(reason))
            if not failures:
                failures.append(failure)
            feed.result(result.failed(failure).values, {})


def forget(listener: Listener) -> None:
    """Keep the bursts heard last, and the last losses: a page is watched for hours."""
    kept: list[tuple[Header, BurstCombiner]] = sorted(
        listener.bursts.items(), key=lambda item: item[1].latest.start if item[1].latest else -1
    )
    for header, _ in kept[:-MAX_KEPT]:
        del listener.bursts[header]
    del listener.receiver.losses[:-MAX_LOSSES]
