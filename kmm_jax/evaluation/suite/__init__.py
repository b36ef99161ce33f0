"""Benchmark suites: known sets with their protocol, wherever they lie, measured alike."""
