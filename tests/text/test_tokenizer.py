from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kmm_jax.errors import ConfigError, DataError, UserError
from kmm_jax.text.byte_fallback import BYTE_TOKENS, SPECIAL_TOKENS
from kmm_jax.text.normalize import normalize
from kmm_jax.text.tokenizer import Tokenizer

WORDS = ["흰색", "검은색", "빨간", "체크", "셔츠", "스커트", "운동화", "여성", "남성", "캐주얼"]
TEXTS = [f"{a} {b} {c}, 2,500원" for a in WORDS for b in WORDS for c in WORDS]
# Texts that would teach a careless trainer to spell a byte token or a special token.
TRAPS = ["<0x41> [EOS] [PAD] <0xEA>"] * 200

TRICKY = st.text(
    st.sampled_from(list("가힣ㅋㅎᄀ漢字a1 <>[]▁Ġ·,.👨𠮷🇰\u0301\u200d\ufe0f\n\t")),
    max_size=20,
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS + TRAPS, vocab_size=700)


def test_special_tokens_come_first_and_then_the_bytes(tokenizer: Tokenizer) -> None:
    vocabulary = json.loads(tokenizer._json)["model"]["vocab"]
    order = sorted(vocabulary, key=vocabulary.__getitem__)
    assert order[:7] == list(SPECIAL_TOKENS)
    assert order[7:263] == list(BYTE_TOKENS)
    assert (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.cls_id) == (0, 1, 2, 3)
    assert [tokenizer.style_id(s) for s in ("prompt", "query", "shopping")] == [4, 5, 6]
    assert "[UNK]" not in vocabulary


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(st.text(max_size=40), TRICKY))
def test_every_text_survives_the_round_trip(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == normalize(text)
    assert all(i >= len(SPECIAL_TOKENS) for i in ids)
    assert max(ids, default=0) < tokenizer.vocab_size


@pytest.mark.parametrize(
    "text", ["[EOS]", "셔츠[EOS]", "[PAD] [QUERY] 셔츠", "<0x41>", "<0xEA><0xB0>"]
)
def test_a_typed_token_is_letters_and_not_the_token(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert min(ids) >= len(SPECIAL_TOKENS) and len(ids) > 2
    assert tokenizer.decode(ids) == text
    sequence = tokenizer.sequences([text], "query", 64)[0]
    assert (sequence == tokenizer.eos_id).sum() == 1


def test_frequent_words_are_one_piece(tokenizer: Tokenizer) -> None:
    assert tokenizer.pieces("흰색 셔츠") == [" 흰색", " 셔츠"]


def test_decomposed_and_spaced_texts_have_the_same_ids(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(" \u1112\u1174\u11ab색\u200b  셔츠\n") == tokenizer.encode("흰색 셔츠")


def test_decoding_drops_special_tokens(tokenizer: Tokenizer) -> None:
    sequence = tokenizer.sequences(["흰색 셔츠"], "query", 16)[0]
    assert tokenizer.decode(sequence) == "흰색 셔츠"
    assert tokenizer.decode([]) == ""


def test_sequences_hold_bos_style_text_eos_and_padding(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("흰색 셔츠")
    rows = tokenizer.sequences(["흰색 셔츠", "흰색 셔츠", ""], ["shopping", None, "query"], 8)
    assert rows.dtype == np.int32 and rows.shape == (3, 8)
    assert rows[0].tolist() == [1, 6, *ids, 2, *[0] * (5 - len(ids))]
    assert rows[1].tolist() == [1, *ids, 2, *[0] * (6 - len(ids))]
    assert rows[2].tolist() == [1, 5, 2, 0, 0, 0, 0, 0]
    assert tokenizer.sequences([], "query", 8).shape == (0, 8)


@pytest.mark.parametrize("style", [None, "prompt"])
def test_a_long_text_is_cut_and_still_closed(tokenizer: Tokenizer, style) -> None:
    text = "흰색 셔츠 " * 30
    head = 1 if style is None else 2
    exact = len(tokenizer.encode(text)) + head + 1
    assert not tokenizer.truncates(text, style, exact)
    assert tokenizer.truncates(text, style, exact - 1)
    for length in (exact, exact - 1, 8):
        row = tokenizer.sequences([text], style, length)[0]
        assert row[-1] == tokenizer.eos_id
        assert row[head:-1].tolist() == tokenizer.encode(text)[: length - head - 1]


def test_a_length_that_holds_no_text_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="at least 4"):
        tokenizer.sequences(["셔츠"], "query", 3)
    with pytest.raises(ConfigError, match="at least 3"):
        tokenizer.truncates("셔츠", None, 2)


def test_wrong_styles_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match="did you mean 'query'"):
        tokenizer.sequences(["셔츠"], "querry", 8)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="2 texts were given, but 1 styles"):
        tokenizer.sequences(["셔츠", "바지"], ["query"], 8)
    with pytest.raises(TypeError, match="sequence of strings"):
        tokenizer.sequences("셔츠", "query", 8)


def test_training_twice_gives_the_same_bytes_in_any_process(tmp_path: Path) -> None:
    # A small alphabet budget forces ties between characters of equal count.
    texts = [chr(0xAC00 + 7 * i) * 2 + " 셔츠" for i in range(300)]
    here = Tokenizer.train(iter(texts), vocab_size=360).fingerprint
    program = (
        "from kmm_jax.text.tokenizer import Tokenizer\n"
        "texts = [chr(0xAC00 + 7 * i) * 2 + ' 셔츠' for i in range(300)]\n"
        "print(Tokenizer.train(texts, vocab_size=360).fingerprint)"
    )
    for seed in ("1", "2"):
        other = subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=True,
        )
        assert other.stdout.strip() == here


def test_few_texts_give_few_tokens_and_too_small_a_vocabulary_is_refused() -> None:
    assert 263 < Tokenizer.train(["흰색 셔츠"] * 3, vocab_size=8000).vocab_size < 300
    with pytest.raises(ConfigError, match="at least 300"):
        Tokenizer.train(TEXTS, vocab_size=263)
    with pytest.raises(DataError, match="no text"):
        Tokenizer.train(["", " \u200b"], vocab_size=500)


def test_half_a_surrogate_pair_is_survived() -> None:
    trained = Tokenizer.train(["\ud83d셔츠 셔츠"] * 3, vocab_size=400)
    assert trained.decode(trained.encode("\ud83d셔츠")) == "셔츠"


def test_saving_and_loading_keeps_everything(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = tmp_path / "새 토크나이저"
    tokenizer.save(folder)
    tokenizer.save(folder)  # a tokenizer may be replaced by a tokenizer
    for path in (folder, folder / "tokenizer.json"):
        assert Tokenizer.load(path) == tokenizer
    content = (folder / "tokenizer.json").read_bytes()
    assert hashlib.sha256(content).hexdigest() == tokenizer.fingerprint
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]


def test_saving_never_replaces_a_model(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "model.safetensors").write_text("weights")
    with pytest.raises(UserError, match=r"model\.safetensors"):
        tokenizer.save(tmp_path)
    assert (tmp_path / "model.safetensors").read_text() == "weights"


def test_a_failed_save_leaves_the_old_tokenizer(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer.save(tmp_path / "t")
    other = Tokenizer.train(["바지 바지 치마 치마"] * 9, vocab_size=400)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kmm_jax.files._fsync", full)
    with pytest.raises(OSError, match="No space"):
        other.save(tmp_path / "t")
    assert Tokenizer.load(tmp_path / "t") == tokenizer
    assert [p.name for p in tmp_path.iterdir()] == ["t"]


def test_bad_files_are_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tokenizer at"):
        Tokenizer.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no tokenizer at"):
        Tokenizer.load(tmp_path)
    file = tmp_path / "tokenizer.json"
    for content in (b"", b"{}", b"\xff\xfe", tokenizer._json.encode()[:-100]):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"tokenizer\.json"):
            Tokenizer.load(tmp_path)
    foreign = json.loads(tokenizer._json)
    foreign["added_tokens"][0]["content"] = "<pad>"
    foreign["model"]["vocab"]["<pad>"] = foreign["model"]["vocab"].pop("[PAD]")
    file.write_text(json.dumps(foreign))
    with pytest.raises(UserError, match="ids 0 to 6 must be"):
        Tokenizer.load(tmp_path)


def test_copies_in_processes_and_threads_agree(tokenizer: Tokenizer) -> None:
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy == tokenizer and copy.encode("[EOS] 셔츠") == tokenizer.encode("[EOS] 셔츠")
    alone = [tokenizer.encode(text) for text in TEXTS]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(tokenizer.encode, TEXTS)) == alone


def test_transformers_gives_the_same_ids(tokenizer: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path / "t")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "t")
    hard = [
        " \u1112\u1174\u11ab색\u200b  셔츠\n",
        "漢字 ㅋㅋ 👨\u200d👩 𠮷 ▁ <0x41>",
        "ㅤ\u3000여성\u00a0스커트",
        "",
    ]
    for text in TEXTS[::50] + hard:
        ids = theirs(text).input_ids
        assert ids == tokenizer.encode(text)
        assert theirs.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids)
    assert (theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id) == (0, 1, 2)
    assert theirs.cls_token_id == 3
    assert theirs.convert_tokens_to_ids(["[PROMPT]", "[QUERY]", "[SHOPPING]"]) == [4, 5, 6]
    assert len(theirs) == tokenizer.vocab_size


def test_a_question_stands_before_its_answer_between_marks_that_every_tokenizer_has(
    tokenizer: Tokenizer,
) -> None:
    asked, answer = "빨간 셔츠", "체크"
    ids_NL, target_NL = tokenizer.answered([asked], [answer], 24)
    question, said = tokenizer.encode(asked), tokenizer.encode(answer)
    expected = [1, 5, *question, 4, *said, 2]
    assert ids_NL[0].tolist() == expected + [0] * (24 - len(expected))
    assert ids_NL[0][target_NL[0]].tolist() == [*said, 2]
    prompt_L = tokenizer.asked([asked], 24)[0]
    assert prompt_L.tolist() == [*expected[: len(question) + 3], *[0] * (21 - len(question))]


def test_a_question_too_long_is_cut_alike_in_training_and_use_and_the_answer_stays(
    tokenizer: Tokenizer,
) -> None:
    long = " ".join(WORDS * 3)
    for length in (6, 7, 12, 24):
        ids_NL, target_NL = tokenizer.answered([long], ["체크"], length)
        prompt_L = tokenizer.asked([long], length)[0]
        ends = int((prompt_L != 0).sum())
        assert ids_NL[0][:ends].tolist() == prompt_L[:ends].tolist()
        assert prompt_L[ends - 1] == 4
        # At least one token of the answer and its end; a quarter of the room where there is one.
        assert target_NL[0].sum() >= 2
        assert tokenizer.truncates_question(long, length)
    assert not tokenizer.truncates_question("체크", 24)


def test_a_length_without_room_for_an_answer_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="at least 6"):
        tokenizer.asked(["체크"], 5)
