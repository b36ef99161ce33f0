"""The one training loop: experiment, state, sharding, optimizer, checkpoints, metrics."""
