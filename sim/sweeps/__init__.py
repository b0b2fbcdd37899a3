"""What `sim/sweep.py` does: `grid` compares schemes in simulation; `store` and `figures` keep and show its trials."""
