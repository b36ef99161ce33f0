"""Which similarity threshold is best: the same small model trained at each (slide 2.2)."""
