"""What the demonstration learns from and is asked: photos by pair, wordings, tokenizers."""

from __future__ import annotations

import dataclasses
import io
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from kmm_jax.data.datasets.fashion_pairs import (
    COLORS,
    TYPES,
    Pair,
    count_pairs,
    held_out_pairs,
)
from kmm_jax.data.datasets.fashion_products import NAME, photos
from kmm_jax.data.datasets.fashion_prompts import Look, draw, draw_pair
from kmm_jax.data.datasets.fashion_wording import Product
from kmm_jax.data.datasets.photos import as_jpeg, hash_of
from kmm_jax.data.parallel import parallel_pairs
from kmm_jax.data.shards import ShardWriter
from kmm_jax.files import atomic_directory, read_json, write_json
from kmm_jax.text.clip_bpe import save_clip_folder, train_clip_bpe
from kmm_jax.text.extension import extend
from kmm_jax.text.tokenizer import Tokenizer

LENGTH = 24
"""Positions of a prompt, marks included."""

_ENGLISH_TOKENS, _KOREAN_TOKENS = 1000, 1500
_PROMPTS_A_PHOTO = 12
_DRAWN = 20_000  # pairs of wordings
_TEST_EVERY = 7  # one photo of a pair in so many tests the classifier


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """Everything made of the photos and of the wordings, on disk.

    Attributes:
        folder: ``train/TYPE-COLOR-000.tar`` of each pair that generators see, ``english`` and
            ``korean`` tokenizers, ``pairs.tsv`` of parallel texts.
        trained, held_out: pairs; of the latter generators see no photo and no text.
        counts: photos of each pair.
        wordings, sentences: parallel texts: of products, and of everything else.
    """

    folder: Path
    trained: tuple[Pair, ...]
    held_out: tuple[Pair, ...]
    counts: dict[str, int]
    wordings: int
    sentences: int

    def sources(self) -> list[tuple[str, float]]:
        """Shards of each trained pair, with the root of their photos for a weight."""
        return [
            (
                str(self.folder / "train" / f"{pair_name(pair)}-*.tar"),
                self.counts[pair_name(pair)] ** 0.5,
            )
            for pair in self.trained
        ]

    def tokenizer(self, language: str) -> Tokenizer:
        """Of ``english`` alone, or of ``korean`` added to it."""
        return Tokenizer.load(self.folder / language)


def pair_name(pair: Pair) -> str:
    """A pair as files and counts are named by it."""
    return f"{pair[0]}-{pair[1]}".replace(" ", "_")


def world(work: Path, data: Path, *, parallel: Sequence[Path] = ()) -> World:
    """The world, made once.

    Args:
        data: the folder that holds Fashion Product Images (Small).
        parallel: files or folders of Korean and English sentences, to be learned from as well.
    """
    folder = work / "world"
    about = read_json(folder / "about.json")
    if not about:
        with atomic_directory(folder) as place:
            about = _made(place, data, parallel)
            write_json(place / "about.json", about)
    return World(
        folder=folder,
        trained=tuple((one, other) for one, other in about["trained"]),
        held_out=tuple((one, other) for one, other in about["held_out"]),
        counts=about["counts"],
        wordings=about["wordings"],
        sentences=about["sentences"],
    )


def _made(place: Path, data: Path, parallel: Sequence[Path]) -> dict[str, object]:
    found = [photo for photo in photos(data) if _pair(photo.facts) is not None]
    counts = count_pairs(photo.facts for photo in found)
    held_out = held_out_pairs(counts)
    trained = tuple(
        (type_, color)
        for type_ in TYPES
        for color in COLORS
        if counts[type_, color] and (type_, color) not in held_out
    )
    rng = random.Random(0)
    for pair in trained:
        with ShardWriter(place / "train", prefix=pair_name(pair)) as writer:
            seen: set[str] = set()
            for photo in found:
                if _pair(photo.facts) != pair:
                    continue
                image = as_jpeg(photo.read())
                key = hash_of(image)
                if key in seen:
                    continue
                seen.add(key)
                look = Look.of(photo.facts)
                prompts = [draw(rng, look, "en") for _ in range(_PROMPTS_A_PHOTO)]
                writer.write({"image_hash": key, "query_en": prompts, "source": NAME}, image)
    drawn = _drawn(rng, [photo.facts for photo in found], held_out)
    sentences = list(parallel_pairs(list(parallel), "train")) if parallel else []
    _write_pairs(place / "wordings.tsv", drawn)
    _write_pairs(place / "sentences.tsv", sentences)
    english = train_clip_bpe([en for _, en in drawn + sentences], _ENGLISH_TOKENS)
    korean = extend(english, [ko for ko, _ in drawn + sentences], new_tokens=_KOREAN_TOKENS)
    save_clip_folder(english, place / "english", length=LENGTH)
    save_clip_folder(korean, place / "korean", length=LENGTH)
    return {
        "trained": [list(pair) for pair in trained],
        "held_out": [list(pair) for pair in held_out],
        "counts": {pair_name(pair): counts[pair] for pair in counts},
        "wordings": len(drawn),
        "sentences": len(sentences),
    }


def _pair(item: Product) -> Pair | None:
    return (item.type, item.color) if item.type in TYPES and item.color in COLORS else None


def _drawn(
    rng: random.Random, items: Sequence[Product], held_out: Sequence[Pair]
) -> list[tuple[str, str]]:
    """Parallel wordings of trained pairs, in the wordings of training, each once."""
    looks = [Look.of(item) for item in items if _pair(item) not in held_out]
    drawn = (draw_pair(rng, rng.choice(looks)) for _ in range(_DRAWN))
    return list(dict.fromkeys(drawn))


def _write_pairs(path: Path, pairs: Iterable[tuple[str, str]]) -> None:
    lines = ["ko\ten", *(f"{ko}\t{en}" for ko, en in pairs)]
    path.write_text("\n".join(lines) + "\n", "utf-8")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labelled:
    """Real photos with their type and colour, by number, for the classifier that scores.

    Attributes:
        images: (N, S, S, 3) uint8.
        types, colors: (N,) int.
        tests: (N,) bool, those that the classifier is tested on.
    """

    images: np.ndarray
    types: np.ndarray
    colors: np.ndarray
    tests: np.ndarray


def labelled(data: Path, size: int) -> Labelled:
    """All photos of the world's pairs, held-out ones included, at ``size`` pixels a side."""
    images, types, colors, tests = [], [], [], []
    for photo in photos(data):
        pair = _pair(photo.facts)
        if pair is None:
            continue
        with Image.open(io.BytesIO(photo.read())) as opened:
            picture = opened.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
        images.append(np.asarray(picture))
        types.append(TYPES.index(pair[0]))
        colors.append(COLORS.index(pair[1]))
        tests.append(int(hash_of(photo.name.encode()), 16) % _TEST_EVERY == 0)
    return Labelled(
        images=np.stack(images),
        types=np.asarray(types),
        colors=np.asarray(colors),
        tests=np.asarray(tests),
    )
