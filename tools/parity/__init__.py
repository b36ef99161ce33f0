"""Models of other libraries and ours with the same weights, side by side."""
