"""Runs that begin with other weights: another library's, another family's, another vocabulary's."""

import dataclasses
import json

import numpy as np
import pytest

import kmm_jax
from kmm_jax.cli import main
from kmm_jax.errors import ConfigError, DataError, UserError
from kmm_jax.inference.initial import InitialWeights, initial_params
from kmm_jax.inference.loading import read
from kmm_jax.inference.vocabulary import swap
from kmm_jax.interop import native
from kmm_jax.interop.conversion import export_weights, import_weights
from kmm_jax.models.vision import resize_positions, sincos_positions
from kmm_jax.text.adopted import openai_bpe
from kmm_jax.text.tokenizer import Tokenizer
from kmm_jax.training.parameter_names import named
from tests import tiny_shop
from tests.interop.conftest import MERGES
from tests.interop.test_conversion import small_clip
from tests.tiny_models import tiny_coca

OPENAI = Tokenizer(openai_bpe(MERGES))
CONFIG = """
import dataclasses
from kmm_jax.data.config import DataConfig, SourceConfig
from kmm_jax.tasks.clip import CLIPTask
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.optimizer import AdamW
from kmm_jax.training.sharding import MeshConfig
from tests.inference.test_initial_weights import foreign


def experiment():
    return Experiment(
        name="finetune",
        task=CLIPTask(model=foreign().config),
        data=DataConfig(
            sources=(SourceConfig(url="DATA/train-*.tar"),),
            image_size=32, text_length=12, styled=False, threads=1,
        ),
        tokenizer="@init",
        global_batch_size=8,
        duration="1 steps",
        optimizer=AdamW(learning_rate=1e-4, warmup="0"),
        mesh=MeshConfig(data=1),
    )
"""


def foreign():
    """A CLIP with a tokenizer as OpenAI's."""
    given = small_clip(vocabulary=518, eos_id=OPENAI.eos_id)
    return dataclasses.replace(given, tokenizer=OPENAI)


@pytest.fixture(scope="module")
def hugging_face(tmp_path_factory):
    """``CLIPModel`` as transformers writes it, with its tokenizer."""
    folder = tmp_path_factory.mktemp("hf") / "clip"
    export_weights(folder, foreign(), "hf-clip")
    return folder


def with_text(config, **changes):
    return dataclasses.replace(config, text=dataclasses.replace(config.text, **changes))


def with_vision(config, **changes):
    return dataclasses.replace(config, vision=dataclasses.replace(config.vision, **changes))


def test_weights_of_another_library_are_taken_as_they_are(hugging_face):
    told = []
    imported, _ = import_weights(hugging_face)
    begin = InitialWeights(hugging_face, imported.config, tell=told.append)
    params = begin.params(begin.tokenizer())
    assert Tokenizer.load(begin.tokenizer()) == imported.tokenizer
    expected = native.flatten(foreign().params)
    for name, value in native.flatten(params).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-6, err_msg=name)
    assert any("CLIPModel" in text for text in told)
    file = hugging_face / "model.safetensors"
    assert native.flatten(initial_params(file, imported.config, tokenizer=None)).keys()


def test_they_load_like_a_model_of_this_one(hugging_face, tmp_path):
    imported, _ = import_weights(hugging_face)
    model = kmm_jax.load(hugging_face)
    assert model.hash == imported.hash
    assert model.embed_text(["빨간 셔츠"]).shape == (1, imported.config.embedding)
    with pytest.raises(DataError, match="has no steps to choose from"):
        kmm_jax.load(hugging_face, step=3)
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK")
    with pytest.raises(UserError, match="convert_pickle"):
        kmm_jax.load(tmp_path)


def test_every_setting_that_must_agree_is_named_in_one_error(hugging_face):
    imported, _ = import_weights(hugging_face)
    config = with_text(imported.config, eos_id=2, activation="gelu", remat="full")
    config = with_vision(config, mean=(0.5, 0.5, 0.5), image_size=64, heads=2)
    with pytest.raises(ConfigError) as caught:
        initial_params(hugging_face, config, tokenizer=None)
    said = str(caught.value).splitlines()
    assert said[1:-1] == [
        "  task.model.vision.heads: 2 here, 1 in the weights",
        "  task.model.vision.mean: (0.5, 0.5, 0.5) here, "
        "(0.48145466, 0.4578275, 0.40821073) in the weights",
        "  task.model.text.activation: 'gelu' here, 'quick_gelu' in the weights",
        f"  task.model.text.eos_id: 2 here, {OPENAI.eos_id} in the weights",
    ]


def test_settings_of_what_begins_fresh_need_not_agree(hugging_face):
    imported, _ = import_weights(hugging_face)
    words = tiny_shop.Tokenizer.train(["빨간 셔츠"] * 3, vocab_size=300)
    config = with_text(imported.config, vocabulary=300, width=96, eos_id=2, depth=1)
    told = []
    begin = InitialWeights(
        hugging_face, config, fresh="(text|text_projection)/.*|log_scale", tell=told.append
    )
    params = begin.params(None)
    assert set(params) == {"vision", "image_projection"}
    assert any("begin fresh" in text and "text_projection/kernel" in text for text in told)
    assert words.vocab_size <= 300


def test_a_decoder_on_top_of_a_clip_begins_fresh_when_asked_for(hugging_face):
    clip = import_weights(hugging_face)[0]
    config = tiny_coca(vocabulary=518, length=11)
    text = {
        name: getattr(clip.config.text, name)
        for name in ("width", "heads", "hidden", "activation", "norm_epsilon")
    }
    config = dataclasses.replace(
        with_text(config, unimodal_depth=2, own_cls=True, **text),
        vision=clip.config.vision,
        pooling="cls",
        pooler_heads=1,
        embedding=32,
    )
    with pytest.raises(ConfigError, match=r"generative_pooler/\S+: not there"):
        initial_params(hugging_face, config, tokenizer=None)
    fresh = "generative_pooler/.*|text/(multimodal|norm)/.*|text/cls_embedding"
    params = named(initial_params(hugging_face, config, tokenizer=None, fresh=fresh))
    mine = named(clip.params)
    for ours, theirs in (
        ("text/unimodal/layers/mlp/up/kernel", "text/blocks/layers/mlp/up/kernel"),
        ("text/cls_norm/scale", "text/norm/scale"),
        ("text/embedding/positions", "text/embedding/positions"),
        ("vision/class_embedding", "vision/class_embedding"),
    ):
        np.testing.assert_array_equal(params[ours], mine[theirs])
    assert not any("multimodal" in name for name in params)


def test_what_the_model_has_no_place_for_is_left_out_when_asked_for(exported, tmp_path):
    native.save(tmp_path / "model", exported)
    config = dataclasses.replace(exported.config, pooling="parallel")
    fresh = "contrastive_pooler/.*"
    with pytest.raises(ConfigError, match="pooling: 'parallel' here, 'cascade'"):
        initial_params(tmp_path / "model", config, tokenizer=None, fresh=fresh)
    config = with_text(exported.config, multimodal_depth=2)
    with pytest.raises(ConfigError, match="multimodal_depth: 2 here, 1"):
        initial_params(tmp_path / "model", config, tokenizer=None)
    with pytest.raises(ConfigError, match=r"--init-drop .* names no parameter"):
        initial_params(tmp_path / "model", exported.config, tokenizer=None, dropped="nothing/.*")
    params = initial_params(
        tmp_path / "model", exported.config, tokenizer=None,
        dropped="log_scale", fresh="log_scale",
    )  # fmt: skip
    assert "log_scale" not in params


@pytest.fixture
def config(tmp_path):
    tiny_shop.write(tmp_path / "data")
    file = tmp_path / "finetune.py"
    file.write_text(CONFIG.replace("DATA", str(tmp_path / "data")))
    return str(file)


def test_a_run_takes_the_tokenizer_of_the_weights(config, hugging_face, tmp_path, capsys):
    run_dir = tmp_path / "run"
    command = ["train", config, "--run-dir", str(run_dir)]
    assert main(command) == 2
    assert "tokenizer=@init takes that of the weights" in capsys.readouterr().err
    assert main([*command, "--init", str(hugging_face)]) == 0
    imported, _ = import_weights(hugging_face)
    assert kmm_jax.load(run_dir).tokenizer == imported.tokenizer
    moved = native.flatten(read(run_dir).params)
    for name, value in native.flatten(imported.params).items():
        assert 0 <= np.abs(moved[name] - value).max() < 3e-4, name
    # It goes on by its own copy, without the weights.
    assert main([*command, "duration=2 steps"]) == 0


def test_another_tokenizer_is_refused_and_the_right_one_named(
    config, hugging_face, tmp_path, capsys
):
    named_one = f"tokenizer={tmp_path / 'data' / 'tokenizer'}"
    command = ["train", config, named_one, "task.model.text.eos_id=2", "--dry-run"]
    assert main([*command, "--init", str(hugging_face)]) == 2
    said = capsys.readouterr().err
    assert "Train with tokenizer=@init" in said and "--swap-vocabulary" in said
    assert main([*command, "--init", str(hugging_face), "--swap-vocabulary"]) == 0
    assert "tokens taken over" in capsys.readouterr().err
    assert main([*command, "--swap-vocabulary"]) == 2
    assert "give --init WEIGHTS" in capsys.readouterr().err
    assert main([command[0], config, named_one, "--dry-run", "--init", str(hugging_face)]) == 2
    assert "task.model.text.eos_id=2" in capsys.readouterr().err


def test_pickles_are_refused_with_what_to_do(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(UserError, match=r"tools\.convert_pickle"):
        initial_params(tmp_path, small_clip().config, tokenizer=None)


BEFORE = Tokenizer.train(["빨간 체크 셔츠", "파란 원피스", "검은 운동화"] * 9, vocab_size=330)
NOW = Tokenizer.train(
    ["빨간 원피스", "파란 셔츠와 운동화", "하얀 원피스와 셔츠"] * 9, vocab_size=320
)


def test_tokens_of_both_vocabularies_keep_their_vectors_and_others_are_means_of_pieces():
    old_VD = np.random.default_rng(0).normal(size=(BEFORE.vocab_size + 3, 6)).astype(np.float32)
    made = swap(BEFORE, NOW, rows=NOW.vocab_size + 2)
    new_WD = made.rows(old_VD)
    old, new = BEFORE.vocabulary, NOW.vocabulary
    shared = old.keys() & new.keys()
    assert 263 < len(shared) == made.taken < len(new), "more than bytes and special tokens"
    for token, number in new.items():
        if token in old:
            np.testing.assert_array_equal(new_WD[number], old_VD[old[token]])
        elif pieces := BEFORE.encode(NOW.decode([number])):
            np.testing.assert_allclose(new_WD[number], old_VD[pieces].mean(axis=0), rtol=1e-5)
    for spare in (-1, -2):
        mean_D = old_VD[: BEFORE.vocab_size].mean(axis=0)
        np.testing.assert_allclose(new_WD[spare], mean_D, atol=1e-6)
    assert str(made).startswith(f"{made.taken:,} of {NOW.vocab_size:,} tokens taken over")
    same = swap(BEFORE, BEFORE, rows=BEFORE.vocab_size)
    np.testing.assert_array_equal(same.rows(old_VD), old_VD[: BEFORE.vocab_size])


def test_marks_go_by_their_role_and_letters_that_are_bytes_by_none():
    made = swap(OPENAI, BEFORE, rows=BEFORE.vocab_size)
    assert made.sources[BEFORE.bos_id] == (OPENAI.bos_id,)
    assert made.sources[BEFORE.eos_id] == (OPENAI.eos_id,)
    assert made.sources[BEFORE.pad_id] == (OPENAI.pad_id,)
    # "빨" is three bytes there, and so begins as the mean of three vectors.
    number = BEFORE.vocabulary["셔츠"] if "셔츠" in BEFORE.vocabulary else BEFORE.encode("셔츠")[0]
    pieces = OPENAI.encode(BEFORE.decode([number]))
    assert made.sources[number] == tuple(pieces) and len(pieces) >= 3
    back = swap(BEFORE, OPENAI, rows=OPENAI.vocab_size)
    letter = OPENAI.vocabulary["é"]  # stands for a byte that is no character alone
    assert back.sources[letter] == ()


def test_a_coca_with_untied_logits_is_swapped_on_both_sides(exported, tmp_path):
    config = with_text(exported.config, tie_embeddings=False)
    rng = np.random.default_rng(0)
    shapes = native.parameter_shapes(config)
    params = {name: rng.normal(size=shape).astype("f4") for name, shape in shapes.items()}
    given = dataclasses.replace(exported, config=config, params=native.unflatten(params))
    native.save(tmp_path / "model", given)
    NOW.save(tmp_path / "now")
    wanted = with_text(config, vocabulary=NOW.vocab_size)
    told = []
    found = native.flatten(
        initial_params(
            tmp_path / "model",
            wanted,
            tokenizer=tmp_path / "now",
            swap_vocabulary=True,
            tell=told.append,
        )
    )
    made = swap(exported.tokenizer, NOW, rows=NOW.vocab_size)
    for name, rows in (
        ("text.embedding.tokens.embedding", lambda x: x),
        ("text.logits.kernel", lambda x: x.T),
    ):
        np.testing.assert_array_equal(rows(found[name]), made.rows(rows(params[name])))
    assert f"vocabulary: {made}" in told
    with pytest.raises(ConfigError, match="--swap-vocabulary"):
        initial_params(tmp_path / "model", wanted, tokenizer=tmp_path / "now")


@pytest.mark.parametrize("kind", ["learned", "sincos"])
@pytest.mark.parametrize(("before", "after"), [(4, 7), (7, 4), (14, 24)])
def test_positions_are_resized_as_timm_and_open_clip_do(kind, before, after):
    torch = pytest.importorskip("torch")
    width = 8
    if kind == "learned":
        grid = np.random.default_rng(0).normal(size=(before**2, width)).astype(np.float32)
    else:
        grid = np.array(sincos_positions(before, width))
    class_D = np.full((1, width), 9.0, np.float32)
    resized = resize_positions(np.concatenate([class_D, grid]), after**2, class_token=True)
    image = torch.from_numpy(grid.reshape(1, before, before, width)).permute(0, 3, 1, 2)
    theirs = torch.nn.functional.interpolate(
        image, size=(after, after), mode="bicubic", antialias=True, align_corners=False
    )
    expected = theirs.permute(0, 2, 3, 1).reshape(after**2, width).numpy()
    np.testing.assert_array_equal(resized[0], class_D[0])
    np.testing.assert_allclose(resized[1:], expected, atol=2e-6)


def test_a_locked_image_tower_gets_a_new_text_tower(config, hugging_face, tmp_path):
    """LiT: the image vectors stay the same to the last bit, whatever is learned of texts."""
    run_dir, words = tmp_path / "run", tmp_path / "data" / "tokenizer"
    command = [
        "train", config, "--run-dir", str(run_dir), "--init", str(hugging_face),
        "--init-fresh", "(text|text_projection)/.*|log_scale",
        "--freeze", "(image|image_projection)/.*", f"tokenizer={words}",
        "task.model.text.eos_id=2", "task.model.text.vocabulary=300", "duration=2 steps",
    ]  # fmt: skip
    assert main(command) == 0
    trained, given = read(run_dir), native.flatten(import_weights(hugging_face)[0].params)
    found = native.flatten(trained.params)
    for name in found:
        if name.startswith(("vision.", "image_projection.")):
            np.testing.assert_array_equal(found[name], given[name])
    assert found["text.embedding.tokens.embedding"].shape == (300, 64)
    assert trained.tokenizer == Tokenizer.load(words)
