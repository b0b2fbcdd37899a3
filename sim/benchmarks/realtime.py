"""A board in real time: two virtual boards as a process, through the real libiio, at the rate that USB 2.0 sustains.

One board sends a burst without end, the other is read for a minute by the driver, every sample through the whole
receiver: `dsp.radio` and `rx.listen.Listener`, as in `rx/receive.py`. Then the first board is streamed to as well,
buffer after buffer. The boards count samples not taken or not brought in time, and the time that they lost to other
processes; frame numbers show gaps. Virtual boards use processor time for the work of USB and a real board: `boards'
share`.
"""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from airnet_sdr.dsp.errors import RadioError
from airnet_sdr.dsp.radio import RadioConfig, open_sink, open_source
from airnet_sdr.rx.listen import Listener
from airnet_sdr.sim.benchmarks.measure import BenchConfig, Measure
from airnet_sdr.sim.benchmarks.speed import random_burst
from airnet_sdr.tx.burst import modulate

RATE_HZ = 5e6
SECONDS = 60.0
NUM_WEIGHTS = 300_000
NUM_BUFFERS = 32  # of 2^18 samples: 1.7 s, longer than a busy machine delays a process
ROOT = Path(__file__).resolve().parents[2]


def take_measures(config: BenchConfig) -> list[Measure]:
    """Samples lost in a minute of receiving, and in a minute of sending and receiving."""
    try:
        import adi  # noqa: F401
    except (ImportError, OSError, AttributeError) as error:
        return [Measure(f"real time is not measured: no pyadi-iio with libiio here ({error})", np.nan, "")]
    seconds = 1.0 if config.quick else SECONDS
    rate_hz = 2.5e6 if config.quick else RATE_HZ
    measures = []
    for what, streams in (("receiving", False), ("sending and receiving, both streams", True)):
        found = minute(rate_hz, seconds, streams)
        name = f"samples lost in {seconds:g} s of {what}, {rate_hz / 1e6:g} MS/s, virtual boards in real time"
        measures.append(
            Measure(name, float(found.pop("lost")), "", 0.0, True, f"{found['samples']:.3g} samples", found)
        )
    return measures


def minute(rate_hz: float, seconds: float, streams: bool) -> dict:
    """Send and listen for ``seconds``; returns the losses of each part."""
    burst = random_burst(np.random.default_rng(1).standard_normal(NUM_WEIGHTS).astype(np.float32))
    samples = np.concatenate(list(modulate(burst)))
    listener, stop = Listener(burst.fmt), threading.Event()
    with Boards() as boards:
        config = RadioConfig(rate_hz=rate_hz, buffer_samples=1 << 18, num_buffers=NUM_BUFFERS, timeout_s=10.0)
        with open_sink(boards.addresses[0], config) as sink:
            if not streams:
                sink.repeat(samples)
            sender = threading.Thread(target=keep_sending, args=(sink, samples, stop))
            with open_source(boards.addresses[1], RadioConfig(**{**vars(config), "gain_db": 60})) as source:
                if streams:
                    sender.start()
                    for _ in range(16):  # until the burst arrives
                        source.read()
                before = boards.state()
                started, num, slowest = time.monotonic(), source.samples, 0.0
                while source.samples - num < seconds * rate_hz:
                    at = time.monotonic()
                    listener.push(source.read())
                    slowest = max(slowest, time.monotonic() - at)
                taken = time.monotonic() - started
                after = boards.state()
                stop.set()
            if streams:
                sender.join()
                underflow = sink.underflow
            found = {
                "samples": source.samples - num,
                "rate reached": (source.samples - num) / taken / rate_hz,
                "not taken in time": after["lost"][1]["RX"] - before["lost"][1]["RX"],
                "not brought in time": after["lost"][0]["TX"] - before["lost"][0]["TX"],
                "time lost by the boards": f"{after['late_s'] - before['late_s']:.2f} s",
                "overflow": source.overflow,
                "underflow": underflow if streams else sink.underflow,
                "boards' share": f"{100 * (after['cpu_s'] - before['cpu_s']) / taken:.0f} % of a core",
                "slowest read": f"{slowest:.2f} s",
                "load": f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores",
            }
    best = listener.best
    received = 0 if best is None else best.num_received
    expected = found["samples"] // (burst.num_samples // burst.header.num_frames)
    found["frames"] = f"{received} of {expected}, give or take the two at the ends"
    found["lost"] = found["not taken in time"] + found["not brought in time"] * streams
    return found


def keep_sending(sink, samples, stop) -> None:
    """Stream the burst again and again; the driver waits while its buffers are full."""
    while not stop.is_set():
        sink.send(samples)


class Boards:
    """Two virtual boards in a process of their own; a context manager."""

    def __enter__(self):
        command = [sys.executable, "-m", "sim.virtual_pluto", "--board", "0:ppm=23", "--board", "0:ppm=-21"]
        command += ["--clock", "realtime", "--loss-db", "80", "--show-state"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        lines = [self._process.stdout.readline().split() for _ in range(2)]
        if not all(lines):
            raise RadioError(f"the virtual boards did not start: exit status {self._process.wait()}")
        self.addresses = [f"pluto:{words[3].rstrip(',')}" for words in lines]
        self._states: list = []
        threading.Thread(target=self._follow, daemon=True).start()
        return self

    def _follow(self):
        for line in self._process.stdout:
            self._states = json.loads(line)

    def state(self) -> dict:
        """Samples lost by each board so far, seconds behind real time, processor time."""
        time.sleep(0.1)  # states are printed every 20 ms
        states = self._states
        ticks = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
        return {
            "lost": [state["lost"] for state in states],
            "late_s": states[0]["late_s"],
            "cpu_s": sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"),
        }

    def __exit__(self, *error):
        self._process.terminate()
        self._process.wait(10)
        self._process.stdout.close()
