"""The tokenizer of every model here: a folder with ``tokenizer.json``, and sequences from it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from tokenizers import Encoding
from tokenizers import Tokenizer as Backend

from kmm_jax.errors import ConfigError, UserError, nearest
from kmm_jax.files import atomic_directory
from kmm_jax.text.byte_fallback import SPECIAL_TOKENS, train_backend
from kmm_jax.text.normalize import normalize
from kmm_jax.text.styles import STYLES, Style

FILE_NAME = "tokenizer.json"
CONFIG_NAME = "tokenizer_config.json"
SPECIAL_NAME = "special_tokens_map.json"
VOCABULARY_NAME, MERGES_NAME = "vocab.json", "merges.txt"
"""Beside the others in the folder of a CLIP only."""

_NAMES = frozenset({FILE_NAME, CONFIG_NAME, SPECIAL_NAME, VOCABULARY_NAME, MERGES_NAME})


class Tokenizer:
    """Korean text to ids and back; immutable, so threads may share it and processes may copy it.

    In a tokenizer of this library, ids 0 to 6 are ``[PAD] [BOS] [EOS] [CLS] [PROMPT] [QUERY]
    [SHOPPING]``, texts are normalised first, and no text is unknown. One that was adopted with the
    weights of another model (``kmm_jax.text.adopted``) has that model's marks and rules, and no
    styles. In both, a text that holds ``[EOS]`` literally gives the ids of its letters.

    Attributes:
        pad_id, bos_id, eos_id: what fills a text up, begins and ends it.
        cls_id: of ``[CLS]``; None in an adopted tokenizer.
    """

    def __init__(self, tokenizer_json: str) -> None:
        """Take the whole content of a ``tokenizer.json``.

        Raises:
            UserError: it is not one, or does not say what begins, ends and fills up a text.
        """
        try:
            self._backend = Backend.from_str(tokenizer_json)
        except Exception as error:  # the backend raises nothing narrower
            raise UserError(f"not a tokenizer: {error}") from error
        found = tuple(self._backend.id_to_token(i) for i in range(len(SPECIAL_TOKENS)))
        self.own = found == SPECIAL_TOKENS
        self.cls_id = SPECIAL_TOKENS.index("[CLS]") if self.own else None
        if self.own:
            self.pad_id, self.bos_id, self.eos_id = map(
                SPECIAL_TOKENS.index, ("[PAD]", "[BOS]", "[EOS]")
            )
        else:
            self.pad_id, self.bos_id, self.eos_id = _adopted_marks(self._backend, found)
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

    def save(self, folder: str | os.PathLike[str], *, length: int | None = None) -> None:
        """Write the folder that :meth:`load` and ``transformers.AutoTokenizer`` read, whole or not.

        A folder of that name is replaced if it holds a tokenizer and nothing else.

        Args:
            length: most tokens of a text, for ``transformers``; None where none is said.

        Raises:
            UserError: the folder holds something else.
        """
        folder = Path(folder)
        check_replaceable(folder)
        # OpenAI fills up with "!", which transformers would no longer read as a letter if told so.
        special = self._backend.get_added_tokens_decoder()
        pad_id = self.pad_id if self.pad_id in special else self.eos_id
        ids = {"pad_token": pad_id, "bos_token": self.bos_id, "eos_token": self.eos_id}
        roles = {role: str(self._backend.id_to_token(number)) for role, number in ids.items()}
        if self.own:
            roles["cls_token"] = "[CLS]"
        extra = list(SPECIAL_TOKENS[4:]) if self.own else []
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **roles,
            "extra_special_tokens": extra,
            **({} if length is None else {"model_max_length": length}),
            "clean_up_tokenization_spaces": False,
        }
        with atomic_directory(folder) as temporary:
            (temporary / FILE_NAME).write_text(self._json, encoding="utf-8", newline="")
            _write(temporary / CONFIG_NAME, config)
            _write(temporary / SPECIAL_NAME, {**roles, "additional_special_tokens": extra})

    @property
    def vocab_size(self) -> int:
        """How many ids there are, special tokens included."""
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    @property
    def vocabulary(self) -> dict[str, int]:
        """Every token with its id, special tokens included."""
        return dict(self._backend.get_vocab(with_added_tokens=True))

    @property
    def byte_level(self) -> bool:
        """Whether the letters of tokens stand for bytes, as in GPT-2's and OpenAI's CLIP."""
        return '"ByteLevel"' in self._json

    @property
    def json(self) -> str:
        """The content of ``tokenizer.json``."""
        return self._json

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of ``tokenizer.json``, in hexadecimal."""
        return hashlib.sha256(self._json.encode("utf-8")).hexdigest()

    def style_id(self, style: Style) -> int:
        """The id of the token for ``style``: prompt 4, query 5, shopping 6.

        Raises:
            UserError: no such style, or a tokenizer without any.
        """
        if style not in get_args(Style):
            raise UserError(f"no text style {style!r}{nearest(str(style), STYLES)}")
        if not self.own:
            raise UserError(
                f"this tokenizer came with other weights and has no token for the style {style!r}; "
                "set data.styled=false, or train one with `kmm tokenizer train`"
            )
        return SPECIAL_TOKENS.index(f"[{style.upper()}]")

    @property
    def unsayable(self) -> list[int]:
        """The ids that stand around texts and never within one; ``eos_id`` is not among them."""
        if self.own:
            return [i for i in range(len(SPECIAL_TOKENS)) if i != self.eos_id]
        added = self._backend.get_added_tokens_decoder()
        return sorted({i for i, token in added.items() if token.special} - {self.eos_id})

    def encode(self, text: str) -> list[int]:
        """The ids of the text, without special tokens."""
        return list(self._encoded(text).ids)

    def pieces(self, text: str) -> list[str]:
        """The tokens behind :meth:`encode`, for people to look at."""
        return list(self._encoded(text).tokens)

    def _encoded(self, text: str) -> Encoding:
        # An adopted tokenizer has rules of its own, by which its model was trained.
        clean = normalize(text) if self.own else text.encode("utf-8", "ignore").decode("utf-8")
        return self._backend.encode(clean, add_special_tokens=False)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids`` without special tokens.

        ``decode(encode(x)) == normalize(x)`` for a tokenizer of this library.
        """
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

    def asked(self, questions: Sequence[str], length: int) -> np.ndarray:
        """What an answer follows: ``[BOS] [QUERY] question [PROMPT] [PAD]...``, (N, length) int32.

        The style tokens mark who speaks: a question is what a person asks for, its answer what is
        said of the image. A question takes three quarters of the room at most and is cut there, in
        training and in use alike, so that an answer always has some.

        Raises:
            ConfigError: ``length`` holds no question and answer.
            UserError: an adopted tokenizer, which has no style tokens.
        """
        rows_NL = np.full((len(questions), length), self.pad_id, np.int32)
        for row_L, question in zip(rows_NL, questions, strict=True):
            ids = self._asked(question, length)
            row_L[: len(ids)] = ids
        return rows_NL

    def answered(
        self, questions: Sequence[str], answers: Sequence[str], length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """``[BOS] [QUERY] question [PROMPT] answer [EOS] [PAD]...``, and which of it is answered.

        Returns:
            (N, length) int32, and (N, length) bool: true at the answer and its ``[EOS]``.

        Raises:
            ConfigError, UserError: as :meth:`asked` does.
        """
        rows_NL = np.full((len(questions), length), self.pad_id, np.int32)
        target_NL = np.zeros(rows_NL.shape, bool)
        for row_L, target_L, question, answer in zip(
            rows_NL, target_NL, questions, answers, strict=True
        ):
            asked = self._asked(question, length)
            ids = [*asked, *self.encode(answer)[: length - len(asked) - 1], self.eos_id]
            row_L[: len(ids)] = ids
            target_L[len(asked) : len(ids)] = True
        return rows_NL, target_NL

    def truncates_question(self, question: str, length: int) -> bool:
        """Whether :meth:`asked` has to cut ``question``."""
        return len(self.encode(question)) > len(self._asked(question, length)) - 3

    def _asked(self, question: str, length: int) -> list[int]:
        if not self.own:
            raise UserError(
                "this tokenizer came with other weights and has no tokens that tell a question "
                "from its answer; train one with `kmm tokenizer train`"
            )
        room = length - len(("[BOS]", "[QUERY]", "[PROMPT]", "[EOS]"))
        if room < 2:
            raise ConfigError(
                f"a text length of {length} holds no question with an answer; give at least 6"
            )
        ids = self.encode(question)[: max(3 * room // 4, 1)]
        return [self.bos_id, self.style_id("query"), *ids, self.style_id("prompt")]

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


def _adopted_marks(backend: Backend, found: tuple[str | None, ...]) -> tuple[int, int, int]:
    """The ids that fill up, begin and end a text, as the file of an adopted tokenizer says."""
    around = backend.encode("", add_special_tokens=True).ids
    if len(around) != 2 or backend.padding is None:
        raise UserError(
            f"ids 0 to 6 must be {' '.join(SPECIAL_TOKENS)}, found {' '.join(map(str, found))}, "
            "and the file does not say what else begins, ends and fills up a text; train one with "
            "`kmm tokenizer train`, import it with its model (tools.import_checkpoint), or train "
            "with that of the weights a run begins with (tokenizer=@init)"
        )
    return int(backend.padding["pad_id"]), int(around[0]), int(around[1])


def check_replaceable(folder: Path) -> None:
    """Refuse a folder that :meth:`Tokenizer.save` must not replace, before a long training.

    Raises:
        UserError: the folder holds more than a tokenizer, as a model's folder does.
    """
    if folder.exists():
        inside = {entry.name for entry in folder.iterdir()} if folder.is_dir() else {"a file"}
        if strange := inside - _NAMES:
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
