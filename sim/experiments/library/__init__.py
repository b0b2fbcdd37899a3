"""What the experiments share: networks and the choice among them, scoring, tables, trials on disk, worker processes."""
