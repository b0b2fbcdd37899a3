"""Speeds of pieces of work, measured in turn, and the shares of their stages."""

import contextlib
import functools
import time
from collections import defaultdict
from collections.abc import Callable

from airnet_sdr.sim.benchmarks.measure import spread


def speeds(works: dict[str, tuple[Callable, int]], repeats: int) -> dict[str, dict]:
    """MS/s of each work (function, samples): over wall time and over processor time of all threads, with extremes.

    Each is run once before, for compilers and caches; then all in turn, so that other load affects all equally.
    Processor time hardly depends on other load.
    """
    found: dict[str, dict[str, list[float]]] = {name: {"wall": [], "cpu": []} for name in works}
    for round_ in range(repeats + 1):
        for name, (work, num_samples) in works.items():
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if round_:
                found[name]["wall"].append(1e-6 * num_samples / wall)
                found[name]["cpu"].append(1e-6 * num_samples / cpu)
    return {name: {clock: spread(values) for clock, values in clocks.items()} for name, clocks in found.items()}


def shares(work: Callable, stages: dict[str, list[tuple]]) -> dict[str, str]:
    """Percent of work()'s processor time in each stage, a list of (owner, function's name), without stages inside it.

    The functions are wrapped while work runs, in one thread; missing ones are skipped.
    """
    spent: dict[str, float] = defaultdict(float)
    running: list[float] = []

    def timed(stage, function):
        @functools.wraps(function)
        def wrapper(*values, **options):
            running.append(0.0)
            start = time.thread_time()
            try:
                return function(*values, **options)
            finally:
                taken = time.thread_time() - start
                spent[stage] += taken - running.pop()
                if running:
                    running[-1] += taken

        return wrapper

    with contextlib.ExitStack() as undo:
        for stage, functions in stages.items():
            for owner, name in functions:
                original = getattr(owner, name, None)
                if original is not None:
                    setattr(owner, name, timed(stage, original))
                    undo.callback(setattr, owner, name, original)
        start = time.thread_time()
        work()
        total = time.thread_time() - start
    spent["rest"] = total - sum(spent.values())
    return {stage: f"{100 * seconds / total:.0f} %" for stage, seconds in spent.items()}
