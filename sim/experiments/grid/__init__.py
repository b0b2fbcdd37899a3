"""The grid of `sim/sweep.py`: `plans` selects a scheme's network, `trial` sends it once, `sweep` runs all trials."""
