"""Seeing what a build did: a page for people (``report.html``) and the data card of the shards."""

PAGE = "report.html"
"""The page's name in a corpus's folder."""
