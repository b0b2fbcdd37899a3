"""Processes of the lab: started, watched, started again, and ended with whoever started them."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PR_SET_PDEATHSIG = 1  # of Linux's prctl
END_S = 5.0  # that a process gets to end by itself
RETRY_S = 3.0  # between two starts of a process that ends by itself
_LIBC = ctypes.CDLL(None, use_errno=True)


class Child:
    """One process of the lab, its errors in a log file.

    It gets SIGTERM when the thread that started it ends, be it by SIGKILL: start it from the main thread.
    """

    def __init__(self, name: str, log: Path):
        self.name, self.log = name, log
        self._process: subprocess.Popen | None = None
        self.command: list[str] = []  # with which it is started again
        self._started = 0.0
        self._replace = False  # it was told to end, and is started again
        self._deadline: float | None = None  # of its end
        self.wanted = False

    def start(self, command: list[str]) -> None:
        """Start ``python command...``; a running one is ended first, and `watch` starts the new one."""
        self.command, self.wanted = command, True
        if self.alive:
            self._end(replace=True)
        else:
            self._launch()

    def _launch(self):
        parent = os.getpid()

        def tied():
            _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:  # it ended in between
                os._exit(1)

        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(ROOT / self.command[0]), *self.command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # a line for every network would fill the disk in time
                stderr=log,
                start_new_session=True,  # Ctrl-C goes to the lab only, which ends all
                preexec_fn=tied,  # noqa: PLW1509 only prctl is called
            )
        self._started = time.monotonic()
        self._replace, self._deadline = False, None

    @property
    def pid(self) -> int | None:
        """Its process id, None where it does not run."""
        return self._process.pid if self.alive else None

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def why(self) -> str:
        """Why it does not run: "stopped", or its status and the last line that it wrote."""
        if self.alive:
            return ""
        if not self.wanted or self._process is None:
            return "stopped"
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        status = self._process.poll()
        what = f"ended by {signal.Signals(-status).name}" if status and status < 0 else f"ended with status {status}"
        return f"{what}{': ' + lines[-1][:200] if lines else ''}"

    def watch(self) -> bool:
        """Go on with what was begun: start the successor of what has ended; whether it had ended by itself."""
        if self.alive:
            if self._deadline is not None and time.monotonic() > self._deadline:
                self._process.kill()
            return False
        if not self.wanted:
            return False
        if self._replace:
            self._launch()
            return False
        if time.monotonic() - self._started < RETRY_S:
            return False
        self._launch()
        return True

    def end(self) -> None:
        """Ask it to end; `watch` sees to it."""
        self.wanted = False
        self._end(replace=False)

    def _end(self, replace: bool):
        self._replace = replace
        if self.alive:
            self._deadline = time.monotonic() + END_S
            self._process.terminate()

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        self.end()
        if self._process is None:
            return
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def stop_all(children: list[Child]) -> None:
    """End all, side by side."""
    for child in children:
        child.end()
    for child in children:
        child.stop()
