"""A real browser before the page: Debian's Chromium, driven by Playwright, and a lab in a process of its own."""

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from airnet_sdr.dsp.errors import InputError, LinkError
from airnet_sdr.sim.page.processes import END_S, ROOT

NAMES = ("chromium", "chromium-browser", "google-chrome")
START_S = 120.0  # on a busy machine
SIZE = (1280, 720)


def find_browser() -> str:
    """Path of a Chromium; InputError where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise InputError("no Chromium here; as root, run: apt-get install chromium")
    return found


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """A headless Chromium, Playwright's `Browser`; InputError where it or Playwright is missing."""
    path = find_browser()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise InputError("Playwright is missing; install the extra `test`: pip install -e .[test]") from error
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox refuses root
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=flags)
        try:
            yield running
        finally:
            running.close()


@contextlib.contextmanager
def lab(*options: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """A lab at a port of its own: the process, and the address of its page; ended with the context."""
    command = [sys.executable, str(ROOT / "sim" / "lab.py"), "--port=0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        line = process.stdout.readline()
        if "http://" not in line:
            raise LinkError(f"the lab did not start: exit status {process.wait(END_S)}")
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield process, line.split()[-1]
    finally:
        process.terminate()
        try:
            process.wait(3 * END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(condition: Callable[[], bool], what: str, patience_s: float = START_S, pause=time.sleep) -> float:
    """Seconds until ``condition`` holds; LinkError naming ``what`` if it does not. ``pause`` waits for seconds."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > patience_s:
            raise LinkError(f"waited {patience_s:g} s in vain: {what}")
        pause(0.1)
    return time.monotonic() - started


class Page:
    """The page in a browser, with what its script knows (`lab` of page.js)."""

    def __init__(self, running, url: str, size: tuple[int, int] = SIZE, dark: bool = True):
        width, height = size
        theme = "dark" if dark else "light"
        self.tab = running.new_page(viewport={"width": width, "height": height}, color_scheme=theme)
        self.errors: list[str] = []
        self.tab.on("console", self._hear)
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.goto(url)

    def _hear(self, said) -> None:
        if said.type in ("error", "warning"):
            self.errors.append(said.text)

    def get(self, expression: str) -> Any:
        """The value of an expression of JavaScript."""
        return self.tab.evaluate(f"() => {expression}")

    def wait(self, expression: str, patience_s: float = START_S) -> float:
        """Seconds until the expression is true."""
        return wait_until(lambda: self.get(expression), expression, patience_s, self.pause)

    def pause(self, seconds: float) -> None:
        """Let the page go on."""
        self.tab.wait_for_timeout(1000 * seconds)

    def ask(self, asked: dict) -> None:
        """Send a command as the page's own script would."""
        self.tab.evaluate("asked => lab.command(asked)", asked)

    def result(self, number: int, scheme: str) -> dict | None:
        """The newest result of a receiver and scheme."""
        return self.get(f"lab.state?.receivers[{number}]?.results.{scheme} ?? null")
