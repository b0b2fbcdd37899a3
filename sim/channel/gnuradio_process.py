"""GNU Radio as a process of its own: which Python has it, and a flowgraph that is watched while it runs.

GNU Radio is not imported here: distributions build it against an older NumPy than this program needs, and its licence
(GPL) stays on its side of a process.
"""

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from airnet_sdr.dsp.errors import RadioError

HEADLESS_AIR = Path(__file__).resolve().parent / "flowgraphs" / "headless_air.py"
BUFFER_BYTES = 524_288  # of every block: GNU Radio's own, an eighth, costs half the speed
PROBE = "from gnuradio import analog, blocks, channels, filter, gr, zeromq; print(gr.version())"
INSTALL = "as root, run: apt-get install gnuradio; or name its Python with --gnuradio-python"
GRACE_S = 10.0  # to end after having been asked to


def find_python(given: str | None = None) -> str:
    """The Python that has GNU Radio 3.10: the given one, else this environment's, the first one on PATH, the system's.

    Raises RadioError, with what was tried.
    """
    candidates = [sys.executable, shutil.which("python3"), "/usr/bin/python3"] if given is None else [given]
    failures = []
    for python in dict.fromkeys(filter(None, candidates)):
        try:
            found = subprocess.run(
                [python, "-c", PROBE], capture_output=True, check=False, text=True, timeout=60, env=environment()
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            failures.append(f"{python} ({error.strerror if isinstance(error, OSError) else 'no answer in 60 s'})")
            continue
        version = found.stdout.strip()
        if found.returncode == 0 and version.startswith("3.10."):
            return python
        last = (found.stderr.strip().splitlines() or ["nothing said"])[-1]
        failures.append(f"{python} ({f'version {version}' if found.returncode == 0 else last})")
    raise RadioError(f"no Python with GNU Radio 3.10: {', '.join(failures)}; {INSTALL}")


def environment() -> dict[str, str]:
    """Of a process with GNU Radio: large buffers, one thread a block and none of OpenBLAS's beside them."""
    return {
        **os.environ,
        "GR_CONF_DEFAULT_BUFFER_SIZE": str(BUFFER_BYTES),
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


class Flowgraph:
    """A script under GNU Radio's Python that prints how many samples came in and went out; a context manager.

    Leaving the block asks it to end, and kills it should it not. It ends by itself when this process dies.
    """

    def __init__(self, python: str, script: Path, argument: str, timeout_s: float):
        self.samples_in = self.samples_out = 0
        self._command, self._timeout_s = [python, str(script), argument], timeout_s

    def __enter__(self):
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            self._command,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment(),
            start_new_session=True,  # Ctrl-C is the starter's
        )
        return self

    def __exit__(self, exc_type, exc, traceback):
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must leave no orphan
        try:
            if self._process.poll() is None and not isinstance(exc, RadioError):
                self._process.terminate()
                for _ in self._lines(GRACE_S):
                    pass
        except RadioError:
            pass  # it hangs
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._errors.close()
            signal.signal(signal.SIGINT, previous)

    def follow(self) -> None:
        """Until it ends by itself; raises RadioError when it fails, or says nothing for the timeout."""
        for _ in self._lines(self._timeout_s):
            pass
        status = self._process.wait()
        if status:
            how = f"was killed by signal {-status}" if status < 0 else f"ended with {status}"
            raise RadioError(
                f"GNU Radio {how} after {self.samples_in} samples{self._last_words()}; start the air again"
            )

    def _lines(self, timeout_s) -> Iterator[None]:
        """One step for each of its reports, until it ends."""
        deadline, rest = time.monotonic() + timeout_s, b""
        while True:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise RadioError(
                    f"GNU Radio ({self._command[0]}, process {self._process.pid}) has not answered for {timeout_s:g} s "
                    "and is killed; start the air again"
                )
            read = os.read(self._process.stdout.fileno(), 1 << 16)
            if not read:
                return
            *lines, rest = (rest + read).split(b"\n")
            for line in lines:
                numbers = line.split()
                if len(numbers) == 2 and all(map(bytes.isdigit, numbers)):  # GNU Radio prints now and then
                    self.samples_in, self.samples_out = map(int, numbers)
                    deadline = time.monotonic() + timeout_s
                    yield

    def _last_words(self) -> str:
        """What it said on standard error at last, if anything."""
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        return f" ({lines[-1]})" if lines else ""
