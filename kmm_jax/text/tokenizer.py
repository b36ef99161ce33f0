"""The tokenizer of every model here: a folder with ``tokenizer.json``, and sequences from it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from tokenizers import Tokenizer as Backend

from kmm_jax.errors import ConfigError, UserError, nearest
from kmm_jax.files import atomic_directory
from kmm_jax.text.byte_fallback import SPECIAL_TOKENS, train_backend
from kmm_jax.text.normalize import normalize
from kmm_jax.text.styles import STYLES, Style

FILE_NAME = "tokenizer.json"
_CONFIG_NAME = "tokenizer_config.json"
_SPECIAL_NAME = "special_tokens_map.json"


class Tokenizer:
    """Korean text to ids and back; immutable, so threads may share it and processes may copy it.

    Ids 0 to 6 are ``[PAD] [BOS] [EOS] [CLS] [PROMPT] [QUERY] [SHOPPING]``. No text is unknown, and
    a text that holds ``[EOS]`` literally gives the ids of its letters.
    """

    pad_id = SPECIAL_TOKENS.index("[PAD]")
    bos_id = SPECIAL_TOKENS.index("[BOS]")
    eos_id = SPECIAL_TOKENS.index("[EOS]")
    cls_id = SPECIAL_TOKENS.index("[CLS]")

    def __init__(self, tokenizer_json: str) -> None:
        """Take the whole content of a ``tokenizer.json``.

        Raises:
            UserError: it is not one, or its special tokens are not those of this library.
        """
        try:
            self._backend = Backend.from_str(tokenizer_json)
        except Exception as error:  # the backend raises nothing narrower
            raise UserError(f"not a tokenizer: {error}") from error
        found = tuple(self._backend.id_to_token(i) for i in range(len(SPECIAL_TOKENS)))
        if found != SPECIAL_TOKENS:
            raise UserError(
                f"ids 0 to 6 must be {' '.join(SPECIAL_TOKENS)}, found "
                f"{' '.join(map(str, found))}; train one with `kmm tokenizer train`"
            )
        self._json = tokenizer_json
        self._backend.no_padding()
        self._backend.no_truncation()
        # Special tokens inside a text are letters; only `sequences` puts real ones in.
        self._backend.encode_special_tokens = True

    @classmethod
    def train(cls, texts: Iterable[str], *, vocab_size: int) -> Tokenizer:
        """A byte-fallback BPE trained on ``texts``; the same texts give the same bytes.

        Few distinct texts may give fewer than ``vocab_size`` tokens.

        Raises:
            ConfigError: ``vocab_size`` is too small to hold any piece.
            DataError: no text is given, or all are empty.
        """
        return cls(train_backend(texts, vocab_size).to_str(pretty=True))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Tokenizer:
        """The tokenizer in the folder ``path``, or in the file ``path``.

        Raises:
            UserError: it is missing, unreadable or another kind of file.
        """
        file = Path(path)
        if file.is_dir():
            file = file / FILE_NAME
        try:
            content = file.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise UserError(
                f"no tokenizer at {file}; make one with `kmm tokenizer train`"
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"the tokenizer {file} cannot be read: {error}") from error
        try:
            return cls(content)
        except UserError as error:
            raise UserError(f"{file}: {error}") from error

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the folder that :meth:`load` and ``transformers.AutoTokenizer`` read, whole or not.

        A folder of that name is replaced if it holds a tokenizer and nothing else.

        Raises:
            UserError: the folder holds something else.
        """
        folder = Path(folder)
        check_replaceable(folder)
        roles = {"pad_token": "[PAD]", "bos_token": "[BOS]", "eos_token": "[EOS]"}
        roles["cls_token"] = "[CLS]"
        extra = list(SPECIAL_TOKENS[4:])
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **roles,
            "extra_special_tokens": extra,
            "clean_up_tokenization_spaces": False,
        }
        with atomic_directory(folder) as temporary:
            (temporary / FILE_NAME).write_text(self._json, encoding="utf-8", newline="")
            _write(temporary / _CONFIG_NAME, config)
            _write(temporary / _SPECIAL_NAME, {**roles, "additional_special_tokens": extra})

    @property
    def vocab_size(self) -> int:
        """How many ids there are, special tokens included."""
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of ``tokenizer.json``, in hexadecimal."""
        return hashlib.sha256(self._json.encode("utf-8")).hexdigest()

    def style_id(self, style: Style) -> int:
        """The id of the token for ``style``: prompt 4, query 5, shopping 6.

        Raises:
            UserError: no such style.
        """
        if style not in get_args(Style):
            raise UserError(f"no text style {style!r}{nearest(str(style), STYLES)}")
        return SPECIAL_TOKENS.index(f"[{style.upper()}]")

    def encode(self, text: str) -> list[int]:
        """The ids of the normalised text, without special tokens."""
        return list(self._backend.encode(normalize(text), add_special_tokens=False).ids)

    def pieces(self, text: str) -> list[str]:
        """The tokens behind :meth:`encode`, for people to look at."""
        return list(self._backend.encode(normalize(text), add_special_tokens=False).tokens)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids`` without special tokens; ``decode(encode(x)) == normalize(x)``."""
        return str(self._backend.decode([int(i) for i in ids], skip_special_tokens=True))

    def sequences(
        self, texts: Sequence[str], style: Style | Sequence[Style | None] | None, length: int
    ) -> np.ndarray:
        """Model input ``[BOS] [STYLE] text [EOS] [PAD]...``, (N, length) int32.

        ``style`` is one for all texts or one for each; None leaves the style token out, which is
        plain CoCa (slide 3.2). A text too long is cut, and ``[EOS]`` still closes it.

        Raises:
            ConfigError: ``length`` holds no text.
            UserError: an unknown style, or not as many styles as texts.
        """
        if isinstance(texts, str):
            raise TypeError("texts must be a sequence of strings; put the one text in a list")
        styles = [style] * len(texts) if style is None or isinstance(style, str) else list(style)
        if len(styles) != len(texts):
            raise UserError(f"{len(texts)} texts were given, but {len(styles)} styles")
        rows_NL = np.full((len(texts), length), self.pad_id, np.int32)
        for row_L, text, each in zip(rows_NL, texts, styles, strict=True):
            head = self._head(each)
            room = _room(head, length)
            ids = [*head, *self.encode(text)[:room], self.eos_id]
            row_L[: len(ids)] = ids
        return rows_NL

    def truncates(self, text: str, style: Style | None, length: int) -> bool:
        """Whether :meth:`sequences` has to cut ``text`` to fit ``length``."""
        return len(self.encode(text)) > _room(self._head(style), length)

    def _head(self, style: Style | None) -> list[int]:
        return [self.bos_id] if style is None else [self.bos_id, self.style_id(style)]

    def __reduce__(self) -> tuple[type[Tokenizer], tuple[str]]:
        return type(self), (self._json,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self._json == other._json

    def __hash__(self) -> int:
        return hash(self._json)

    def __repr__(self) -> str:
        return f"Tokenizer({self.vocab_size} tokens, {self.fingerprint[:12]})"


def check_replaceable(folder: Path) -> None:
    """Refuse a folder that :meth:`Tokenizer.save` must not replace, before a long training.

    Raises:
        UserError: the folder holds more than a tokenizer, as a model's folder does.
    """
    if folder.exists():
        inside = {entry.name for entry in folder.iterdir()} if folder.is_dir() else {"a file"}
        if strange := inside - {FILE_NAME, _CONFIG_NAME, _SPECIAL_NAME}:
            raise UserError(
                f"{folder} exists and holds more than a tokenizer ({min(strange)}); "
                "choose another folder"
            )


def _room(head: list[int], length: int) -> int:
    """How many ids of text fit between ``head`` and ``[EOS]``."""
    room = length - len(head) - 1
    if room < 1:
        raise ConfigError(
            f"a text length of {length} holds {len(head)} tokens in front, [EOS] and no text; "
            f"give at least {len(head) + 2}"
        )
    return room


def _write(path: Path, value: Any) -> None:
    content = json.dumps(value, ensure_ascii=False, indent=2) + "\n"
    path.write_text(content, encoding="utf-8", newline="")
