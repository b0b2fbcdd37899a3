"""Parallel function calls by Ray, on this machine or on the cluster at an address."""

import contextlib
import graphlib
import importlib.util
import itertools
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import airnet_sdr
from airnet_sdr.dsp.errors import InputError, one_line

PACKAGE = Path(airnet_sdr.__file__).resolve().parent
ROOMS = ("dsp", "models", "rx", "sim", "tx")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "zoo", "resnet20")  # networks travel only where a call names them
REACH_S = 5.0  # for a connection to the cluster's head


class Workers:
    """``num`` Ray processes on this machine, or those of a cluster.

    To the nodes of a cluster travel this program and the ``files``, by content: files and folders by their relative
    paths in the workers' current folder. Nodes need the packages that the program needs, not the program. On this
    machine nothing travels, and calls read what they need where it is.

    Ctrl-C and SIGTERM take effect between two results, as Ray must not be interrupted.
    """

    def __init__(self, num: int, address: str | None = None, files: Mapping[str, Path] = {}):  # noqa: B006
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if address is not None:
            _check_reachable(address)
            if _has_token():  # otherwise Ray sends none; a cluster that wants none takes it
                os.environ.setdefault("RAY_AUTH_MODE", "token")
        import ray  # seconds to import

        self.ray, self.num, self._stopped = ray, num, None
        env = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
        options: dict = {"log_to_driver": False, "logging_level": "ERROR"}
        with contextlib.ExitStack() as stack:
            if address is None:
                env["PYTHONPATH"] = str(PACKAGE.parent)
                options |= {"num_cpus": num, "include_dashboard": False, "object_store_memory": 100 * 2**20}
                options["runtime_env"] = {"env_vars": env}
            else:
                bundle = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="airnet-sdr-")))
                _pack(bundle, files)
                options["runtime_env"] = {"env_vars": env, "working_dir": str(bundle)}
            try:
                ray.init(address=address or "local", **options)
            except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
                hint = "" if address is None else "; give its token in RAY_AUTH_TOKEN or ~/.ray/auth_token"
                raise InputError(f"no Ray at {address or 'this machine'} ({one_line(error)}){hint}") from error

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
            yield from self._finished(waiting)

    def map_graph(
        self, function: Callable, calls: Mapping[str, tuple], needs: Mapping[str, set[str]]
    ) -> Iterator[tuple[str, Any]]:
        """As `map`, (name, result) of calls by name, each made once those that it needs have finished."""
        remote = self.ray.remote(function).options(max_retries=2)
        order, waiting = graphlib.TopologicalSorter(needs), dict[Any, str]()
        order.prepare()
        while order.is_active():
            for name in order.get_ready():
                waiting[remote.remote(*calls[name])] = name
            for name, result in self._finished(waiting):
                order.done(name)
                yield name, result

    def _finished(self, waiting: dict) -> Iterator[tuple[Any, Any]]:
        """Take what finishes within a second out of those waiting: what it stands for, and its result."""
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


def _pack(folder: Path, files: Mapping[str, Path]) -> None:
    """Copy the program and the files into a folder that is to travel."""
    package = folder / PACKAGE.name
    package.mkdir()
    for path in PACKAGE.glob("*.py"):
        shutil.copy(path, package)
    for room in ROOMS:
        spec = importlib.util.find_spec(f"{PACKAGE.name}.{room}")
        assert spec is not None and spec.origin is not None
        shutil.copytree(Path(spec.origin).parent, package / room, ignore=LEFT_OUT)
    for place, source in files.items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copy(source, target)


def _check_reachable(address: str) -> None:
    """Raises InputError where nobody answers at HOST:PORT; Ray itself would try for half a minute."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return  # auto, which Ray resolves
    try:
        socket.create_connection((host, int(port)), REACH_S).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"no Ray at {address} ({error}); start one: ray start --head") from error


def _has_token() -> bool:
    """Whether this user has the token of a cluster, where Ray looks for it."""
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return "RAY_AUTH_TOKEN" in os.environ or Path(named or Path.home() / ".ray" / "auth_token").is_file()
