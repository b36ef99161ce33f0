"""Raw documents, images and clicks to clean training shards (slides 2.1 to 2.3)."""
