"""The built-in shop: its texts are varied, correct Korean and tell what is shown."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections import Counter

import pytest

from kmm_jax.data.schema import texts
from kmm_jax.data.shop import (
    ADJECTIVE_TEMPLATES,
    COLOURS,
    PATTERNS,
    TEMPLATES,
    TYPES,
    ShopConfig,
    generate,
)
from kmm_jax.data.shop.shop import scene_of
from kmm_jax.data.shop.vocabulary import COLOURS_BY_KEY, KINDS, PATTERNS_BY_KEY

TRAIN = ShopConfig(items=4000, seed=3, split="train")


@pytest.fixture(scope="module")
def items():
    return list(generate(dataclasses.replace(TRAIN, items=500, image_size=64)))


def all_texts(items):
    return [text for item in items for _, text, _ in texts(item.record)]


def test_vocabulary_is_wide_and_unambiguous():
    assert len(TYPES) >= 16 and len(COLOURS) >= 10 and len(PATTERNS) >= 7
    for things in (KINDS, COLOURS_BY_KEY, PATTERNS_BY_KEY):
        names = [name for thing in things.values() for name in (thing.ko, *thing.synonyms)]
        assert len(names) == len(set(names))
        assert all(key == thing.key for key, thing in things.items())
    kinds = [value for kind in KINDS.values() for value in dict(kind.options).get("종류", ())]
    assert not set(kinds) & {kind.ko for kind in KINDS.values()}
    for template in (*TEMPLATES, *ADJECTIVE_TEMPLATES):
        assert "셔츠" in template.format(name="셔츠")
    assert 8 <= len(TEMPLATES) <= 12


def _words() -> list[str]:
    nouns = [n for k in KINDS.values() for n in (k.ko, *k.synonyms)]
    nouns += [value for k in KINDS.values() for value in dict(k.options).get("종류", ())]
    nouns += [f"한 {kind.counter}" for kind in KINDS.values()]
    return sorted(set(nouns), key=len, reverse=True)


def test_particles_fit_the_word_before_them(items):
    """By Unicode arithmetic on the syllable before, apart from the library's own rule."""
    pattern = re.compile(
        rf"(?:{'|'.join(map(re.escape, _words()))})(은|는|이|가|을|를|과|와|으로|로)(?=[ ,.!]|$)"
    )
    checked = Counter()
    for text in all_texts(items):
        for match in pattern.finditer(text):
            particle = match[1]
            syllable = unicodedata.normalize("NFD", text[match.start(1) - 1])
            final = syllable[2] if len(syllable) == 3 else ""
            if particle in ("으로", "로"):
                assert (particle == "로") == (final in ("", "ᆯ")), text
            else:
                assert (particle in "은이을과") == bool(final), text
            checked[particle] += 1
    assert len(checked) == 10 and checked.total() > 300, checked


def test_texts_are_clean_korean(items):
    for text in all_texts(items):
        assert text == unicodedata.normalize("NFC", text).strip()
        assert "  " not in text and "None" not in text and "{" not in text
        assert "(으)로" not in text and not re.search(r"[은이을과]\([는가를와]\)", text)
        assert re.search("[가-힣]", text)
        assert " ," not in text and " ." not in text


def test_wording_varies(items):
    for field, share in (("title", 0.95), ("caption", 0.9), ("product_name", 0.9)):
        assert len({item.record[field] for item in items}) > share * len(items)
    queries = [query for item in items for query in item.record["query"]]
    assert len(set(queries)) > 0.75 * len(queries)
    assert all(len(set(i.record["query"])) == len(i.record["query"]) for i in items)
    assert min(c for i in items for c in i.record["query_count"]) == 1
    assert max(c for i in items for c in i.record["query_count"]) > 50


def test_texts_name_what_is_shown(items):
    def named(text, thing):
        return any(name in text for name in (thing.ko, *thing.synonyms))

    for item in items:
        record = item.record
        for box in record["boxes"]:
            colour, pattern = COLOURS_BY_KEY[box["color"]], PATTERNS_BY_KEY[box["pattern"]]
            assert named(record["product_name"], colour), (record["product_name"], box)
            if box["pattern"] != "solid":
                assert named(record["product_name"], pattern), (record["product_name"], box)
        for text in (record["title"], record["caption"], record["product_name"]):
            colours = {box["color"] for box in record["boxes"]}
            for key, colour in COLOURS_BY_KEY.items():
                if key not in colours:
                    assert colour.ko not in text


def test_some_texts_name_the_type_alone(items):
    """Without them a model could tell pictures apart by their colours and learn no types."""
    words = [
        word
        for thing in (*COLOURS_BY_KEY.values(), *PATTERNS_BY_KEY.values())
        for word in (thing.ko, *thing.synonyms)
    ]
    for written, least in (
        ([item.record["title"] for item in items], 0.1),
        ([item.record["caption"] for item in items], 0.1),
        ([query for item in items for query in item.record["query"]], 0.2),
    ):
        alone = [text for text in written if not any(word in text for word in words)]
        assert len(alone) > least * len(written)


def test_attributes_say_what_was_drawn(items):
    for index, item in enumerate(items):
        garments = scene_of(TRAIN, index).garments
        attributes = item.record["attributes"]
        if len(garments) > 1:
            assert attributes["색상"] == [COLOURS_BY_KEY[g.colour].ko for g in garments]
        else:
            assert garments[0].attributes.items() <= attributes.items()
            assert attributes["패턴"] == PATTERNS_BY_KEY[garments[0].pattern].ko
