"""A Ray cluster of two nodes on this machine, for the tests that need one."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

from airnet_sdr.sim.demo import free_ports
from airnet_sdr.tests.command import wait_for

MISSING = None if find_spec("ray") else "needs Ray"


@contextlib.contextmanager
def two_nodes(folder: Path) -> Iterator[str]:
    """The address of a cluster of two nodes with one processor each, which wants a token that this process then has.

    Nothing of the environment says where the program is.
    """
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    token = {"RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    quiet = ["--num-cpus", "1", "--object-store-memory", str(100 * 2**20), "--disable-usage-stats"]
    nodes: list[subprocess.Popen] = []

    def start(*options):
        ray = [str(Path(sys.executable).with_name("ray")), "start", "--block", *quiet, *options]
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        env |= token | {"RAY_AUTH_MODE": "token"}
        with (folder / f"node-{len(nodes)}.log").open("w") as log:
            nodes.append(subprocess.Popen(ray, env=env, cwd=folder, stdout=log, stderr=subprocess.STDOUT))

    def is_up(number):
        return "Ray runtime started" in (folder / f"node-{number}.log").read_text()

    try:
        start("--head", "--port", str(port), "--node-ip-address", "127.0.0.1", "--include-dashboard", "false")
        wait_for(lambda: _answers(port) and is_up(0), 120)
        start("--address", address)
        wait_for(lambda: is_up(1), 120)
        with mock.patch.dict(os.environ, token):
            yield address
    finally:
        for node in reversed(nodes):
            node.send_signal(signal.SIGTERM)
        for node in nodes:
            node.wait(60)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False
