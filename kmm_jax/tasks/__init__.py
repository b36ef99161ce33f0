"""Tasks: one small file per objective."""
