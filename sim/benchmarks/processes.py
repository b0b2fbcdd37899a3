"""Sender, air and receiver as processes over ZMQ, with taps between them that count samples."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from airnet_sdr.dsp.errors import LinkError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT, Header, frame_samples
from airnet_sdr.dsp.host.options import check_fields, option
from airnet_sdr.dsp.radio.config import FREQ_HZ
from airnet_sdr.sim.benchmarks.tap import Tap
from airnet_sdr.tx.config import SendConfig
from airnet_sdr.tx.sender import make_burst

ROOT = Path(__file__).resolve().parents[2]
MODEL, ARCHITECTURE = "models/examples/modulation.safetensors", "models/examples/modulation.py:modulation"
DROPS_SAMPLES = (700, 2500, 9000)  # of each air...
DROP_EVERY = 250_000  # ...so many samples apart
AIR = "--snr-db 18 --phase-noise-deg 0.5 --interference tones:0:0.01 --interference hops:-10:0.003".split()
AIR += ["--interference", "pulses:-10:0.001"]
POLL_S = 0.2
HASTE = 1.5  # times the rate at which the frames would take the whole time: processes start, too
STILL_S = 1.5  # without a sample: what a killed process sent has passed


@dataclasses.dataclass(frozen=True)
class EnduranceConfig:
    """How long, how often, and where to write."""

    minutes: float = option(60.0, "at least so long", 0, 1e5, metavar="T")
    frames: int = option(180_000, "at least so many frames", 1, 10**9)
    kills: int = option(100, "rounds; in each the sender and the air are killed once", 0, 10**6)
    restarts: int = option(100, "receivers that are stopped or killed afterwards", 0, 10**6)
    seed: int = option(1, "seed of bursts, airs and times", 0, 2**31)
    out: Path = option(Path("out/endurance"), "output folder", metavar="DIR")
    patience_s: float = option(300.0, "give up when nothing happens for T seconds", 1, 1e6, metavar="T")

    def __post_init__(self):
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class Vitals:
    """Of a process: when, resident bytes, threads, open files."""

    seconds: float
    resident: int
    threads: int
    files: int


def vitals(pid: int) -> Vitals:
    """What Linux says of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    files, threads = len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))
    return Vitals(time.monotonic(), pages * os.sysconf("SC_PAGE_SIZE"), threads, files)


def peak_bytes() -> int:
    """The most resident memory that this process has had (Linux's getrusage begins with that of its parent)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(status["VmHWM"].split()[0])


@dataclasses.dataclass(frozen=True)
class Air:
    """A running air: its clock offset, and what the taps had counted when it began."""

    sco: float
    given: int
    taken: int


class Link:
    """The three processes with the taps between them; counts and reports as they are now."""

    def __init__(self, config: EnduranceConfig, taps: tuple[Tap, Tap]):
        self.config = config
        self.before_air, self.after_air = taps
        self.report_path = config.out / "report.json"
        self.running: dict[str, subprocess.Popen] = {}
        self.watched: list[Vitals] = []  # of the receiver
        self.bursts: dict[int, dict] = {}  # the last report of each burst, by id
        self.log = open(config.out / "processes.log", "a", encoding="utf-8")
        self.burst_id = 0  # of the sender's burst
        self._seed = config.seed - 1  # of the last sender

    def start(self, name: str, *command: str) -> None:
        """Start a process, in place of one that has ended."""
        argv = [sys.executable, *command]
        self.running[name] = subprocess.Popen(
            argv, cwd=ROOT, stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True
        )

    def start_receiver(self) -> None:
        """The receiver, which listens until it is stopped."""
        self.report_path.unlink(missing_ok=True)
        command = ["rx/receive.py", "--follow", "--radio", self.after_air.exit, "--timeout-s", "1e6"]
        command += ["--architecture", ARCHITECTURE, "--evaluate", "none", "--report", str(self.report_path.resolve())]
        self.start("receiver", *command)

    def start_air(self, rng: np.random.Generator) -> Air:
        """An air with a carrier, clock, interference and drops of its own."""
        cfo_hz = round(rng.uniform(-50e3, 50e3))
        air = Air(cfo_hz / FREQ_HZ, self.before_air.given, self.after_air.taken)
        command = ["sim/air.py", "--rx", self.before_air.exit, "--tx", self.after_air.entry, *AIR]
        command += ["--cfo-hz", str(cfo_hz), "--seed", str(rng.integers(2**31))]
        for i, num in enumerate(DROPS_SAMPLES):
            command += ["--drop", f"{(i + 1) * DROP_EVERY - rng.integers(DROP_EVERY // 2)}:{num}"]
        self.start("air", *command)
        return air

    def start_sender(self) -> None:
        """The next sender, of another burst, without end."""
        self._seed += 1
        self.burst_id = header_of(self._seed).burst_id
        command = ["tx/send.py", "--model", MODEL, "--architecture", ARCHITECTURE, "--radio", self.before_air.entry]
        self.start("sender", *command, "--cycles", "0", "--timeout-s", "1e6", "--seed", str(self._seed))

    def end(self, name: str, how: int = signal.SIGKILL) -> int:
        """Stop or kill a process and wait for its end; its exit status."""
        process = self.running.pop(name)
        process.send_signal(how)
        try:
            return process.wait(self.config.patience_s)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise LinkError(
                f"the {name} did not end within {self.config.patience_s:g} s of signal {how}; see {self.log.name}"
            ) from error

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait, and watch the processes meanwhile; LinkError when nothing is counted for long, or one ends."""
        counted, since = -1, time.monotonic()
        while not condition():
            for name, process in self.running.items():
                if process.poll() is not None:
                    raise LinkError(f"the {name} ended with {process.returncode}; see {self.log.name}")
            if self.after_air.given != counted:
                counted, since = self.after_air.given, time.monotonic()
            elif time.monotonic() - since > self.config.patience_s:
                raise LinkError(f"no sample passed for {self.config.patience_s:g} s, waiting for {what}")
            self.look()
            time.sleep(POLL_S)

    def look(self) -> None:
        """Take the receiver's vitals and its last report."""
        receiver = self.running.get("receiver")
        if receiver is not None and receiver.poll() is None:
            with contextlib.suppress(OSError):  # it may just have ended
                self.watched.append(vitals(receiver.pid))
        if (report := self.report()) is not None:
            self.bursts[report["burst_id"]] = report

    def report(self) -> dict | None:
        """The receiver's last report."""
        try:
            return json.loads(self.report_path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def settle(self) -> None:
        """Wait until what was sent has passed the taps."""
        counts: tuple[int, ...] = ()
        since = time.monotonic()
        while time.monotonic() - since < STILL_S:
            now = (self.before_air.taken, self.after_air.taken, self.after_air.given)
            if now != counts or now[1] != now[2]:
                counts, since = now, time.monotonic()
            self.look()
            time.sleep(POLL_S)

    def until_heard(self, num_samples: int) -> None:
        """Wait for a report of the receiver after so many samples."""

        def heard() -> bool:
            self.look()
            report = self.report()
            return report is not None and report["timing"]["samples"] >= num_samples

        self.until(heard, f"a report after {num_samples} samples")

    def lost_samples(self) -> int:
        """Lost samples that the receiver has found."""
        report = self.report()
        return 0 if report is None else report["radio"]["lost_samples"]


@contextlib.contextmanager
def opened(config: EnduranceConfig) -> Iterator[Link]:
    """A link without processes yet; none is left when the context is."""
    config.out.mkdir(parents=True, exist_ok=True)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background, which its processes would inherit
        signal.signal(signal.SIGINT, signal.default_int_handler)
    least_hz = config.frames * frame_samples(header_of(config.seed), DEFAULT_FORMAT) / max(60 * config.minutes, 1e-9)
    with Tap(HASTE * least_hz) as before, Tap() as after:
        link = Link(config, (before, after))
        try:
            yield link
        finally:
            for name in list(link.running):
                link.end(name)
            link.log.close()


def header_of(seed: int) -> Header:
    """Of the frames of the sender with that seed."""
    return make_burst(str(ROOT / MODEL), SendConfig(architecture=f"{ROOT / ARCHITECTURE}", seed=seed)).header
