"""Flax NNX models: a folder per family; `registry` lists them."""
