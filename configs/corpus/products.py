"""A corpus of a shop: a folder (or tars) of pictures and a table of the products in them.

    kmm corpus build corpus/products --output corpus images.0.url='photos/**/*.jpg' \
        products.0.url=products.tsv

The table names each picture in `file`, below the folder, with or without the suffix; other columns
are `product_name`, `category`, `color` and `material`. Other names: `products.0.category=...`; of
attributes here, or `products.0.attributes=none`. Hardware: any number of processors.
"""

from kmm_jax.corpus.config import CorpusConfig, Images, Products


def corpus() -> CorpusConfig:
    return CorpusConfig(
        name="products",
        images=(Images(url="photos"),),
        products=(
            Products(
                url="products.tsv",
                key="file",
                product_name="product_name",
                category="category",
                attributes={"색상": "color", "소재": "material"},
            ),
        ),
    )
