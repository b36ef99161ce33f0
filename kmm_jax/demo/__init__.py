"""A demonstration: a corpus that is made, documents with pictures and judged queries, served."""
