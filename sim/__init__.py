"""The simulated air, the virtual board, benchmarks and experiments."""

if __package__ == "sim":  # `python -m sim.virtual_pluto` in a checkout, which need not be installed
    import sys
    from pathlib import Path

    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")
