"""GNU Radio in a separate process: finds its Python, runs and monitors a flowgraph.

GNU Radio is not imported here: distributions build it against an older NumPy than this program needs, and a separate
process keeps its licence (GPL) apart.
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
BUFFER_BYTES = 524_288  # per block; GNU Radio's default, an eighth of this, halves the speed
PROBE = "from gnuradio import analog, blocks, channels, filter, gr, zeromq; print(gr.version())"
INSTALL = "as root, run: apt-get install gnuradio; or name its Python with --gnuradio-python"
GRACE_S = 10.0  # to end after a request


def find_python(given: str | None = None) -> str:
    """The Python that has GNU Radio 3.10: the given one, else this environment's, the first one on PATH, the system's.

    Raises RadioError, listing the attempts.
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
    """Environment of a GNU Radio process: large buffers, and OpenBLAS with one thread, as every block has its own."""
    return {
        **os.environ,
        "GR_CONF_DEFAULT_BUFFER_SIZE": str(BUFFER_BYTES),
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


class Flowgraph:
    """A script under GNU Radio's Python that prints how many samples came in and went out; a context manager.

    Leaving the context asks the process to end, and kills it if it does not. It also ends if this process dies.
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
            start_new_session=True,  # Ctrl-C goes to the starter only
        )
        return self

    def __exit__(self, exc_type, exc, traceback):
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave an orphan
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
        """Wait until it ends; raises RadioError if it fails or reports nothing within the timeout."""
        for _ in self._lines(self._timeout_s):
            pass
        status = self._process.wait()
        if status:
            how = f"was killed by signal {-status}" if status < 0 else f"ended with {status}"
            raise RadioError(
                f"GNU Radio {how} after {self.samples_in} samples{self._last_words()}; start the air again"
            )

    def _lines(self, timeout_s) -> Iterator[None]:
        """Yield after each of its reports, until it ends."""
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
                if len(numbers) == 2 and all(map(bytes.isdigit, numbers)):  # skips GNU Radio's own output
                    self.samples_in, self.samples_out = map(int, numbers)
                    deadline = time.monotonic() + timeout_s
                    yield

    def _last_words(self) -> str:
        """The last line of its standard error, if any."""
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        return f" ({lines[-1]})" if lines else ""
