"""Networks of 86 million weights stay under twice their weights' memory and 1 GB, at both ends."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from airnet_sdr.tests.command import ROOT, environment

pytestmark = pytest.mark.alone

NUM_LAYERS, WIDTH = 5, 4148
WEIGHTS_BYTES = 4 * NUM_LAYERS * WIDTH**2
CODE = f"""
import torch
from torch import nn


def large():
    return nn.Sequential(*(nn.Linear({WIDTH}, {WIDTH}, bias=False) for _ in range({NUM_LAYERS})))


def evaluate(network, data_dir=None):
    return {{"output": network(torch.ones(1, {WIDTH})).square().mean().item()}}
"""
# the peak of the process's own memory; that which the system counts for a child begins with its parent's
RUN = """
import atexit, re, runpy, sys
atexit.register(lambda: print(re.search("VmHWM:(.*)kB", open("/proc/self/status").read())[1], file=sys.stderr))
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def peak_bytes(*argv) -> int:
    """Peak of the resident memory of a command."""
    command = [sys.executable, "-c", RUN, *map(str, argv)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return 1024 * int(done.stderr.split()[-1])


@pytest.mark.slow
def test_memory_of_both_ends(tmp_path):
    net, sent, got = tmp_path / "net.py", tmp_path / "large.safetensors", tmp_path / "got.safetensors"
    net.write_text(CODE)
    rng = torch.Generator().manual_seed(1)
    save_file({f"{i}.weight": torch.randn(WIDTH, WIDTH, generator=rng) / 64 for i in range(NUM_LAYERS)}, sent)
    radio, architecture = f"file:{tmp_path / 'air.sigmf-meta'}", f"{net}:large"
    peaks = [
        peak_bytes("tx/send.py", "--architecture", architecture, "--model", sent, "--radio", radio),
        peak_bytes("rx/receive.py", "--architecture", architecture, "--save", got, "--radio", radio),
    ]
    assert max(peaks) <= 2 * WEIGHTS_BYTES + 1e9, peaks
    assert got.stat().st_size > WEIGHTS_BYTES
