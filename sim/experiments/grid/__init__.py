"""The grid of `sim/sweep.py`: `plans` chooses what a scheme sends, `trial` sends it once, `sweep` runs them all."""
