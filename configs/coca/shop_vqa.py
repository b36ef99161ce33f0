"""Questions about pictures of the built-in Korean shop, answered by its CoCa (slide 5.4).

    kmm data shards shop --questions --limit 12000 --output data/shop
    kmm tokenizer train 'data/shop/train-*.tar' --vocab-size 1500 --output data/shop/tokenizer
    kmm train coca/shop --run-dir runs/shop                          # the CoCa to begin from
    kmm train coca/shop_vqa --run-dir runs/shop_vqa --init runs/shop
    kmm ask runs/shop_vqa photo.jpg "무슨 색이야?"
    kmm evaluate runs/shop_vqa 'data/shop/test-*.tar' --tasks questions

The tokenizer must be made of the shop with questions, whose words it needs. A batch holds
`[BOS] [QUERY] question [PROMPT] answer [EOS]`, and only the answer has a loss. Any shards whose
records have `questions` (kmm_jax/data/questions.py) train in the same way.

Hardware: two CPU cores, 10 minutes after the base. Expected: docs/results/vqa.md.
"""

import dataclasses

from kmm_jax.training.config_file import load_experiment
from kmm_jax.training.experiment import Experiment


def experiment() -> Experiment:
    base = load_experiment("coca/shop")
    return dataclasses.replace(
        base,
        name="coca-shop-vqa",
        # A question describes no image, so there is nothing to contrast.
        task=dataclasses.replace(base.task, contrastive_weight=0.0, caption_weight=1.0),
        data=dataclasses.replace(
            base.data,
            fields=(("questions", 1.0),),
            # Left and right are asked about.
            augment=dataclasses.replace(base.data.augment, scale=(0.8, 1.0), flip=0.0),
        ),
        optimizer=dataclasses.replace(base.optimizer, learning_rate=5e-4),
    )
