"""A page on which people score pictures, and what stands behind it."""
