"""Shared by the experiments: selection of networks, scoring, tables, trials on disk, worker processes."""
