"""What the tests of the lab page share: a lab as a process, a browser's WebSocket, and whether Chromium is here."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator

from websockets.sync.client import connect

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.sim.page.browser import find_browser
from airnet_sdr.sim.page.hub import REPLY, SCOPE, STATE
from airnet_sdr.tests.command import PATIENCE_S, ROOT, start

try:
    find_browser()
    MISSING = None
except InputError as error:
    MISSING = str(error)


@contextlib.contextmanager
def serving(argv, cwd=ROOT, data=None, stop=signal.SIGTERM) -> Iterator[str]:
    """A lab at a port of its own, and the address of its page; it must end well when it gets ``stop``."""
    process = start(*argv, "--port", "0", cwd=cwd, data=data)
    try:
        line = process.stdout.readline()
        assert "http://" in line, (line, process.stderr.read())
        yield line.split()[-1]
        process.send_signal(stop)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, err) == (0, "")
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def socket_of(url: str, **options) -> Iterator:
    """A WebSocket to the page at ``url``, as its own script opens it."""
    address = url.replace("http://", "ws://") + "live"
    with connect(address, origin=url.rstrip("/"), max_size=None, compression=None, **options) as socket:
        yield socket


def messages(socket, kind: int, timeout_s: float = PATIENCE_S) -> Iterator[bytes]:
    """The contents of the messages of one kind, for ``timeout_s`` at most."""
    deadline = time.monotonic() + timeout_s
    while (left := deadline - time.monotonic()) > 0:
        content = socket.recv(left)
        if content[0] == kind:
            yield content[1:]


def states(url: str) -> Iterator[dict]:
    """The states that a page shows, as they come."""
    with socket_of(url) as socket:
        yield from map(json.loads, messages(socket, STATE))


def reply(socket, asked) -> dict:
    """The answer to a command."""
    socket.send(asked if isinstance(asked, (str, bytes)) else json.dumps(asked))
    return json.loads(next(messages(socket, REPLY)))


def scopes(socket, seconds: float) -> list[bytes]:
    """The scopes that come in so many seconds."""
    found = []
    with contextlib.suppress(TimeoutError):
        found += messages(socket, SCOPE, seconds)
    return found


def children_of(pid: int) -> list[int]:
    """Processes that a process has started and that run."""
    found = []
    for each in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            fields = open(f"/proc/{each}/stat").read().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(each))
    return found


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but was not waited for does not."""
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
