"""The networks: data, checkpoints, payloads and training."""
