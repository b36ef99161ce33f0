"""Latent diffusion: its noise schedule and its networks."""
