"""A corpus from public sets of images: what img2dataset downloaded, its captions as texts.

    kmm corpus extract-korean 'laion2B-multi-joined/*.parquet' --output korean --least-side 200
    img2dataset --url_list korean --input_format parquet --url_col url --caption_col text \
        --save_additional_columns '["source"]' --resize_mode no \
        --output_format webdataset --output_folder korean-images
    kmm corpus build corpus/external --output corpus images.0.url=korean-images

The text beside a picture counts like a document's title: of several copies the most frequent stays,
and scores are of it. Reads tars (`webdataset`) and folders (`files`); tables (`parquet`) with
`images.0.image=jpg`. Hardware: any number of processors.
"""

from kmm_jax.corpus.config import CorpusConfig, Images
from kmm_jax.corpus.scoring.ocr import Ocr
from kmm_jax.corpus.scoring.watermark import Watermark


def corpus() -> CorpusConfig:
    return CorpusConfig(
        name="external",
        images=(Images(url="korean-images", title="caption", image_url="url", source="source"),),
        watermark=Watermark(),
        ocr=Ocr(),
    )
