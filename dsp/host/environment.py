"""The environment of a command's process, set before NumPy and torch read it."""

import os

# Idle OpenMP threads spin by default: with one other busy process, convolutions then take ten times as long.
# The products that OpenBLAS gets are small: more threads only cost.
DEFAULTS = {"OMP_WAIT_POLICY": "passive", "OPENBLAS_NUM_THREADS": "1"}


def set_defaults() -> None:
    """Set `DEFAULTS` where the user has set nothing; libraries loaded before this do not notice."""
    spinning = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys()
    for name, value in DEFAULTS.items():
        if not (name == "OMP_WAIT_POLICY" and spinning):
            os.environ.setdefault(name, value)
