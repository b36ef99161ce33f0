"""What the OCR score finds: text of known size on real photos, at each size of what it looks at.

    python -m tools.ocr                          # needs the photos named by KMM_SHARED_DATA
    python -m tools.ocr --photos 10 --output /tmp/try

Writes ``docs/results/ocr.*``: the share of drawn lines that are found, boxes on photos as they are,
and photos a second on one core, from which the default of ``ocr.side`` was chosen.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from kmm_jax.corpus.scoring.ocr import Ocr
from kmm_jax.corpus.scoring.protocol import Sample
from kmm_jax.data.fonts import korean_font
from tools import results

_PHOTOS = ("fashion/clothing_photos.tar", "photos/imagenet_sample_ko.tar",
           "photos/flickr8k_subset.tar")  # fmt: skip
_SIDES = (224, 320, 480, 736)
_HEIGHTS = (0.03, 0.05, 0.08, 0.12, 0.2, 0.3)
_LINES = ("여름 신상 원피스 할인", "무료배송 오늘출발", "SUMMER SALE 50%", "문의는 톡으로",
          "신제품 출시 기념 행사", "가을 코디 추천 12,900원")  # fmt: skip
_WORDS = ("할인", "신상", "SALE", "추천", "무료")
_CHOSEN_ON = 60  # photos of each set
_ROOM_FOR_LINES = 0.15  # of the height; taller ones are single words
# The side the photos are scaled to, so that a share of it means as many pixels on all.
_PHOTO_SIDE = 736


class Drawn(NamedTuple):
    """A photo with lines of text, and the rectangle of each (left, top, right, bottom)."""

    pixels_HWC: np.ndarray
    lines: list[tuple[int, int, int, int]]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=int, default=60, help="of each set")
    parser.add_argument("--output", type=Path, help="instead of docs/results")
    arguments = parser.parse_args(argv)
    data = Path(os.environ.get("KMM_SHARED_DATA", "../shared/data"))
    if not data.is_dir():
        print(f"no real photos: {data} does not exist (set KMM_SHARED_DATA)", file=sys.stderr)
        return 2
    if arguments.output is not None:
        results.FOLDER = arguments.output
    photos = {name: list(_read(data / name, arguments.photos)) for name in _PHOTOS}
    rows = [_measure(side, photos) for side in _SIDES]
    values = {"photos": arguments.photos, "sides": rows, "load": os.getloadavg()[0]}
    results.write(
        "ocr",
        title="Text boxes in pictures",
        command="python -m tools.ocr",
        values=values,
        body=_body(values),
    )
    return 0


def _measure(side: int, photos: dict[str, list[np.ndarray]]) -> dict[str, Any]:
    scorer = Ocr(side=side).load()
    every = [photo for of_set in photos.values() for photo in of_set]
    scorer.score([_sample(every[0])])
    began = time.process_time()
    scorer.score([_sample(photo) for photo in every])
    seconds = time.process_time() - began
    found = {}
    for height in _HEIGHTS:
        drawn = [_draw(photo, height, Random(f"{n}/{height}")) for n, photo in enumerate(every)]
        hits = [hit for one in drawn for hit in _hits(scorer, one)]
        found[f"{height:.0%}"] = sum(hits) / len(hits)
    plain = {
        name: _shares(scorer.score([_sample(photo) for photo in of_set]))
        for name, of_set in photos.items()
    }
    print(f"side {side}: {len(every) / seconds:.1f} photos a second, {found}", flush=True)
    return {"side": side, "a_second": len(every) / seconds, "found": found, "plain": plain}


def _shares(values: Sequence[Any]) -> dict[str, float]:
    rules = Ocr()
    boxes = [row["ocr_num_box"] for row in values]
    rejected = [rules.judge(row)[1] is not None for row in values]
    return {
        "boxes": float(np.mean(boxes)),
        "with_text": float(np.mean([count > 0 for count in boxes])),
        "rejected": float(np.mean(rejected)),
    }


def _hits(scorer: Any, drawn: Drawn) -> list[bool]:
    """Whether at least half of each line's rectangle lies in the detector's boxes."""
    covered = scorer.covered(drawn.pixels_HWC)
    scale = covered.shape[0] / drawn.pixels_HWC.shape[0]
    hits = []
    for line in drawn.lines:
        left, top, right, bottom = (round(edge * scale) for edge in line)
        inside = covered[top : max(bottom, top + 1), left : max(right, left + 1)]
        hits.append(bool(inside.mean() >= 0.5))
    return hits


def _draw(photo: np.ndarray, height: float, rng: Random) -> Drawn:
    """One to three lines, one below the other, white on dark parts and dark on bright ones."""
    image = Image.fromarray(photo)
    draw = ImageDraw.Draw(image)
    font = korean_font(max(6, round(height * min(image.size))))
    lines = []
    top = rng.randrange(5, max(6, image.height // 3))
    for text in rng.sample(_LINES if height < _ROOM_FOR_LINES else _WORDS, rng.randint(1, 3)):
        left = rng.randrange(5, max(6, image.width // 6))
        box = draw.textbbox((left, top), text, font=font)
        if box[2] > image.width or box[3] > image.height:
            break
        part = np.asarray(image.crop(tuple(map(int, box))).convert("L"))
        draw.text((left, top), text, font=font, fill="white" if part.mean() < 128 else "black")
        lines.append((int(box[0]), int(box[1]), int(box[2]), int(box[3])))
        top = int(box[3]) + rng.randrange(8, 60)
    return Drawn(np.asarray(image), lines)


def _sample(pixels_HWC: np.ndarray) -> Sample:
    return Sample("", pixels_HWC, (), ())


def _read(tar: Path, count: int) -> Iterator[np.ndarray]:
    with tarfile.open(tar) as archive:
        names = sorted(name for name in archive.getnames() if name.endswith(".jpg"))
        # Not those of seed 0: on them the height that is no line any more was chosen.
        seen = set(Random(0).sample(names, min(_CHOSEN_ON, len(names))))
        left = [name for name in names if name not in seen]
        for name in Random(1).sample(left, min(count, len(left))):
            opened = archive.extractfile(name)
            assert opened is not None
            image = Image.open(io.BytesIO(opened.read())).convert("RGB")
            scale = _PHOTO_SIDE / min(image.size)
            size = round(image.width * scale), round(image.height * scale)
            yield np.asarray(image.resize(size, Image.Resampling.BICUBIC))


def _body(values: dict[str, Any]) -> str:
    sides = values["sides"]
    found = [
        (
            row["side"],
            f"{row['a_second']:.1f}",
            *(f"{share:.1%}" for share in row["found"].values()),
        )
        for row in sides
    ]
    plain = [
        (
            row["side"],
            name,
            f"{of_set['boxes']:.2f}",
            f"{of_set['with_text']:.0%}",
            f"{of_set['rejected']:.1%}",
        )
        for row in sides
        for name, of_set in row["plain"].items()
    ]
    rules = Ocr()
    return "\n\n".join(
        (
            f"Lines of Korean and English drawn on {values['photos']} photos of each of three "
            "sets; found means that half of a line's rectangle lies in boxes. Heights are those of "
            "the font, in percent of the shorter side; photos a second on one core, resized to the "
            f"side and detected, not decoded (load {values['load']:.1f}). The default side is "
            f"{rules.side}. Boxes taller than {rules.tallest:.0%} of the shorter side do not "
            "count, a limit that was chosen on other photos of the same sets.",
            results.table(
                ("side", "photos a second", *(f"height {h}" for h in sides[0]["found"])), found
            ),
            "The photos as they are, some of which show text: boxes a photo, photos with any, and "
            f"photos rejected by the default thresholds (more than {rules.most_boxes} boxes or "
            f"{rules.most_area} percent).",
            results.table(("side", "photos", "boxes", "with text", "rejected"), plain),
        )
    )


if __name__ == "__main__":
    raise SystemExit(main())
