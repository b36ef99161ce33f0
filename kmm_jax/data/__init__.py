"""Image-text rows on disk and the batches made of them."""
