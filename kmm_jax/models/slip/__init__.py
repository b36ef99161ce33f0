"""SLIP: a CLIP whose image tower also learns from pictures alone."""
