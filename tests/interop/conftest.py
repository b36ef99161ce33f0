"""Tokenizers as small as OpenAI's and XLM-RoBERTa's kinds get, in the forms they are found in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kmm_jax.text.adopted import openai_bpe
from tools.parity import unigram

MERGES = [("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>")]
VOCABULARY = 518
"""512 bytes, 4 merges, 2 marks."""
UNIGRAM_VOCABULARY = 64
"""A few more than there are pieces."""
KOREAN = ["빨간 원피스", "파란 가방을 든 사람", "a red dress", "운동화 42"]


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


@pytest.fixture(scope="session")
def unigram_tokenizer(tmp_path_factory) -> Path:
    """A folder as the Hub has XLM-RoBERTa's."""
    return unigram.write(tmp_path_factory.mktemp("unigram"), KOREAN)
