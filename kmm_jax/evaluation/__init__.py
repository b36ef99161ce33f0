"""Scores of a model: zero-shot classification, retrieval, captions; each beside its chance."""
