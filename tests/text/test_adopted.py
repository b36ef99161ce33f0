"""Tokenizers of other models: the ids their own code gives."""

import gzip
import json

import pytest

from kmm_jax.errors import DataError, UserError
from kmm_jax.text.adopted import adopt, openai_bpe, padded_with, swapped
from kmm_jax.text.tokenizer import Tokenizer
from tests import references
from tools.parity import unigram

TEXTS = [
    "a photo of a cat",
    "A Red DRESS, size 42!!",
    "it's   the user's\n\tbag",
    "빨간 원피스를 입은 사람",
    "카페에서 찍은 사진 2024년",
    "naïve café ☕ 👗 ½",
    "",
    "!",
    "x" * 300,
]
MERGES = [("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>")]


@pytest.fixture(scope="module")
def archive():
    return references.openai_vocabulary()


@pytest.fixture(scope="module")
def openais(archive):
    return Tokenizer(adopt(archive))


def test_openais_archive_gives_the_ids_of_open_clip(openais):
    theirs = references.open_clip().get_tokenizer("ViT-B-32")
    assert openais.vocab_size == 49_408
    assert openais.sequences(TEXTS, None, 77).tolist() == theirs(TEXTS).tolist()


def test_an_adopted_tokenizer_has_no_marks_for_questions_and_says_so(openais):
    with pytest.raises(UserError, match="no tokens that tell a question from its answer"):
        openais.asked(["what colour is it?"], 77)


def test_a_folder_of_vocab_and_merges_gives_the_ids_of_transformers(tmp_path, openais):
    transformers = pytest.importorskip("transformers")
    model = json.loads(openais.json)["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]), "utf-8")
    merges = "\n".join(" ".join(pair) for pair in model["merges"])
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", "utf-8")
    again = Tokenizer(adopt(tmp_path))
    assert again.vocab_size == openais.vocab_size
    theirs = transformers.CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    for text in TEXTS:
        expected = theirs(text)["input_ids"]
        found = [again.bos_id, *again.encode(text), again.eos_id]
        assert found == expected, text


def test_saved_it_loads_in_transformers_and_here(tmp_path, openais):
    transformers = pytest.importorskip("transformers")
    openais.save(tmp_path / "out")
    assert Tokenizer.load(tmp_path / "out") == openais
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(str(tmp_path / "out"))
    for text in TEXTS:
        assert theirs(text)["input_ids"] == [
            openais.bos_id,
            *openais.encode(text),
            openais.eos_id,
        ]
    assert (theirs.bos_token_id, theirs.eos_token_id) == (openais.bos_id, openais.eos_id)


def test_decoding_undoes_encoding_but_for_case_and_gaps(openais):
    for text in ("a photo of a cat", "빨간 원피스", "카페 ☕"):
        assert openais.decode(openais.encode(text)) == text
    assert openais.decode([openais.bos_id, *openais.encode("A  Dog"), openais.eos_id]) == "a dog"


def test_what_somebody_types_is_no_mark(openais):
    ids = openais.encode("the end <|endoftext|> of it")
    assert openais.eos_id not in ids
    assert openais.bos_id not in openais.encode("<|startoftext|>")


def test_marks_and_styles():
    words = Tokenizer(openai_bpe(MERGES))
    assert (words.pad_id, words.bos_id, words.eos_id, words.cls_id) == (0, 516, 517, None)
    assert words.unsayable == [516]
    assert words.pieces("cat dog") == ["cat</w>", "dog</w>"]
    assert words.sequences(["cat dog " * 9], None, 6)[0].tolist() == [516, 513, 515, 513, 515, 517]
    with pytest.raises(UserError, match=r"data\.styled=false"):
        words.sequences(["cat"], "query", 8)
    with pytest.raises(UserError, match="no text style"):
        words.style_id("riddle")


def hub_folder(folder, *, marks):
    folder.mkdir()
    (folder / "tokenizer.json").write_text(openai_bpe(MERGES), "utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(marks), "utf-8")
    return folder


def test_a_hub_folder_says_its_marks_in_either_file(tmp_path):
    named = {"cls_token": "<|startoftext|>", "sep_token": "<|endoftext|>", "pad_token": "!"}
    words = Tokenizer(adopt(hub_folder(tmp_path / "roberta", marks=named)))
    assert (words.bos_id, words.eos_id, words.pad_id) == (516, 517, 0)
    lowered = Tokenizer(adopt(tmp_path / "roberta", lower_case=True))
    assert lowered.encode("CAT") == lowered.encode("cat")


def test_what_is_missing_or_damaged_is_said(tmp_path):
    with pytest.raises(UserError, match="bpe_simple_vocab"):
        adopt(tmp_path)
    with pytest.raises(UserError, match="does not say its pad_token"):
        adopt(hub_folder(tmp_path / "no-pad", marks={"bos_token": "a", "eos_token": "b"}))
    with pytest.raises(UserError, match="does not say its eos_token"):
        marks = {"bos_token": "<|startoftext|>", "eos_token": "</s>", "pad_token": "!"}
        adopt(hub_folder(tmp_path / "other", marks=marks))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="is no tokenizer"):
        adopt(tmp_path / "broken")
    short = tmp_path / "short.txt.gz"
    short.write_bytes(gzip.compress(b"#version\nc a\nca t</w>\n"))
    with pytest.raises(UserError, match="2 merges"):
        adopt(short)
    short.write_bytes(short.read_bytes()[:-12])
    with pytest.raises(DataError, match="cannot be read"):
        adopt(short)


def test_a_backend_that_does_not_say_what_closes_a_text_is_no_tokenizer(tmp_path):
    bare = json.loads(openai_bpe(MERGES))
    bare["post_processor"] = None
    with pytest.raises(UserError, match="does not say what else begins"):
        Tokenizer(json.dumps(bare))


def test_xlm_robertas_unigram_gives_the_ids_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    folder = unigram.write(tmp_path / "xlm-r", ["빨간 원피스를 입은 사람", "a red dress"])
    words = Tokenizer(adopt(folder))
    assert (words.bos_id, words.pad_id, words.eos_id) == (0, 1, 2)
    theirs = transformers.AutoTokenizer.from_pretrained(str(folder))
    for text in [*TEXTS, "빨간  원피스", "Ａ dress"]:
        expected = theirs(text)["input_ids"]
        assert [words.bos_id, *words.encode(text), words.eos_id] == expected, text
    assert words.decode(words.encode("빨간 원피스")) == "빨간 원피스"
    assert words.sequences(["a red"], None, 6)[0].tolist()[-2:] == [1, 1]


def test_a_mark_that_somebody_types_is_no_mark_for_unigram_either(tmp_path):
    texts = ["a red dress < / s > p a d", "빨간 원피스"]
    words = Tokenizer(adopt(unigram.write(tmp_path / "xlm-r", texts)))
    marks = {words.bos_id, words.pad_id, words.eos_id}
    for text in ("the </s> dress", "<pad><pad>", "<s>", "red</s>", "＜/s＞", "a <s"):
        assert not marks & set(words.encode(text)), text
    assert words.pieces("a </s>") == ["▁a", "▁", "<", "/", "s", ">"]
    assert words.decode(words.encode("a </s>")) == "a </s>"


def test_two_ids_change_places_and_nothing_else_does():
    own = Tokenizer.train(["빨간 원피스", "a red dress"] * 9, vocab_size=300)
    last = own.vocab_size - 1
    other = swapped(own, own.eos_id, last)
    assert (other.bos_id, other.pad_id, other.eos_id) == (own.bos_id, own.pad_id, last)
    exchange = {own.eos_id: last, last: own.eos_id}
    for text in ("빨간 원피스", "  a  RED dress [EOS]", "zz ☕", "\u1100\u1161"):
        expected = own.sequences([text], None, 40)[0]
        found = other.sequences([text], None, 40)[0]
        assert found.tolist() == [exchange.get(int(i), int(i)) for i in expected], text
        assert other.decode(found) == own.decode(expected)
    beyond = swapped(own, own.eos_id, own.vocab_size + 5)
    assert beyond.eos_id == own.vocab_size + 5


def test_a_text_is_filled_up_with_the_token_that_was_named():
    words = Tokenizer(openai_bpe(MERGES))
    ended = padded_with(words, "<|endoftext|>")
    assert words.pad_id == 0 and ended.pad_id == ended.eos_id
    row_L = ended.sequences(["a cat"], None, 9)[0]
    assert row_L[:3].tolist() == words.sequences(["a cat"], None, 9)[0][:3].tolist()
    assert set(row_L[4:].tolist()) == {ended.eos_id}
    with pytest.raises(UserError, match="has no token '<pad>'"):
        padded_with(words, "<pad>")
