"""GNU Radio's air end to end, from our sender's socket to our receiver's: MS/s with noise and carrier offset, losses.

Ten bursts through one flowgraph: the first is sent before GNU Radio has started, two after an idle spell longer than
all its timeouts. Every sample is compared with the sent one, at 40 dB: a missing sample makes all later ones
wrong. A speed is that of a whole burst, from its first sample sent to its last one received, the wait for a sleeping
source included. The peer is our own air at the same settings, in this process, without sockets.
"""

import contextlib
import json
import threading
import time

import numpy as np

from airnet_sdr.dsp.errors import RadioError, RadioTimeoutError
from airnet_sdr.dsp.radio import RadioConfig, Sink, Source, open_sink, open_source
from airnet_sdr.dsp.radio.scale import NOMINAL_POWER
from airnet_sdr.dsp.units import nmse
from airnet_sdr.sim.benchmarks.loss import FREQ_HZ, RATE_HZ
from airnet_sdr.sim.benchmarks.measure import BenchConfig, Measure, spread
from airnet_sdr.sim.benchmarks.speed import white
from airnet_sdr.sim.benchmarks.stopwatch import speeds
from airnet_sdr.sim.channel import Channel, ChannelConfig
from airnet_sdr.sim.channel.gnuradio_process import HEADLESS_AIR, Flowgraph, find_python
from airnet_sdr.sim.channel.gnuradio_settings import settings
from airnet_sdr.sim.demo import free_ports

CONFIG = ChannelConfig(snr_db=40, cfo_hz=40e3, sco_ppm=0)
BURSTS, IDLE_BEFORE, IDLE_S = 10, (4, 8), 5.0
PADDING = 64  # more than the flowgraph holds back at the end of a stream
MESSAGE_SAMPLES = 1 << 17
SPEED = 8.0  # MS/s on two cores


def take_measures(config: BenchConfig) -> list[Measure]:
    """Speed and losses, or one line where there is no GNU Radio."""
    try:
        python = find_python()
    except RadioError:
        return [Measure("GNU Radio is not installed: apt-get install gnuradio", np.nan, "")]
    num, idle_s = (500_000, 1.0) if config.quick else (8_000_000, IDLE_S)
    samples = white(num) * np.float32(np.sqrt(NOMINAL_POWER / 2))
    seconds, errors, lost = send_bursts(python, samples, idle_s)
    rates = [1e-6 * num / s for s in seconds]
    if len(rates) < BURSTS:
        return [Measure("samples lost", float(lost), "", 0.0, True, f"in burst {len(rates)}")]
    steady = [rate for number, rate in enumerate(rates) if number not in (0, *IDLE_BEFORE)]
    trials = f"{len(steady)} bursts of {num:,}"
    own = speeds({"own": (lambda: Channel(CONFIG, RATE_HZ, FREQ_HZ, 1, NOMINAL_POWER).process(samples), num)}, 1)
    detail: dict = {"all": spread(steady), f"after {idle_s:g} s idle": min(rates[number] for number in IDLE_BEFORE)}
    detail |= {"the first, start included": rates[0], "our own air, one process": own["own"]["wall"]["median"]}
    bursts = f"{BURSTS} bursts, one before the start, {len(IDLE_BEFORE)} after {idle_s:g} s idle"
    what = "GNU Radio's air, noise and CFO, socket to socket"
    return [
        Measure(what, detail["all"]["median"], "MS/s", SPEED, False, trials, detail),
        Measure("samples lost", float(lost), "", 0.0, True, bursts, {"sent": BURSTS * (num + PADDING)}),
        Measure("bursts that arrived otherwise than sent", float(errors), "", 0.0, True, bursts),
    ]


def send_bursts(python: str, samples: np.ndarray, idle_s: float) -> tuple[list[float], int, int]:
    """Send bursts until the first loss; seconds of each, number of wrong bursts, and samples lost."""
    one, two = (f"tcp://127.0.0.1:{port}" for port in free_ports(2))
    ends = {"rx": {"block": "pull_source", "endpoint": one}, "tx": {"block": "push_sink", "endpoint": two}}
    argument = json.dumps({**ends, **settings(CONFIG, RATE_HZ, FREQ_HZ, 1), "idle_s": None})
    config = RadioConfig(timeout_s=30.0, backoff_db=None)
    burst = np.concatenate([samples, np.zeros(PADDING, np.complex64)])
    seconds, errors, first = [], 0, 0  # first: number of the first sample in rest
    rest = np.zeros(0, np.complex64)
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(open_sink(f"zmq:{one}?bind=1", config))
        source = stack.enter_context(open_source(f"zmq:{two}", config))
        for number in range(BURSTS):
            if number in IDLE_BEFORE:
                time.sleep(idle_s)
            started = time.perf_counter()
            sending = threading.Thread(target=send_messages, args=(sink, burst))
            sending.start()
            if number == 0:
                stack.enter_context(Flowgraph(python, HEADLESS_AIR, argument, config.timeout_s))
            start = number * burst.size
            rest = read(source, start + samples.size - first, rest)
            seconds.append(time.perf_counter() - started)
            sending.join()
            if first + rest.size < start + samples.size:
                return seconds, errors + 1, start + samples.size - first - rest.size
            errors += not alike(rest[start - first :][: samples.size], samples, start)
            rest, first = rest[start + samples.size - first :], start + samples.size
        sink.send(np.zeros(PADDING, np.complex64))  # flushes the flowgraph
        total = first + read(source, BURSTS * burst.size - first, rest).size
    return seconds, errors, max(0, BURSTS * burst.size - total)


def send_messages(sink: Sink, burst: np.ndarray) -> None:
    """Send a burst in messages."""
    for start in range(0, burst.size, MESSAGE_SAMPLES):
        sink.send(burst[start : start + MESSAGE_SAMPLES])


def read(source: Source, count: int, rest: np.ndarray) -> np.ndarray:
    """Read until ``rest`` and the new samples are ``count``, or no more arrive; returns all of them."""
    blocks, size = [rest], rest.size
    with contextlib.suppress(RadioTimeoutError):
        while size < count:
            blocks.append(source.read())
            size += blocks[-1].size
    return np.concatenate(blocks)


def alike(received: np.ndarray, sent: np.ndarray, first: int) -> bool:
    """Whether samples, from number ``first`` on, equal the sent ones except for carrier offset and noise.

    The phase is fitted per part: GNU Radio's oscillator has steps of 2⁻³² of the rate.
    """
    step = 2 * np.pi * CONFIG.cfo_hz / RATE_HZ
    for start in range(0, sent.size, MESSAGE_SAMPLES):
        x, y = sent[start : start + MESSAGE_SAMPLES], received[start : start + MESSAGE_SAMPLES]
        y = y * np.exp(-1j * (step * (first + start) % (2 * np.pi) + step * np.arange(x.size)))
        phase = np.vdot(x, y)
        if nmse(y * np.conj(phase) / abs(phase), x) > 2 * 10 ** (-CONFIG.snr_db / 10):
            return False
    return True
