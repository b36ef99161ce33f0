"""Weights of other libraries give the same vectors here; tiny models, all families."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from safetensors.numpy import load_file

from kmm_jax.interop import names, native
from kmm_jax.interop.conversion import export_weights
from kmm_jax.interop.families import FAMILIES
from kmm_jax.interop.families.base import Hints
from tests import references
from tests.interop.conftest import UNIGRAM_VOCABULARY, VOCABULARY
from tools.parity import compare, multilingual, originals

SIZES = originals.Sizes(
    image_size=32, patch_size=8, width=64, depth=2, heads=1, text_width=64, text_depth=3,
    text_heads=1, embedding=24, vocabulary=VOCABULARY, length=12,
)  # fmt: skip


def cases():
    change = dataclasses.replace
    several = change(SIZES, heads=4, text_heads=2)
    wide = change(several, text_width=128, embedding=128)
    return {
        "hf-clip": lambda: originals.hf_clip(several),
        "open-clip": lambda: originals.open_clip(several),
        "openai": lambda: originals.open_clip(SIZES, quick_gelu=True, says=False),
        "kelip": lambda: originals.kelip(change(SIZES, vocabulary=98_818)),
        "coca": lambda: originals.open_clip_coca(wide, decoder_depth=2, queries=6, pooler_heads=4),
        "slip": lambda: originals.slip(SIZES, head=40),
        "slip's clip": lambda: originals.slip(SIZES, head=None),
        **multilingual_cases(),
    }


def multilingual_cases():
    sizes = dataclasses.replace(SIZES, text_width=128, text_heads=2, vocabulary=UNIGRAM_VOCABULARY)
    return {
        "m-clip beside hf-clip": lambda: multilingual.m_clip(
            sizes, beside=originals.hf_clip(SIZES)
        ),
        "m-clip beside open-clip": lambda: multilingual.m_clip(
            sizes, beside=originals.open_clip(SIZES)
        ),
        "open-clip-xlm-roberta": lambda: multilingual.open_clip_xlm_roberta(sizes),
        "open-clip-xlm-roberta, first token": lambda: multilingual.open_clip_xlm_roberta(
            sizes, pooler="cls_last_hidden_state_pooler", projection="linear"
        ),
    }


@pytest.fixture(scope="module", params=list(cases()))
def pair(request, tmp_path_factory, openai_tokenizer, unigram_tokenizer):
    """An original and its import."""
    references.open_clip()
    pytest.importorskip("transformers")
    original = cases()[request.param]()
    hints = Hints(
        activation="quick_gelu" if request.param == "openai" else None,
        length=SIZES.length if original.family == "m-clip" else None,
    )
    folder = tmp_path_factory.mktemp("original")
    tokenizer = openai_tokenizer if original.marks is None else unigram_tokenizer
    return original, compare.imported(original, folder, tokenizer, hints)


def test_vectors_and_logits_are_the_originals(pair):
    original, exported = pair
    pixels, ids = compare.inputs(original, batch=5)
    expected = original.outputs(pixels, ids)
    found = compare.outputs(exported, pixels, ids, logits="logits" in expected)
    for name in expected:
        assert compare.error(found[name], expected[name]) < 2e-5, name


def test_written_back_every_tensor_is_what_it_was(pair, tmp_path):
    original, exported = pair
    # What reads KELIP's weights is OpenAI's network, by the same names.
    layout = "open-clip" if original.family == "kelip" else original.family
    if layout == "m-clip":  # as files only at the sizes that its code knows by name
        rules = FAMILIES[layout].rules(exported.config)
        written = dict(names.put(rules, native.flatten(exported.params)))
    else:
        files = export_weights(tmp_path / "out", exported, layout)
        written = {key: value for file in files for key, value in load_file(file).items()}
    state = {name.removeprefix(original.prefix): value for name, value in original.state().items()}
    assert written.keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(written[name], value, err_msg=name)
