"""Folders of diffusers, read and written without PyTorch."""
