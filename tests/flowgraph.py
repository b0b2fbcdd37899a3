"""GNU Radio for tests: whether it is here, and small flowgraphs of its blocks as processes beside a test."""

import contextlib
import json
import subprocess

import numpy as np
import pytest

from airnet_sdr.dsp.errors import RadioError
from airnet_sdr.sim.channel.gnuradio_process import environment, find_python

try:
    PYTHON, MISSING = find_python(), None
except RadioError as error:
    PYTHON, MISSING = None, str(error)

COMPLEX = 8  # bytes of an item
needs_gnuradio = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")

# blocks as [module, name, arguments…], connected in a row, until standard input closes or the flowgraph ends
SCRIPT = """
import importlib, json, sys
from gnuradio import gr
top = gr.top_block()
row = [getattr(importlib.import_module("gnuradio." + module), name)(*args)
       for module, name, *args in json.loads(sys.argv[1])]
for block in row:
    if hasattr(block, "set_unbuffered"):
        block.set_unbuffered(True)
top.connect(*row)
top.start()
print("ready", flush=True)
if sys.argv[2:] == ["to its end"]:
    top.wait()
sys.stdin.read()
top.stop()
top.wait()
"""


@contextlib.contextmanager
def flowgraph(*row, to_its_end=False):
    """A row of GNU Radio's blocks, running; left when it has ended, which it is asked to or comes to by itself."""
    command = [PYTHON, "-c", SCRIPT, json.dumps(row), *(["to its end"] if to_its_end else [])]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        while (line := process.stdout.readline()) != "ready\n":  # GNU Radio prints now and then
            assert line, process.stderr.read()
        yield process
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()


def numbered(first, num):
    """Samples that tell where they are in the stream (exact below 2²⁴)."""
    return np.arange(first, first + num, dtype=np.float32).astype(np.complex64)
