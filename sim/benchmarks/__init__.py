"""The benchmarks, one module a section; `sim/bench.py` runs them."""
