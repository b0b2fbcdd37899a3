"""The page's sender: the same network by several schemes in turn, as fast as asked for, until stopped.

A round is a few cycles of one burst for each scheme. Every round has burst ids of its own, so that receivers combine
the cycles of a round and begin anew with the next. Plans are made in a thread while the last one is on the air.
"""

import dataclasses
import itertools
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2] / "src")
    from airnet_sdr.dsp.host import environment

    environment.begin()

import numpy as np

from airnet_sdr.dsp.errors import LinkError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.memory import LEAST_BYTES, give_back
from airnet_sdr.dsp.host.options import add_options, check_fields, config_from, option
from airnet_sdr.dsp.radio import RadioConfig, Sink, open_sink
from airnet_sdr.rx.live import LiveFeed
from airnet_sdr.sim.channel.control import Control, ControlConfig
from airnet_sdr.sim.page.knobs import NETWORKS, OWN, SenderKnobs, turned
from airnet_sdr.tx.burst import Burst, modulate
from airnet_sdr.tx.config import SendConfig
from airnet_sdr.tx.sender import describe, make_burst

MESSAGES_A_SECOND = 80  # a receiver shows no more than one display a message
LEAST_SAMPLES = 2048  # of a message
LATE_S = 0.5  # a sender that is later than this does not catch up
REPORT_S = 1.0
PLANNED = ("network", "schemes", "protection", "payload_uses", "plan_snr_db")  # knobs that need another plan


@dataclasses.dataclass(frozen=True)
class PageSenderConfig:
    """The radio, and where the page listens."""

    radio: str | None = option(None, "where to send", metavar="ADDRESS")
    feed: str | None = option(None, "where the page listens", metavar="tcp://HOST:PORT")
    model: str | None = option(None, "a network of one's own, which the network `own` is", metavar="NAME|PATH")
    architecture: str | None = option(
        None, "your own architecture, FILE.py:NAME or a registered name", metavar="FILE.py:NAME"
    )

    def __post_init__(self):
        check_fields(self)


class Planner:
    """Makes bursts in a thread; the newest request counts."""

    def __init__(self, model: str | None, architecture: str | None = None):
        self._model, self._architecture = model, architecture
        self._asked: SenderKnobs | None = None
        self._changed = threading.Condition()
        self.bursts: dict[str, Burst] = {}
        self.plans: dict[str, dict] = {}  # of each scheme, for the page
        self.errors: dict[str, str] = {}
        self.made = 0  # plans so far
        self.busy = False
        self._failure: BaseException | None = None
        threading.Thread(target=self._run, daemon=True).start()

    def ask(self, knobs: SenderKnobs) -> None:
        """Plan for these knobs, in place of an earlier request."""
        with self._changed:
            self._asked, self.busy = knobs, True
            self._changed.notify()

    def check(self) -> None:
        """Raise what ended the thread, if anything did: without it there are no more plans."""
        if self._failure is not None:
            raise self._failure

    def _run(self):
        try:
            self._work()
        except BaseException as error:
            self._failure = error

    def _work(self):
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._asked is not None)
                knobs, self._asked = self._asked, None
            bursts, errors = {}, {}
            for scheme in knobs.schemes:
                try:
                    bursts[scheme] = self._burst(knobs, scheme)
                except LinkError as error:
                    errors[scheme] = str(error)
            plans = {scheme: _plan(burst) for scheme, burst in bursts.items()}
            with self._changed:
                self.bursts, self.plans, self.errors = bursts, plans, errors
                self.made += 1
                self.busy = self._asked is not None
            give_back(LEAST_BYTES)  # a plan takes a hundred times what a burst keeps

    def _burst(self, knobs: SenderKnobs, scheme: str) -> Burst:
        path = self._model if knobs.network == OWN else NETWORKS[knobs.network][scheme]
        uep = None if knobs.protection == "auto" else knobs.protection
        config = SendConfig(uep=uep, snr_db=knobs.plan_snr_db, payload_uses=knobs.payload_uses, scheme=scheme)
        own = self._architecture if knobs.network == OWN else None
        return make_burst(path, config, architecture=own)


class PageSender:
    """Knobs, plan and clock of the sender."""

    def __init__(self, knobs: SenderKnobs, planner: Planner, feed: LiveFeed, paced: bool):
        self._knobs, self._planner, self._feed, self._paced = knobs, planner, feed, paced
        self._restart = False
        self._due = time.monotonic()
        self._reported = 0.0
        self._round = 0
        planner.ask(knobs)

    def change(self, options: dict) -> None:
        """Turn knobs, and with {"restart": true} begin a new round."""
        options = dict(options)
        self._restart |= bool(options.pop("restart", False))
        before, self._knobs = self._knobs, turned(self._knobs, options)
        if any(getattr(before, name) != getattr(self._knobs, name) for name in PLANNED):
            self._planner.ask(self._knobs)
        self._reported = 0.0

    def samples(self) -> Iterator[np.ndarray]:
        """Endless samples (n,) complex64: rounds of the newest plan, or silence while muted or unplanned."""
        for self._round in itertools.count():
            self._planner.check()
            made, self._restart = self._planner.made, False
            bursts = [self._renamed(burst) for burst in self._planner.bursts.values()]
            cycle = [samples for burst in bursts for samples in modulate(burst)]
            if self._knobs.muted or not cycle:
                yield np.zeros(self._size(), np.complex64)
                continue
            for samples in itertools.chain.from_iterable(itertools.repeat(cycle, self._knobs.cycles)):
                for start in range(0, samples.size, size := self._size()):
                    yield samples[start : start + size]
                if self._restart or self._knobs.muted or self._planner.made != made:
                    break

    def _renamed(self, burst: Burst) -> Burst:
        """The burst of this round: other rounds are not combined with it."""
        burst_id = (burst.header.burst_id + self._round) % (1 << 32)
        return dataclasses.replace(burst, header=dataclasses.replace(burst.header, burst_id=burst_id))

    def _size(self) -> int:
        return max(LEAST_SAMPLES, int(self._knobs.pace_hz / MESSAGES_A_SECOND))

    def send(self, sink: Sink, control: Control) -> None:
        """Send until stopped."""
        for samples in self.samples():
            sink.send(samples)
            control.serve(self.change)
            self._report(sink)
            if self._paced:
                now = time.monotonic()
                self._due = max(self._due + samples.size / self._knobs.pace_hz, now - LATE_S)
                time.sleep(max(0.0, self._due - now))

    def _report(self, sink: Sink) -> None:
        if time.monotonic() - self._reported < REPORT_S:
            return
        self._reported = time.monotonic()
        self._feed.result(
            {
                "kind": "sender",
                "planning": self._planner.busy,
                "plans": self._planner.plans,
                "errors": self._planner.errors,
                "round": self._round,
                "samples": sink.samples,
                "clipped": sink.clipped,
                "knobs": dataclasses.asdict(self._knobs),
            },
            {},
        )


def _plan(burst: Burst) -> dict:
    card = burst.manifest.card
    return {
        "lines": describe(burst).splitlines(),
        "widths": list(card.widths),
        "accuracy": card.accuracy,
        "frames": burst.header.num_frames,
        "payload": int(burst.stream.size),
        "samples": burst.num_samples,
    }


def main(argv=None) -> int:
    """Send until SIGINT or SIGTERM."""
    parser = CommandParser(prog="page-sender", description=__doc__)
    add_options(parser, PageSenderConfig)
    add_options(parser, SenderKnobs)
    add_options(parser, ControlConfig)
    add_options(parser, RadioConfig, ["freq_hz", "rate_hz", "gain_db"])
    parser.require("radio", "feed")
    options = parser.options(argv)

    def work() -> None:
        config, knobs = config_from(PageSenderConfig, options), config_from(SenderKnobs, options)
        radio = config_from(RadioConfig, options, timeout_s=float("inf"))
        sink = open_sink(config.radio, radio)
        feed = LiveFeed(config.feed, "sender")
        planner = Planner(config.model, config.architecture)
        sender = PageSender(knobs, planner, feed, paced=config.radio.startswith("zmq:"))
        with Control(config_from(ControlConfig, options)) as control, sink:
            sender.send(sink, control)

    return run_command(parser, work)


if __name__ == "__main__":
    sys.exit(main())
