"""A model in use: what it takes, that batching does not show, what it refuses."""

import io

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

import kmm_jax
from kmm_jax.errors import DataError, UserError
from kmm_jax.inference.model import Model
from kmm_jax.interop import native
from kmm_jax.models import registry
from kmm_jax.models.keys import abstract_module
from tests.inference.conftest import TEXTS


def pictures(count, side=24):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(count)]


def test_vectors_are_units_and_do_not_depend_on_the_batch_size(model):
    images = pictures(7)
    whole = model.embed_image(images)
    assert whole.shape == (7, 32)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(model.embed_image(images, batch_size=2), whole, atol=1e-5)
    np.testing.assert_allclose(
        np.concatenate([model.embed_image([image]) for image in images]), whole, atol=1e-5
    )


def test_a_picture_may_come_as_array_image_bytes_or_file(model, tmp_path):
    array = pictures(1)[0]
    picture = Image.fromarray(array)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    file = tmp_path / "picture.png"
    file.write_bytes(buffer.getvalue())
    vectors = model.embed_image([array, picture, buffer.getvalue(), file, str(file)])
    np.testing.assert_allclose(vectors, np.repeat(vectors[:1], 5, axis=0), atol=1e-6)
    np.testing.assert_allclose(model.embed_image(picture), vectors[:1], atol=1e-6)


def test_the_style_token_changes_a_text_and_only_where_the_model_was_trained_with_it(
    model, exported
):
    query, shopping = (model.embed_text(TEXTS, style) for style in ("query", "shopping"))
    assert not np.allclose(query, shopping, atol=1e-3)
    plain = Model(
        exported.config, exported.params, exported.tokenizer, styled=False, hash="", path=model.path
    )
    np.testing.assert_array_equal(
        plain.embed_text(TEXTS, "query"), plain.embed_text(TEXTS, "shopping")
    )


def test_decomposed_and_composed_hangul_have_the_same_vector(model):
    import unicodedata

    composed = model.embed_text(["빨간 셔츠"])
    decomposed = model.embed_text([unicodedata.normalize("NFD", "빨간 셔츠")])
    np.testing.assert_array_equal(composed, decomposed)


def test_heat_maps_are_the_modules_and_do_not_depend_on_the_batch_size(model, exported):
    images, texts = pictures(5, side=16), [*TEXTS]
    found = model.heat_map(images, texts, "prompt")
    assert (found.shape, found.dtype) == ((5, 2, 2), np.float32)
    np.testing.assert_allclose(
        model.heat_map(images, texts, "prompt", batch_size=2), found, atol=0.02 * found.max()
    )
    module = nnx.merge(
        nnx.graphdef(abstract_module(lambda rngs: registry.build(exported.config, rngs=rngs))),
        exported.params,
    )
    ids = exported.tokenizer.sequences(texts, "prompt", exported.config.text.length)
    expected = jax.jit(module.heat_map)(np.stack(images), ids)
    np.testing.assert_allclose(found, expected, atol=0.02 * found.max())


def test_heat_maps_need_a_text_for_each_image(model):
    with pytest.raises(UserError, match="2 images, but 5 texts"):
        model.heat_map(pictures(2), TEXTS)
    assert model.heat_map([], []).shape == (0, 2, 2)


@pytest.mark.parametrize("method", ["greedy", "beam", "nucleus"])
def test_captions_are_texts_and_do_not_depend_on_the_batch_size(model, method):
    images = pictures(3)
    captions = model.caption(images, method=method)
    assert len(captions) == 3
    assert all(isinstance(caption, str) and "[" not in caption for caption in captions)
    assert model.caption(images, method=method, batch_size=1) == captions


@pytest.mark.parametrize("ask", ["embed_image", "caption"])
def test_no_more_than_a_batch_is_decoded_before_the_model_runs(model, monkeypatch, ask):
    seen = []
    device_put = jax.device_put

    def files():
        for image in pictures(9):
            seen.append("decoded")
            yield image

    def put(rows, *more):
        if np.ndim(rows) == 4:
            seen.append("ran")
        return device_put(rows, *more)

    monkeypatch.setattr(jax, "device_put", put)
    found = getattr(model, ask)(files(), batch_size=4)
    assert len(found) == 9
    assert seen == [*["decoded"] * 4, "ran", *["decoded"] * 4, "ran", "decoded", "ran"]
    np.testing.assert_array_equal(found, getattr(model, ask)(pictures(9), batch_size=4))


def test_a_seed_names_a_draw(model):
    images = pictures(4)
    first = model.caption(images, method="nucleus", top_p=1.0, seed=1)
    assert first == model.caption(images, method="nucleus", top_p=1.0, seed=1)
    assert first != model.caption(images, method="nucleus", top_p=1.0, seed=2)


def test_no_input_gives_no_rows(model):
    assert model.embed_text([]).shape == (0, 32)
    assert model.embed_image([]).shape == (0, 32)
    assert model.caption([]) == []


def test_what_it_cannot_take_is_named(model):
    with pytest.raises(UserError, match="uint8"):
        model.embed_image([np.zeros((4, 4, 3), np.float32)])
    for ask in (model.embed_image, model.caption):
        with pytest.raises(UserError, match="batch_size must be at least 1, got 0"):
            ask(pictures(1), batch_size=0)
    with pytest.raises(UserError, match="batch_size must be at least 1, got 0"):
        model.embed_text(TEXTS, batch_size=0)
    with pytest.raises(UserError, match="greedy, nucleus, beam"):
        model.caption(pictures(1), method="gready")
    with pytest.raises(UserError, match="no text style 'qurey'; did you mean 'query'"):
        model.embed_text(["셔츠"], "qurey")
    with pytest.raises(DataError):
        model.embed_image([b"no picture"])


def test_loading_what_is_no_model_says_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"config\.json"):
        kmm_jax.load(tmp_path / "nothing")


def test_an_export_gives_the_same_vectors_and_captions(model, exported, tmp_path):
    native.save(tmp_path / "export", exported)
    again = kmm_jax.load(tmp_path / "export")
    assert again.hash == model.hash
    images = pictures(3)
    np.testing.assert_array_equal(again.embed_image(images), model.embed_image(images))
    np.testing.assert_array_equal(again.embed_text(TEXTS), model.embed_text(TEXTS))
    assert again.caption(images) == model.caption(images)
