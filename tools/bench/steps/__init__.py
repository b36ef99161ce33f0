"""The parts of `tools.bench.train_step`: what is measured, both sides of it, and the table."""
