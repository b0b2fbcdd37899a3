"""Endurance: sender, air and receiver as processes over ZMQ for an hour, killed and started again.

One receiver listens with `--follow` from the first sample to the last. Round by round the air begins anew, with a
carrier and clock of its own, interference and drops of samples; then the sender is killed, and its successor sends
another burst; then the air is killed. Taps between the processes count samples, so that what a killed air took with it
is known. Of the whole it must hold that

- each sender's burst was reported, and no other;
- frames are missing only where a drop, a killed process or the end of a burst's reports takes them (`FRAMES_HIT` each);
- the samples that the receiver says were lost are those that were: the drops', and a killed air's but for whole cycles;
- resident memory stays, its last quarter against the second, and threads and open files are as many as at first.

Afterwards receivers are stopped or killed one by one, and each must report a network.
"""

import dataclasses
import signal
import statistics
import time
from collections.abc import Callable

import numpy as np

from airnet_sdr.dsp.frame import DEFAULT_FORMAT, frame_samples
from airnet_sdr.sim.benchmarks.measure import Measure
from airnet_sdr.sim.benchmarks.processes import (
    DROP_EVERY,
    DROPS_SAMPLES,
    EnduranceConfig,
    Link,
    Vitals,
    header_of,
    opened,
)

CALM_SAMPLES = 300_000  # before a process is killed
FRAMES_HIT = 3  # by an event: the torn one and its neighbours
SAMPLES_UNSURE = 16  # of a loss: the channel's delay window, and two clocks
LEAST_S = 600.0  # a shorter run says nothing of memory: libraries are still loading
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)


@dataclasses.dataclass
class Account:
    """What was sent, and what was not found as it was lost."""

    burst_ids: list[int] = dataclasses.field(default_factory=list)
    killed_samples: int = 0  # that killed airs took with them
    found_samples: int = 0  # lost samples that the receiver has found
    unexplained: list[dict] = dataclasses.field(default_factory=list)

    def check(self, number: int, found: int, expected: set[int], num_events: int) -> None:
        """Compare the lost samples found in a round with those expected: one of several numbers."""
        off = min(abs(found - each) for each in expected)
        if off > SAMPLES_UNSURE * num_events:
            self.unexplained.append({"round": number, "found": found, "expected": sorted(expected)})
        self.found_samples += found


def endurance(config: EnduranceConfig, progress: Callable[[str], None] = lambda text: None) -> list[Measure]:
    """The whole run; its measures. Raises LinkError where a process ends by itself, or no sample passes any more."""
    measures = []
    if config.kills:
        with opened(config) as link:
            began = time.monotonic()
            account = listen_on(link, progress)
            measures += weigh(link, account, time.monotonic() - began)
    if config.restarts:
        with opened(config) as link:
            measures.append(restart_receivers(link, progress))
    return measures


def listen_on(link: Link, progress: Callable[[str], None]) -> Account:
    """The rounds with one receiver."""
    config = link.config
    rng, account, began = np.random.default_rng(config.seed), Account(), time.monotonic()
    header = header_of(config.seed)
    length = frame_samples(header, DEFAULT_FORMAT)
    cycle = length * header.num_frames
    link.start_receiver()
    link.start_sender()
    air, expected, num_events = link.start_air(rng), {0}, 0
    number = 0
    while True:
        number += 1
        account.burst_ids.append(link.burst_id)
        link.until_heard(air.taken + (len(DROPS_SAMPLES) + 1) * DROP_EVERY)
        found = link.lost_samples() - account.found_samples
        account.check(number, found, {each + sum(DROPS_SAMPLES) for each in expected}, num_events + len(DROPS_SAMPLES))
        if number > config.kills:
            break

        def passed(share, of=number):
            """The part of the whole that is to have passed so far, in time and frames; nothing is killed at once."""
            at = began + 60 * config.minutes * (of - 1 + share) / config.kills
            least = max(length * config.frames * (of - 1 + share) / config.kills, link.after_air.given + CALM_SAMPLES)
            return lambda: time.monotonic() > at and link.after_air.given > least

        link.until(passed(rng.uniform(0.4, 0.8)), "time to kill the sender")
        link.end("sender")
        link.settle()
        link.start_sender()
        link.until(passed(1.0), "time to kill the air")
        link.end("air")
        link.settle()
        through = (link.after_air.taken - air.taken + sum(DROPS_SAMPLES)) * (1 + air.sco)
        lost = round(link.before_air.given - air.given - through)
        account.killed_samples += lost
        expected = {lost % cycle, max(0, (lost + cycle // 2) % cycle - cycle // 2)}  # known but for whole cycles
        num_events = 1
        air = link.start_air(rng)
        progress(f"round {number} of {config.kills}: {link.after_air.given / length:,.0f} frames")
    link.end("sender")
    link.settle()
    return account


def weigh(link: Link, account: Account, seconds: float) -> list[Measure]:
    """The measures of the rounds with one receiver."""
    config, header = link.config, header_of(link.config.seed)
    sent = link.after_air.given / frame_samples(header, DEFAULT_FORMAT)
    received = sum(report["frames"]["receptions"] for report in link.bursts.values())
    num_drops = len(DROPS_SAMPLES) * (config.kills + 1)
    allowed = FRAMES_HIT * (num_drops + config.kills) + (FRAMES_HIT + header.num_frames) * len(account.burst_ids)
    wrong = set(account.burst_ids) ^ set(link.bursts)
    begin, end = link.watched[0].seconds, link.watched[-1].seconds
    quarters: list[list[Vitals]] = [[], [], [], []]
    for each in link.watched:
        quarters[min(3, int(4 * (each.seconds - begin) / max(end - begin, 1e-9)))].append(each)
    resident = [statistics.median(each.resident for each in quarter) if quarter else 0 for quarter in quarters]
    handles = [max((each.threads + each.files for each in quarter), default=0) for quarter in quarters]
    mib = {f"quarter {i + 1}": f"{each / 2**20:.1f} MiB" for i, each in enumerate(resident)}
    trials = f"{seconds / 60:.1f} min"
    steady = seconds >= LEAST_S
    lost: dict = {"found": account.found_samples, "drops": num_drops, "killed airs": config.kills}
    lost |= {"with killed airs": account.killed_samples, "unexplained": account.unexplained}
    return [
        Measure("frames on the air to one receiver", sent, "", float(config.frames), False, trials,
                {"received": received}),
        Measure("bursts sent and not reported, or reported and not sent", float(len(wrong)), "", 0.0, True, trials,
                {"sent": len(account.burst_ids), "senders killed": config.kills}),
        Measure("frames on the air that are missing", sent - received, "", float(allowed), True, trials,
                {"bound": "what drops, killed processes and last reports take"}),
        Measure("rounds with lost samples that are not explained", float(len(account.unexplained)), "", 0.0, True,
                trials, lost),
        Measure("resident memory, last quarter over second, less 1", 100 * (resident[3] / resident[1] - 1), "%",
                1.0 if steady else None, True, trials, mib),
        Measure("threads and open files left over", float(handles[3] - handles[1]), "", 0.0 if steady else None, True,
                trials, {"at most": max(handles)}),
    ]  # fmt: skip


def restart_receivers(link: Link, progress: Callable[[str], None]) -> Measure:
    """Stop or kill one receiver after the other; how many found no network."""
    rng = np.random.default_rng(link.config.seed)
    link.start_sender()
    link.start_air(rng)
    statuses: dict[str, int] = {}
    failed = 0
    for number in range(link.config.restarts):
        link.bursts.clear()
        link.start_receiver()
        link.until_heard(1)
        failed += set(link.bursts) != {link.burst_id}
        how = SIGNALS[number % len(SIGNALS)]
        status = link.end("receiver", how)
        statuses[f"status after {how.name}: {status}"] = statuses.get(f"status after {how.name}: {status}", 0) + 1
        progress(f"receiver {number + 1} of {link.config.restarts}")
    left = [path.name for path in link.config.out.iterdir() if path.suffix == ".part"]
    detail = {**statuses, "files left behind": len(left)}
    return Measure("receivers started again that found no network", float(failed), "", 0.0, True,
                   f"{link.config.restarts} receivers", detail)  # fmt: skip
