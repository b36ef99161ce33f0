"""Stable Diffusion of diffusers and ours with the same weights, side by side."""
