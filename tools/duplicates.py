"""Near duplicates on shop photos: different products that look alike, and copies of one picture.

    python -m tools.duplicates                   # needs the photos named by KMM_SHARED_DATA
    python -m tools.duplicates --photos 50 --output /tmp/try

Writes ``docs/results/duplicates.*``. Photos of the product set are of different products, few
pairs of them duplicates however close their perceptual hashes; copies are made here.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import io
import itertools
import os
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image, ImageEnhance

from kmm_jax.corpus import join
from kmm_jax.corpus.config import DuplicateRules, ImageRules
from kmm_jax.corpus.images import Facts, alike, image_facts
from tools import results

_PRODUCTS = "fashion/fashion_products.tar"
_PHOTOS = (_PRODUCTS, "photos/flickr8k_subset.tar", "fashion/clothing_photos.tar")
_RULES = ImageRules(least_side=1, most_white=1.1)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=int, default=300, help="of each set, to make copies of")
    parser.add_argument("--output", type=Path, help="instead of docs/results")
    arguments = parser.parse_args(argv)
    data = Path(os.environ.get("KMM_SHARED_DATA", "../shared/data"))
    if not data.is_dir():
        print(f"no real photos: {data} does not exist (set KMM_SHARED_DATA)", file=sys.stderr)
        return 2
    if arguments.output is not None:
        results.FOLDER = arguments.output
    values = {
        "rules": dataclasses.asdict(DuplicateRules()),
        "products": of_products(data / _PRODUCTS),
        "copies": of_copies([data / name for name in _PHOTOS], arguments.photos),
    }
    results.write(
        "duplicates",
        title="Near duplicates",
        command="python -m tools.duplicates",
        values=values,
        body=_body(values),
    )
    return 0


def of_products(tar: Path) -> dict[str, int]:
    """Pairs of different products that the hash alone, and that both looks take for duplicates."""
    rules = DuplicateRules()
    # The same picture may stand for two rows of the set; such files are one here.
    found = {facts.image_hash: facts for facts in map(_facts, _jpegs(tar))}
    facts = [found[name] for name in sorted(found)]
    bands = collections.defaultdict(list)
    for number, one in enumerate(facts):
        row = {**one._asdict(), "file": 0, "row": number}
        for band in join.in_bands(row, rules.bits):
            bands[band["band"]].append(number)
    near = {
        pair
        for numbers in bands.values()
        for pair in itertools.combinations(numbers, 2)
        if _close(facts[pair[0]], facts[pair[1]])
    }
    both = [pair for pair in near if _same(facts[pair[0]], facts[pair[1]])]
    return {"pictures": len(facts), "by_hash": len(near), "by_both": len(both)}


def of_copies(tars: Sequence[Path], count: int) -> dict[str, dict[str, float]]:
    """Of copies made in each way, the share found by the hash alone and by both looks."""
    hits: dict[str, list[tuple[bool, bool]]] = collections.defaultdict(list)
    for tar in tars:
        pictures = list(_jpegs(tar))
        for data in Random(0).sample(pictures, min(count, len(pictures))):
            original = _facts(data)
            for kind, copy in _copies(Image.open(io.BytesIO(data)).convert("RGB")):
                facts = _facts(copy)
                hits[kind].append((_close(original, facts), _same(original, facts)))
    return {
        kind: {
            "copies": len(told),
            "by_hash": sum(close for close, _ in told) / len(told),
            "by_both": sum(same for _, same in told) / len(told),
        }
        for kind, told in hits.items()
    }


def _copies(image: Image.Image) -> Iterator[tuple[str, bytes]]:
    width, height = image.size

    def scaled(share: float) -> Image.Image:
        size = max(1, round(width * share)), max(1, round(height * share))
        return image.resize(size, Image.Resampling.LANCZOS)

    yield "nine tenths of the size, quality 70", _jpeg(scaled(0.9), 70)
    yield "half the size, quality 85", _jpeg(scaled(0.5), 85)
    yield "quality 40", _jpeg(image, 40)
    yield "5 % brighter", _jpeg(ImageEnhance.Brightness(image).enhance(1.05), 90)
    yield "10 % more contrast", _jpeg(ImageEnhance.Contrast(image).enhance(1.1), 90)
    yield "20 % more colour", _jpeg(ImageEnhance.Color(image).enhance(1.2), 90)
    edges = round(width * 0.02), round(height * 0.02), width, height
    yield "2 % cut off two sides", _jpeg(image.crop(edges), 90)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _jpegs(tar: Path) -> Iterator[bytes]:
    with tarfile.open(tar) as archive:
        for member in archive:
            opened = archive.extractfile(member) if member.name.endswith(".jpg") else None
            if opened is not None:
                yield opened.read()


def _facts(data: bytes) -> Facts:
    return image_facts(data, _RULES)


def _close(one: Facts, other: Facts) -> bool:
    bits = DuplicateRules().bits
    assert bits is not None
    return (one.perceptual ^ other.perceptual).bit_count() <= bits


def _same(one: Facts, other: Facts) -> bool:
    rules = DuplicateRules()
    return _close(one, other) and alike(
        one.look, other.look, shade=rules.shade, colour=rules.colour
    )


def _body(values: dict[str, Any]) -> str:
    products, rules = values["products"], values["rules"]
    copies = [
        (kind, f"{told['copies']:,}", f"{told['by_hash']:.1%}", f"{told['by_both']:.1%}")
        for kind, told in values["copies"].items()
    ]
    return "\n\n".join(
        (
            f"{products['pictures']:,} photos of different products, {rules['bits']} bits of the "
            f"perceptual hash allowed: {products['by_hash']:,} pairs are that close. Those looked "
            "at were other models or other colours of one. "
            f"{products['by_both']:,} of them pass the second look as well (shades within "
            f"{rules['shade']}, colours within {rules['colour']}). Both limits were chosen on "
            "these products and on copies of these photos: on other pictures more may pass.",
            "Copies made of photos of three sets, found by the hash alone and by both. Edited "
            "pictures (contrast, colour, cuts) are mostly kept as pictures of their own.",
            results.table(("copy", "made", "by hash", "by both"), copies),
        )
    )


if __name__ == "__main__":
    raise SystemExit(main())
