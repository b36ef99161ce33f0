"""A corpus from tables of pictures, documents and clicks, by the rules of slides 2.1 to 2.3.

    kmm corpus build corpus/tables --output corpus images.0.url='raw/images-*.parquet' \
        documents.0.url='raw/documents-*.parquet' clicks.0.url='raw/clicks-*.parquet'

All are Parquet. Pictures: `key` and `image` (encoded bytes). Documents: `key` and `title`, a row
for each document that shows the picture. Clicks: `key`, `query` and `clicks`. Other names of
columns are said by `images.0.key=...`. A dual encoder scores texts by `similarity.model=MODEL`, and
`similarity.least_query=0.3` rejects by it. Hardware: any number of processors, of which OCR takes
most of the time (`ocr=none` leaves it out).
"""

from kmm_jax.corpus.config import Clicks, CorpusConfig, Documents, Images
from kmm_jax.corpus.scoring.ocr import Ocr
from kmm_jax.corpus.scoring.watermark import Watermark


def corpus() -> CorpusConfig:
    return CorpusConfig(
        name="tables",
        images=(Images(url="raw/images-*.parquet"),),
        documents=(Documents(url="raw/documents-*.parquet"),),
        clicks=(Clicks(url="raw/clicks-*.parquet", count="clicks"),),
        watermark=Watermark(),
        ocr=Ocr(),
    )
