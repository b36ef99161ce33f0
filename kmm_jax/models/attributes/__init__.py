"""A picture with the name of a category, against attributes in words (slide 3.1)."""
