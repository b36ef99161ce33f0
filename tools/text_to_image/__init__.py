"""Korean text to image, end to end: a generator that knows English, and a Korean encoder for it."""
