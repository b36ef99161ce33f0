"""Tables of experiments: rows trained alike, measured alike, each run only once."""
