"""Weights in and out of this library."""
