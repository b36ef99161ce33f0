"""A tiny dual encoder on disk, as a user would have one."""

import jax
import numpy as np
import pytest
from flax import nnx

from kmm_jax.corpus.scoring.protocol import Sample
from kmm_jax.interop import native
from kmm_jax.models import registry
from kmm_jax.text.tokenizer import Tokenizer
from tests.tiny_models import tiny_coca


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory):
    """The path of an exported model with random weights."""
    texts = ["빨간 체크 셔츠", "파란 줄무늬 원피스", "검은색 운동화", "제품 사진", "잔인한 사진"]
    tokenizer = Tokenizer.train(texts * 3, vocab_size=320)
    config = tiny_coca(vocabulary=tokenizer.vocab_size, length=12)
    params = nnx.as_pure(nnx.state(registry.build(config, rngs=nnx.Rngs(0)), nnx.Param))
    params = jax.tree.map(lambda x: x * 1.5, nnx.to_pure_dict(params))
    folder = tmp_path_factory.mktemp("encoder") / "model"
    exported = native.Exported(config=config, params=params, tokenizer=tokenizer, styled=True)
    native.save(folder, exported)
    return str(folder)


@pytest.fixture
def samples():
    """Five pictures of noise with texts; the last has none."""
    rng = np.random.default_rng(0)
    texts = [
        (("빨간 체크 셔츠",), ("셔츠", "체크 셔츠")),
        ((), ("원피스",)),
        (("검은색 운동화", "운동화 추천"), ()),
        (("빨간 체크 셔츠",), ("셔츠",)),
        ((), ()),
    ]
    return [
        Sample(
            str(n),
            rng.integers(0, 256, (24, 32, 3), dtype=np.uint8),
            titles,
            queries,
            names=("파란 줄무늬 원피스",) * (n % 2),
            captions=("제품 사진", "검은색 운동화")[:n],
        )
        for n, (titles, queries) in enumerate(texts)
    ]
