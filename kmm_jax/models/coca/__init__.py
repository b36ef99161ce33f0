"""CoCa and Prompt-CoCa: contrastive captioners."""
