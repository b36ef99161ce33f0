"""Taking pictures out of what was made of them, by their hashes, and leaving a receipt."""
