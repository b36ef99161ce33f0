"""The first walk through the house: data, training, scores, captions, search, a report."""
