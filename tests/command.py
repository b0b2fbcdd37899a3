"""What the tests of the commands share: running them here or as a user does, models without training, few images."""

import contextlib
import gzip
import io
import os
import signal
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from airnet_sdr.models import checkpoint as checkpoints
from airnet_sdr.models.data import load
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import tensors_of
from airnet_sdr.sim.demo import free_ports

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 300.0  # a process takes seconds to start, and minutes to plan on a busy machine


@dataclass(frozen=True)
class Result:
    """How a command ended and what it wrote."""

    status: int
    out: str
    err: str


def run(main, *argv) -> Result:
    """A command's ``main`` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([str(arg) for arg in argv])
        except SystemExit as stop:
            status = stop.code
    return Result(status, out.getvalue(), err.getvalue())


def environment(data=None) -> dict[str, str]:
    """Of a process that looks in ``data`` for data sets first; one thread each, as several run side by side."""
    return {**os.environ, "OMP_NUM_THREADS": "1", **({} if data is None else {"AIRNET_DATA": str(data)})}


def start(*argv, cwd=ROOT, data=None, **options) -> subprocess.Popen:
    """A command as a process of its own, its output in pipes."""
    command = [sys.executable, *(str(arg) for arg in argv)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=cwd, env=environment(data), preexec_fn=hear_signals, **pipes, **options)


def hear_signals():
    """Tests run in the background or by nohup inherit deafness to SIGINT or SIGHUP; what they start must not."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def finish(process: subprocess.Popen, patience_s: float = PATIENCE_S) -> Result:
    """Wait for a started process, and kill it should it not end."""
    try:
        out, err = process.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Result(process.returncode, out, err)


@contextlib.contextmanager
def killed(*processes):
    """Whatever happens in the block, none of the processes outlives it."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def wait_for(condition, timeout_s=PATIENCE_S):
    """Poll until ``condition()`` is true, and return what it gives."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return value


def assert_refused(result: Result, status: int, *words: str) -> None:
    """One line on standard error that says all of ``words``, and the exit status."""
    assert result.status == status, result
    assert result.err.count("\n") == 1 and result.err.endswith("\n"), result.err
    for word in words:
        assert word in result.err


def zmq_addresses(count: int) -> list[str]:
    """Addresses on this machine that nobody uses."""
    return [f"zmq:tcp://127.0.0.1:{port}" for port in free_ports(count)]


def save_untrained(path: Path, seed: int = 1, accuracy: float = 0.1) -> Path:
    """A `fashion` of random weights that claims ``accuracy``; no sensitivities lie beside it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tensors = tensors_of(build("fashion"))
    checkpoints.save(path, checkpoints.Checkpoint("fashion", "fashion-mnist", accuracy, tensors))
    return path


def save_few_images(folder: Path, num: int) -> Path:
    """The first test images of Fashion-MNIST as a data set of its own, the training images among them."""
    images, labels = load("fashion-mnist", "test")
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "t10k"):
        _save_idx(folder / f"{split}-images-idx3-ubyte.gz", images[:num, 0].numpy())
        _save_idx(folder / f"{split}-labels-idx1-ubyte.gz", labels[:num].numpy().astype(np.uint8))
    return folder


def _save_idx(path, array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), compresslevel=1))
