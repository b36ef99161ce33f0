"""OneR: one tower and one head for images, texts and both together."""
