"""Nearest neighbours by several libraries: vectors, engines, processes, page."""
