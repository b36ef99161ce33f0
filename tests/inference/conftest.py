"""A tiny CoCa with its tokenizer, and its export, shared by the tests of this room."""

import jax
import pytest
from flax import nnx

from kmm_jax.inference.model import Model
from kmm_jax.interop import native
from kmm_jax.models import registry
from kmm_jax.text.tokenizer import Tokenizer
from tests.tiny_models import tiny_coca

TEXTS = [
    "빨간 체크 셔츠",
    "파란 줄무늬 원피스",
    "검은색 운동화",
    "노란 우산과 장갑",
    "흰색 꽃무늬 치마",
]


@pytest.fixture(scope="session")
def other_tokenizer(exported):
    """Another tokenizer with as many ids."""
    words = [
        "초록 물방울 모자",
        "보라 격자 바지",
        "갈색 구두",
        "분홍 털실 목도리",
        "은색 저고리",
        "남색 양털 외투",
    ]
    tokenizer = Tokenizer.train(words * 3, vocab_size=320)
    assert tokenizer.vocab_size == exported.tokenizer.vocab_size
    assert tokenizer != exported.tokenizer
    return tokenizer


@pytest.fixture(scope="session")
def exported():
    tokenizer = Tokenizer.train(TEXTS * 3, vocab_size=320)
    config = tiny_coca(vocabulary=tokenizer.vocab_size, length=12)
    params = nnx.as_pure(nnx.state(registry.build(config, rngs=nnx.Rngs(0)), nnx.Param))
    params = jax.tree.map(lambda x: x * 1.5, nnx.to_pure_dict(params))
    return native.Exported(config=config, params=params, tokenizer=tokenizer, styled=True)


@pytest.fixture(scope="session")
def model(exported, tmp_path_factory):
    return Model(
        exported.config,
        exported.params,
        exported.tokenizer,
        styled=True,
        hash=exported.hash,
        path=tmp_path_factory.mktemp("model"),
    )
