"""CLIP: two towers, one contrastive loss."""
