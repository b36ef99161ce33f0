"""A trained CoCa finetuned to say what people would search an image by (slide 3.2, image-to-query).

    kmm train coca/finetune_queries --run-dir RUN --init BASE \
        data.sources.0.url='data/korean/train-*.tar' tokenizer=TOKENIZER   # the base's own
    kmm train coca/finetune_queries ... data.fields.0.0=query_en           # English queries

The records' field `query` holds Korean queries, drawn by their counts, `query_en` English ones.
Neither the talk nor the paper has a recipe for queries: the one of captions (finetune_captions.py)
is taken, for a fifth of its steps. Hardware: any number of accelerators that divides 128. Measure
it with

    kmm evaluate RUN 'data/korean/test-*.tar' --tasks queries,retrieval

No figure is published. At the size of a CPU: docs/results/caption_tuning.md.
"""

import dataclasses

from kmm_jax.training.config_file import load_experiment
from kmm_jax.training.experiment import Experiment


def experiment() -> Experiment:
    captions = load_experiment("coca/finetune_captions")
    return dataclasses.replace(
        captions,
        name="coca-queries",
        data=dataclasses.replace(captions.data, fields=(("query", 1.0),)),
        duration="10000 steps",
    )
