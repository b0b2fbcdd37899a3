"""The environment of a command's process, set before NumPy and torch read it."""

import gc
import os

from airnet_sdr.dsp.host.stopping import stop_starting

# Idle OpenMP threads spin by default: with one other busy process, convolutions then take ten times as long.
# The products that OpenBLAS gets are small: more threads only cost.
DEFAULTS = {"OMP_WAIT_POLICY": "passive", "OPENBLAS_NUM_THREADS": "1"}
# Libraries make some 100,000 objects that stay; Python's own number, 700, goes through them again and again: 0.3 s.
NEW_OBJECTS = 20_000  # from one search for garbage to the next


def begin() -> None:
    """Begin a command's process, before its imports: `set_defaults`, its memory, and Ctrl-C ends it in one line."""
    set_defaults()
    gc.set_threshold(NEW_OBJECTS)
    stop_starting()
    from airnet_sdr.dsp.host.memory import keep_for_blocks  # not before: its imports take milliseconds

    keep_for_blocks()


def set_defaults() -> None:
    """Set `DEFAULTS` where the user has set nothing; libraries loaded before this do not notice."""
    spinning = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys()
    for name, value in DEFAULTS.items():
        if not (name == "OMP_WAIT_POLICY" and spinning):
            os.environ.setdefault(name, value)
