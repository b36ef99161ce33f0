"""Known sets of real photos as rows of this library's schema, with Korean texts."""

from kmm_jax.data.datasets.catalog import DATASETS, DatasetInfo, is_there, open_rows

__all__ = ["DATASETS", "DatasetInfo", "is_there", "open_rows"]
