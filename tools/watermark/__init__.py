"""Trains and measures the watermark detector that the corpus pipeline ships."""
