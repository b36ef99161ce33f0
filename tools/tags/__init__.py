"""Rare classes from our own generator: a tagger of colours and patterns with and without them."""
