"""Pictures to names of places or products: candidates of several models, ranked again."""
