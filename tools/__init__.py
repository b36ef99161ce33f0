"""Command-line tools around the library: exports, conversions, benchmarks."""
