"""A tokenizer as small as OpenAI's kind gets, in the forms it is found in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kmm_jax.text.adopted import openai_bpe

MERGES = [("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>")]
VOCABULARY = 518
"""512 bytes, 4 merges, 2 marks."""


@pytest.fixture(scope="session")
def openai_tokenizer(tmp_path_factory) -> Path:
    """A folder as the Hub has it: ``tokenizer.json`` and what its marks are."""
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "tokenizer.json").write_text(openai_bpe(MERGES), "utf-8")
    marks = {
        "bos_token": "<|startoftext|>",
        "eos_token": {"content": "<|endoftext|>"},
        "pad_token": "!",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(marks), "utf-8")
    return folder
