"""The first second: processor time of a help text, of a receiver until it listens, of a whole link, and its stages.

Each command runs in a process of its own, with one thread and numba's kernels already in its cache. Processor time is
that of all threads, user and system; wall time is shown beside it. Stages are measured inside the process
(`start_profile`), and a burst in this one, after start.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import numpy as np

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import tensor_specs
from airnet_sdr.rx.combine import rebuild
from airnet_sdr.rx.listen import Listener
from airnet_sdr.sim.benchmarks.measure import BenchConfig, Measure, spread
from airnet_sdr.sim.demo import free_ports
from airnet_sdr.sim.loopback import transmit
from airnet_sdr.tx.sender import make_burst

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "sim" / "benchmarks" / "start_profile.py"
TEXTS = (["tx/send.py", "--help"], ["tx/send.py", "--list"], ["rx/receive.py", "--help"])
LISTENING = ["rx/receive.py", "--radio", "zmq:tcp://127.0.0.1:{port}?bind=1"]
LINK = ["sim/loopback.py", "--model", "fashion", "--seed", "1"]
TEXT_S, LINK_S, BURST_MS = 0.5, 4.0, 30.0
MS = 1e3
SHOWN_S = 0.005  # stages below this are part of the rest


def take_measures(config: BenchConfig) -> list[Measure]:
    """Texts, start of a receiver, the whole link, and a burst after start."""
    repeats = 1 if config.quick else 5
    measures = [text(command, repeats) for command in TEXTS]
    measures.append(staged("rx/receive.py until it listens", LISTENING, "airnet_sdr.rx.receiver:listen", repeats))
    measures.append(staged(" ".join(LINK[:3]), LINK, "-", repeats, LINK_S))
    return [*measures, burst_after_start(10 * repeats)]


def text(command: list[str], repeats: int) -> Measure:
    """The start of a command that needs neither NumPy nor torch."""
    runs = [clocks(command) for _ in range(repeats)]
    cpu, wall = (spread(values) for values in zip(*runs, strict=True))
    return Measure(" ".join(command), cpu["median"], "s", TEXT_S, True, f"{repeats} runs", {"wall": wall})


def clocks(command: list[str]) -> tuple[float, float]:
    """Seconds of processor and of wall time of a command, from its start to its end."""
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / command[0]), *command[1:]], cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise InputError(f"{' '.join(command)} ended with status {process.returncode}; run it alone")
    return used.ru_utime + used.ru_stime, time.monotonic() - started


def staged(what: str, command: list[str], until: str, repeats: int, bound: float | None = None) -> Measure:
    """Processor time of a command until a function is called or its end, the wall time, and medians of the stages.

    Of several runs a first one, which fills numba's cache, is not counted.
    """
    runs = [profiled(command, until) for _ in range(repeats + (repeats > 1))][-repeats:]
    seconds: dict[str, list[float]] = defaultdict(lambda: [0.0] * repeats)
    for number, run in enumerate(runs):
        for stage, value in run["stages"].items():
            seconds[stage][number] = value
    cpu = spread(run["cpu"] for run in runs)
    medians = {stage: median(values) for stage, values in seconds.items()}
    stages = {stage: value for stage, value in sorted(medians.items(), key=lambda item: -item[1]) if value >= SHOWN_S}
    detail = {"wall": spread(run["wall"] for run in runs), **stages}
    return Measure(what, cpu["median"], "s", bound, True, f"{repeats} runs", detail)


def profiled(command: list[str], until: str) -> dict:
    """One run in a process of its own: cpu and wall time in seconds, and cpu seconds of its stages."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "profile.json"
        command = [part.replace("{port}", str(*free_ports(1))) for part in command]
        line = [sys.executable, str(PROFILE), str(report), until, *command]
        started = time.monotonic()
        done = subprocess.run(line, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
        if done.returncode or not report.exists():
            raise InputError(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr.strip()[-500:]}")
        found = json.loads(report.read_text())
    return {"cpu": found["cpu"], "wall": found["since"] - started, "stages": found["stages"]}


def environment() -> dict[str, str]:
    """That of this process, for one thread."""
    return os.environ | {"OMP_NUM_THREADS": "1"}


def burst_after_start(repeats: int) -> Measure:
    """Processor time of a burst of `fashion` at 10 dB from samples to weights, once all is loaded, in one thread."""
    burst = make_burst("fashion", snr_db=10, seed=1)
    samples = transmit(burst, snr_db=10, seed=1)
    receive(samples)
    taken = []
    for _ in range(repeats):
        started = time.process_time()
        num_received = receive(samples)
        taken.append(MS * (time.process_time() - started))
    detail = {"samples": samples.size, "frames": f"{num_received} of {burst.header.num_frames}"}
    what = "a burst of fashion after start, samples to weights"
    return Measure(what, median(taken), "ms", BURST_MS, True, f"{repeats} runs", detail)


def receive(samples: np.ndarray) -> int:
    """From samples complex64 (n,) to weights of the network, in one thread; the number of frames received."""
    listener = Listener()
    listener.push(samples)
    listener.finish()
    manifest = listener.best.manifest()
    network = build(manifest.card.architecture, manifest.card.widths)
    rebuild(listener.best, manifest, [spec.numel for spec in tensor_specs(network)])
    return listener.best.num_received
