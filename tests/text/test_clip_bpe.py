"""A tokenizer of CLIP's kind trained from nothing, and the folder that others read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kmm_jax.errors import ConfigError, DataError, UserError
from kmm_jax.text.adopted import adopt, openai_bpe
from kmm_jax.text.clip_bpe import save_clip_folder, train_clip_bpe
from kmm_jax.text.extension import extend
from kmm_jax.text.tokenizer import Tokenizer

TEXTS = ["A photo of a red T-shirt", "product photo: blue shirt", "빨간 티셔츠 사진"] * 3
HARD = [*TEXTS, "", "it's  naïve ☕ 42%!", "안녕하세요, ㅋㅋ!", "\u1112\u1161\u11ab글", "x" * 300]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return extend(train_clip_bpe(TEXTS[:2] * 3, 600), TEXTS, new_tokens=30)


def test_training_gives_openais_numbering_and_the_vocabulary_asked_for():
    words = train_clip_bpe(TEXTS, 540)
    assert words.vocab_size == 540
    assert (words.bos_id, words.eos_id, words.pad_id) == (538, 539, 539)
    assert words.vocabulary["!"] == 0 and words.vocabulary["!</w>"] == 256
    assert train_clip_bpe(TEXTS[::-1], 540).json == words.json
    assert train_clip_bpe(TEXTS, 50_000).vocab_size < 700


def test_any_text_is_said_and_words_of_the_texts_become_one_token():
    words = train_clip_bpe(TEXTS, 2000)
    assert words.pieces("RED shirt") == ["red</w>", "shirt</w>"]
    for text in HARD[:6]:
        assert words.decode(words.encode(text)).replace(" ", "") == text.lower().replace(" ", "")


def test_bytes_need_room_and_texts_words():
    with pytest.raises(ConfigError, match="514"):
        train_clip_bpe(TEXTS, 513)
    assert train_clip_bpe(TEXTS, 514).vocab_size == 514
    with pytest.raises(DataError, match="no text"):
        train_clip_bpe(["", "  "], 600)


@pytest.mark.parametrize("lacking", ["", "tokenizer.json"])
def test_the_folder_gives_transformers_the_same_ids(tokenizer, tmp_path: Path, lacking: str):
    transformers = pytest.importorskip("transformers")
    save_clip_folder(tokenizer, tmp_path / "t")
    if lacking:
        (tmp_path / "t" / lacking).unlink()
    for load in (transformers.AutoTokenizer, transformers.CLIPTokenizer):
        theirs = load.from_pretrained(tmp_path / "t")
        assert type(theirs).__name__.startswith("CLIPTokenizer")
        assert theirs.model_max_length == 77 and len(theirs) == tokenizer.vocab_size
        assert theirs.pad_token == theirs.eos_token == "<|endoftext|>"
        rows = theirs(HARD, padding="max_length", truncation=True).input_ids
        assert rows == tokenizer.sequences(HARD, None, 77).tolist()


def test_the_folder_comes_back_from_either_of_its_forms(tokenizer, tmp_path: Path):
    save_clip_folder(tokenizer, tmp_path / "t")
    assert Tokenizer.load(tmp_path / "t") == tokenizer
    assert Tokenizer(adopt(tmp_path / "t")) == tokenizer
    (tmp_path / "t" / "tokenizer.json").unlink()
    again = Tokenizer(adopt(tmp_path / "t"))
    assert again.pad_id == tokenizer.pad_id
    assert all(again.encode(text) == tokenizer.encode(text) for text in HARD)
    save_clip_folder(tokenizer, tmp_path / "t", length=64)  # its own kind is replaced
    config = json.loads((tmp_path / "t" / "tokenizer_config.json").read_text("utf-8"))
    assert config["tokenizer_class"] == "CLIPTokenizer" and config["model_max_length"] == 64


def test_other_folders_and_other_tokenizers_are_refused(tokenizer, tmp_path: Path):
    (tmp_path / "model.safetensors").write_text("weights")
    with pytest.raises(UserError, match="holds more than a tokenizer"):
        save_clip_folder(tokenizer, tmp_path)
    with pytest.raises(UserError, match="not of CLIP's kind"):
        save_clip_folder(Tokenizer.train(TEXTS, vocab_size=300), tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_a_letter_as_padding_is_not_told_to_others_as_a_mark(tmp_path: Path):
    save_clip_folder(Tokenizer(openai_bpe([("a", "b")])), tmp_path / "t")
    marks = json.loads((tmp_path / "t" / "special_tokens_map.json").read_text("utf-8"))
    assert marks["pad_token"] == "<|endoftext|>"
    assert Tokenizer.load(tmp_path / "t").pad_id == 0
