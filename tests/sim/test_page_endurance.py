"""Four minutes of the lab page before five browsers, one of which reloads all the time; or AIRNET_PAGE_SECONDS."""

import os
import signal
import time
from pathlib import Path

import pytest

from airnet_sdr.sim.page.browser import Page, browser, lab
from airnet_sdr.tests.command import wait_for
from airnet_sdr.tests.page import MISSING, alive, children_of

pytestmark = pytest.mark.alone

SECONDS = float(os.environ.get("AIRNET_PAGE_SECONDS", "240"))
SAMPLE_S = 5.0
WARM = 0.3  # of the time: caches fill, the plots reach their length
GROWTH = 1.05  # of a process's memory after that
# and MB: freed blocks are kept until much is freed at once, so memory rises and falls, and its lowest value counts
GROWTH_MB = 20.0 if SECONDS >= 3600 else 100.0


def resident_mb(pid: int) -> float:
    """Memory of a process that is resident and its own."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    kb = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines[1:])}
    return (kb["Rss"] - kb["Shared_Clean"]) / 1024


@pytest.mark.slow
@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_memory_is_flat_before_five_browsers_and_nothing_is_left(tmp_path):
    memory: dict[int, list[float]] = {}
    heap: list[float] = []
    with lab("--snr-db", "15", "5", "--tour", f"--out={tmp_path}") as (process, url), browser() as chromium:
        pages = [Page(chromium, url) for _ in range(4)]
        for page in pages:
            page.wait("lab.state?.receivers.every((receiver) => 'analog' in receiver.results)")
        reloading = Page(chromium, url)
        pids = [process.pid, *children_of(process.pid)]
        assert len(pids) == 6
        names = {pid: Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:200] for pid in pids}
        started = sampled = time.monotonic()
        while time.monotonic() - started < SECONDS:
            reloading.tab.reload()
            reloading.wait("lab.updates.spectrum > 0")
            if time.monotonic() - sampled > SAMPLE_S:
                sampled = time.monotonic()
                for pid in pids:
                    memory.setdefault(pid, []).append(resident_mb(pid))
                heap.append(pages[0].get("performance.memory.usedJSHeapSize / 2 ** 20"))
        first = pages[0].get("lab.updates.waterfall")
        pages[0].pause(3)
        assert pages[0].get("lab.updates.waterfall") > first
        assert [error for page in (*pages, reloading) for error in page.errors] == []
        assert sorted(children_of(process.pid)) == sorted(pids[1:])  # none had to be started again
        process.send_signal(signal.SIGKILL)
        wait_for(lambda: not any(map(alive, pids)), 60)
    for pid, values in [*memory.items(), (0, heap)]:
        warm = values[int(WARM * len(values)) :]
        before, after = min(warm[: len(warm) // 2]), min(warm[len(warm) // 2 :])
        print(f"{before:7.1f} -> {after:7.1f} MB  {names.get(pid, 'JavaScript heap')}")
        assert after < GROWTH * before + GROWTH_MB, names.get(pid, "JavaScript heap")
