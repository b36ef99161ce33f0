"""Labels of pictures (colour, pattern) from vectors that are there already (slide 5.3)."""
