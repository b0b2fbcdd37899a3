"""Parallel function calls by Ray, on this machine or on the cluster at an address."""

import itertools
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import airnet_sdr
from airnet_sdr.dsp.errors import InputError

SRC = Path(airnet_sdr.__file__).resolve().parents[1]  # the program's path on a worker


class Workers:
    """``num`` Ray processes on this machine, or a cluster, which needs the program at the same path.

    Ctrl-C and SIGTERM take effect between two results, as Ray must not be interrupted.
    """

    def __init__(self, num: int, address: str | None = None):
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray  # seconds to import

        self.ray, self.num, self._stopped = ray, num, None
        env = {"PYTHONPATH": str(SRC), **{f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}}
        options: dict = {"log_to_driver": False, "runtime_env": {"env_vars": env}, "logging_level": "ERROR"}
        if address is None:
            options |= {"num_cpus": num, "include_dashboard": False, "object_store_memory": 100 * 2**20}
        try:
            ray.init(address=address or "local", **options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(f"no Ray at {address} ({' '.join(str(error).split())[:200]}); start one") from error

    def __enter__(self):
        self._before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_):
        self.ray.shutdown()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number, _):
        self._stopped = number

    def map(self, function: Callable, calls: Iterable[tuple]) -> Iterator[tuple[tuple, Any]]:
        """Yield (arguments, result) of each call when it finishes. The first error stops all."""
        remote = self.ray.remote(function).options(max_retries=2)
        calls, waiting = iter(calls), dict[Any, tuple]()
        while True:
            most = 2 * max(self.num, int(self.ray.cluster_resources().get("CPU", 1)))
            for call in itertools.islice(calls, most - len(waiting)):
                waiting[remote.remote(*call)] = call
            if not waiting:
                return
            finished, _ = self.ray.wait(list(waiting), num_returns=1, timeout=1.0)
            for each in finished:
                try:
                    yield waiting.pop(each), self.ray.get(each)
                except self.ray.exceptions.RayTaskError as error:
                    raise (error.cause if isinstance(error.cause, Exception) else error) from error
            if self._stopped == signal.SIGINT:
                raise KeyboardInterrupt
            if self._stopped is not None:
                raise SystemExit(128 + self._stopped)
