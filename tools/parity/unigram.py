"""A tokenizer as small as XLM-RoBERTa's kind gets: SentencePiece's Unigram, with its marks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

MARKS = ("<s>", "<pad>", "</s>", "<unk>")
"""With the ids 0 to 3; ``<mask>`` comes last."""

_MASK = "<mask>"
_SPACE = "\u2581"


def write(folder: Path, texts: Sequence[str]) -> Path:
    """The files that the Hub has of XLM-RoBERTa's tokenizer.

    Its pieces are the letters and the words of ``texts``.
    """
    words = sorted({word for text in texts for word in text.split()})
    letters = sorted({letter for word in words for letter in word} - {_SPACE})
    pieces = [(mark, 0.0) for mark in MARKS]
    pieces += [(_SPACE, -3.0), *((letter, -6.0) for letter in letters)]
    pieces += [(_SPACE + word, -8.0) for word in words]
    backend = Backend(models.Unigram([*pieces, (_MASK, 0.0)], unk_id=3, byte_fallback=False))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    backend.add_special_tokens(
        [AddedToken(mark, special=True, normalized=False) for mark in (*MARKS, _MASK)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(str(backend.to_str()), "utf-8")
    about = {
        "tokenizer_class": "XLMRobertaTokenizer",
        "bos_token": "<s>",
        "cls_token": "<s>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": _MASK,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(about), "utf-8")
    return folder
