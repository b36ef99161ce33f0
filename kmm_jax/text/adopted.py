"""Tokenizers of other models as a ``tokenizer.json`` that :class:`Tokenizer` takes.

The file alone says which ids stand around a text and fill it up: its post-processor puts the
beginning and the end, its padding names what follows. So an adopted tokenizer is one file, as ours.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from kmm_jax.errors import DataError, UserError
from kmm_jax.text.tokenizer import Tokenizer

OPENAI_VOCABULARY = 49_408
"""Entries of OpenAI's CLIP: 256 bytes, inside and at the end of a word, 48,894 merges, 2 marks."""

START, END = "<|startoftext|>", "<|endoftext|>"
"""What stands around a text of CLIP."""

_MERGES = OPENAI_VOCABULARY - 2 * 256 - 2
# As OpenAI's CLIP cuts texts (clip/simple_tokenizer.py, MIT): contractions, letters, single digits.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_MISSING_VOCABULARY = (
    "give --tokenizer a folder with tokenizer.json, or with vocab.json and merges.txt, or the file "
    "bpe_simple_vocab_16e6.txt.gz of OpenAI's CLIP (open_clip carries it)"
)


def adopt(path: Path, *, lower_case: bool = False) -> str:
    """The ``tokenizer.json`` of what is at ``path``.

    Args:
        path: a folder of the Hugging Face Hub with ``tokenizer.json``, or with ``vocab.json`` and
            ``merges.txt`` of a CLIP; or OpenAI's ``bpe_simple_vocab_16e6.txt.gz``.
        lower_case: lower-case texts first, which KELIP leaves to its caller.

    Raises:
        UserError: nothing of these is there, or it does not say its marks.
    """
    if path.is_file() and path.name.endswith((".txt.gz", ".txt")):
        return openai_bpe(_merges_of_archive(path))
    folder = path.parent if path.is_file() else path
    file = path if path.is_file() else path / "tokenizer.json"
    if file.is_file():
        return _with_marks(file, _marks(folder), lower_case=lower_case)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return openai_bpe(
            _merges((folder / "merges.txt").read_text("utf-8")),
            json.loads((folder / "vocab.json").read_text("utf-8")),
            pad=_marks(folder).get("pad_token"),
        )
    raise UserError(f"no tokenizer at {path}: {_MISSING_VOCABULARY}")


def openai_bpe(
    merges: Sequence[tuple[str, str]],
    vocabulary: Mapping[str, int] | None = None,
    *,
    pad: str | None = None,
) -> str:
    """The lower-cased byte-level BPE of OpenAI's CLIP.

    Args:
        merges: in the order of their rank.
        vocabulary: token to id; by default as OpenAI numbers them: bytes, bytes that end a word,
            merges, start, end.
        pad: the token that fills texts up; by default id 0, as in OpenAI's code.
    """
    if vocabulary is None:
        letters = byte_letters()
        tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
        tokens += [left + right for left, right in merges]
        vocabulary = {token: number for number, token in enumerate([*tokens, START, END])}
    for mark in (START, END):
        if mark not in vocabulary:
            raise UserError(f"the vocabulary has no {mark}: it is not of a CLIP")
    backend = Backend(
        models.BPE(
            vocab=dict(vocabulary),
            merges=list(merges),
            end_of_word_suffix="</w>",
            unk_token=END,
        )
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.Sequence(
        [decoders.ByteLevel(), decoders.Replace("</w>", " "), decoders.Strip(" ", 0, 1)]
    )
    backend.add_special_tokens(
        [AddedToken(mark, special=True, normalized=False) for mark in (START, END)]
    )
    at_zero = next(token for token, number in vocabulary.items() if number == 0)
    return _closed(backend, START, END, pad or at_zero)


def closed(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer, whose file says what stands around a text and fills it up.

    Ours do not say it, because :class:`Tokenizer` knows; other libraries read the file.
    """
    backend = Backend.from_str(tokenizer.json)
    ids = (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id)
    return Tokenizer(_closed(backend, *(str(backend.id_to_token(number)) for number in ids)))


def swapped(tokenizer: Tokenizer, one: int, other: int) -> Tokenizer:
    """The same tokenizer with two ids exchanged; no token need have the second."""
    values = json.loads(tokenizer.json)
    exchange = {one: other, other: one}
    vocabulary = values["model"]["vocab"]
    values["model"]["vocab"] = {
        token: exchange.get(number, number) for token, number in vocabulary.items()
    }
    for token in values["added_tokens"]:
        token["id"] = exchange.get(token["id"], token["id"])
    values["added_tokens"].sort(key=lambda token: token["id"])
    named = Backend.from_str(tokenizer.json)
    marks = [
        str(named.id_to_token(number))
        for number in (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id)
    ]
    values["post_processor"] = None  # it has ids of its own
    return Tokenizer(_closed(Backend.from_str(json.dumps(values)), *marks))


def padded_with(tokenizer: Tokenizer, token: str | int) -> Tokenizer:
    """The same tokenizer, filling texts up with ``token``, or with the token of that id.

    Stable Diffusion 1 was trained with ``<|endoftext|>`` there, OpenAI's CLIP with id 0.

    Raises:
        UserError: it has no such token.
    """
    backend = Backend.from_str(tokenizer.json)
    number, word = (
        (token, backend.id_to_token(token))
        if isinstance(token, int)
        else (backend.token_to_id(token), token)
    )
    if number is None or word is None:
        raise UserError(f"{tokenizer} has no token {token!r} to fill texts up with")
    backend.enable_padding(pad_id=number, pad_token=word)
    return Tokenizer(str(backend.to_str(pretty=True)))


def translated(ids_NL: np.ndarray, tokenizer: Tokenizer, other: Tokenizer) -> np.ndarray:
    """The same tokens by their numbers in another tokenizer, (N, L) int32.

    Raises:
        UserError: the other lacks one of them.
    """
    ours, theirs = Backend.from_str(tokenizer.json), Backend.from_str(other.json)
    found, places = np.unique(ids_NL, return_inverse=True)
    numbers = []
    for number in found:
        token = str(ours.id_to_token(int(number)))
        numbers.append(theirs.token_to_id(token))
        if numbers[-1] is None:
            raise UserError(
                f"the tokenizers do not belong together: {other} has no token {token!r}, which "
                f"{tokenizer} cuts these texts into"
            )
    return np.asarray(numbers, np.int32)[places].reshape(ids_NL.shape)


def _with_marks(file: Path, marks: Mapping[str, str], *, lower_case: bool) -> str:
    try:
        backend = Backend.from_file(str(file))
    except Exception as error:  # the backend raises nothing narrower
        raise UserError(f"{file} is no tokenizer: {error}") from error
    names = [
        marks.get("bos_token") or marks.get("cls_token"),
        marks.get("eos_token") or marks.get("sep_token"),
        marks.get("pad_token"),
    ]
    for name, kind in zip(names, ("bos_token", "eos_token", "pad_token"), strict=True):
        if name is None or backend.token_to_id(name) is None:
            raise UserError(
                f"{file.parent} does not say its {kind} ({name!r}), in tokenizer_config.json or in "
                "special_tokens_map.json: copy these files of the model beside tokenizer.json"
            )
    if isinstance(backend.model, models.Unigram):
        _keep_marks_unsaid(backend)
    if lower_case:
        before = [backend.normalizer] if backend.normalizer is not None else []
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *before])
    return _closed(backend, *(str(name) for name in names))


def _keep_marks_unsaid(backend: Backend) -> None:
    """Part a mark that somebody typed behind its first letter, so that no piece is the mark.

    SentencePiece has its marks among the pieces, and Unigram takes the likeliest pieces of a text:
    a typed ``</s>`` would be the mark. A BPE only reaches what its merges make.
    """
    marks = [
        token.content
        for token in backend.get_added_tokens_decoder().values()
        if token.special and len(token.content) > 1
    ]
    if not marks:
        return
    first = "|".join(f"{re.escape(mark[0])}(?={re.escape(mark[1:])})" for mark in marks)
    steps = (json.loads(backend.to_str())["pre_tokenizer"] or {}).get("pretokenizers", [])
    if any(step.get("pattern") == {"Regex": first} for step in steps):
        return  # adopted before
    part = pre_tokenizers.Split(Regex(first), "isolated")
    before = [backend.pre_tokenizer] if backend.pre_tokenizer is not None else []
    backend.pre_tokenizer = pre_tokenizers.Sequence([*before, part])


def _closed(backend: Backend, start: str, end: str, pad: str) -> str:
    """The file of ``backend``, with what stands around a text written into it."""
    ids = {mark: backend.token_to_id(mark) for mark in (start, end, pad)}
    backend.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(mark, ids[mark]) for mark in (start, end)]
    )
    backend.no_truncation()
    backend.enable_padding(pad_id=ids[pad], pad_token=pad)
    return str(backend.to_str(pretty=True))


def _marks(folder: Path) -> dict[str, str]:
    """What a folder says of its special tokens: ``pad_token`` and the like, by name."""
    found: dict[str, str] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        file = folder / name
        if not file.is_file():
            continue
        try:
            values: dict[str, Any] = json.loads(file.read_text("utf-8"))
        except ValueError as error:
            raise DataError(f"{file} is damaged: {error}") from error
        for key, value in values.items():
            token = value.get("content") if isinstance(value, dict) else value
            if key.endswith("_token") and isinstance(token, str):
                found[key] = token
    return found


def _merges_of_archive(path: Path) -> list[tuple[str, str]]:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        merges = _merges(content.decode("utf-8"))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if len(merges) < _MERGES:
        raise UserError(
            f"{path} holds {len(merges)} merges, fewer than the {_MERGES} of OpenAI's CLIP"
        )
    return merges[:_MERGES]  # the file goes on beyond what CLIP uses


def _merges(text: str) -> list[tuple[str, str]]:
    """Two pieces a line, after a first line about the file."""
    pairs = (line.split() for line in text.splitlines()[1:])
    return [(pair[0], pair[1]) for pair in pairs if len(pair) == 2]


@cache
def byte_letters() -> Mapping[str, int]:
    """The letter that stands for each byte, in OpenAI's order: first those that look like one."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    letters = {chr(byte): byte for byte in shown}
    return MappingProxyType(
        letters | {chr(256 + number): byte for number, byte in enumerate(hidden)}
    )
