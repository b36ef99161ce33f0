"""What the corpus pipeline keeps and rejects: on dirt that is known, on real photos.

    python -m tools.corpus                       # needs the photos named by KMM_SHARED_DATA
    python -m tools.corpus --items 200 --output /tmp/try

Writes ``docs/results/corpus.*``. The shop with injected dirt tells precision and recall of each
rule; real photos with captions and names, how often the rules hit ordinary ones. Speed:
``tools.corpus_speed``.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kmm_jax.corpus import judge, sources, tables
from kmm_jax.corpus.build import build
from kmm_jax.corpus.config import CorpusConfig, Images, Products
from kmm_jax.corpus.scoring.ocr import Ocr
from kmm_jax.corpus.scoring.watermark import Watermark
from kmm_jax.corpus.text import TextRules
from tools import dirty_shop, results

_IMAGE_RULES = ("small", "aspect", "white", "decode_error")
# Tars with a table of the same name, and what its columns say.
_PHOTOS: dict[str, dict[str, Any]] = {
    "photos/flickr8k_subset": {"caption": tuple(f"caption_en_{number}" for number in range(5))},
    "photos/imagenet_sample_ko": {"title": "class_ko"},
    "fashion/clothing_photos": {"title": "class_ko"},
    "fashion/fashion_products": {"product_name": "productDisplayName"},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, default=2000, help="pictures of the shop")
    parser.add_argument("--output", type=Path, help="instead of docs/results")
    arguments = parser.parse_args(argv)
    data = Path(os.environ.get("KMM_SHARED_DATA", "../shared/data"))
    if not data.is_dir():
        print(f"no real photos: {data} does not exist (set KMM_SHARED_DATA)", file=sys.stderr)
        return 2
    if arguments.output is not None:
        results.FOLDER = arguments.output
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        values = {
            "shop": of_the_shop(work / "shop", arguments.items),
            "photos": of_photos(work / "photos", data),
        }
    results.write(
        "corpus",
        title="Building a corpus",
        command="python -m tools.corpus",
        values=values,
        body=_body(values),
    )
    return 0


def of_the_shop(folder: Path, items: int) -> dict[str, Any]:
    """The funnel on the dirty shop, and each rule against the truth."""
    raw = dirty_shop.write(folder / "raw", items=items, seed=11, scored=True)
    config = dataclasses.replace(raw, watermark=Watermark(), ocr=Ocr())
    manifest = build(config, folder / "out")
    truth = dirty_shop.truth(folder / "raw")
    found = {
        row["key"]: row["reason"]
        for path in (folder / "out/work/facts").iterdir()
        for row in sources.rows(str(path), ["key", "reason"])
    }
    rules = {}
    for rule in _IMAGE_RULES:
        said = {key for key, reason in found.items() if reason == rule}
        true = {key for key, reason in truth["images"].items() if reason == rule}
        rules[rule] = _against(len(said & true), len(said), len(true))
    judged = [
        row
        for path in (folder / "out/work/judged").iterdir()
        for number in (judge.KEPT, judge.REJECTED)
        for row in tables.group(path, number)
    ]
    true_of = {row["key"]: truth["images"][row["key"]] for row in judged}
    for score in config.scores:
        # By itself: in the funnel a picture is rejected by the first score that it fails.
        said = {row["key"] for row in judged if score.judge(row)[1] == score.name}
        true = {key for key, reason in true_of.items() if reason == score.name}
        rules[score.name] = _against(len(said & true), len(said), len(true))
    stages = {stage["name"]: stage["counts"] for stage in manifest["stages"]}
    expected = collections.Counter(truth["images"].values())
    for rule, stage in (("duplicate", "merge"), ("no_text", "merge"), ("near_duplicate", "choose")):
        # Of two copies either may stay, so that numbers are compared, and not which.
        said, true = stages[stage].get(rule, 0), expected[rule]
        rules[rule] = _against(min(said, true), said, true)
    texts = collections.Counter(stages["documents"])
    for rule, true in sorted(truth["texts"]["documents"].items()):
        rules[f"title: {rule}"] = _against(min(texts[rule], true), texts[rule], true)
    return {"items": items, "stages": manifest["stages"], "rules": rules}


def _against(hits: int, said: int, true: int) -> dict[str, Any]:
    return {
        "found": said,
        "true": true,
        "precision": hits / said if said else None,
        "recall": hits / true if true else None,
    }


def of_photos(folder: Path, data: Path) -> list[dict[str, Any]]:
    """The funnel of a build on real photos."""
    config = CorpusConfig(
        name="photos",
        images=tuple(Images(url=str(data / f"{name}.tar"), key=None) for name in _PHOTOS),
        products=tuple(
            Products(url=str(data / f"{name}.tsv"), key="file", **columns)
            for name, columns in _PHOTOS.items()
        ),
        text_rules=TextRules(count_latin=False),
        watermark=Watermark(),
        ocr=Ocr(),
    )
    stages: list[dict[str, Any]] = build(config, folder)["stages"]
    return stages


def _body(values: dict[str, Any]) -> str:
    shop, photos = values["shop"], values["photos"]

    def share(value: float | None) -> str:
        return "" if value is None else f"{value:.1%}"

    rules = [
        (name, row["found"], row["true"], share(row["precision"]), share(row["recall"]))
        for name, row in shop["rules"].items()
    ]
    funnel = [
        (
            stage["name"],
            f"{stage['rows']:,}",
            f"{stage['counts'].get('kept', 0):,}",
            ", ".join(
                f"{reason} {count:,}"
                for reason, count in sorted(stage["counts"].items(), key=lambda item: -item[1])
                if reason != "kept"
            ),
        )
        for stage in photos
        if stage["rows"]
    ]
    return "\n\n".join(
        (
            f"The built-in shop with injected dirt, {shop['items']:,} pictures: what each rule "
            "found against what was put in. Of copies and titles the numbers are compared; two "
            "near copies made alike of one picture are the same file, and count as duplicates. "
            "Marks are of designs that the detector was not trained on; OCR's pictures are full "
            "of lines, which the watermark's detector takes for marks too. Scores of similarity: "
            "`sweep.md`.",
            results.table(("rule", "found", "put in", "precision", "recall"), rules),
            "Real photos with their captions, class names and product names, by the default rules "
            "(Latin letters do not count as symbols, as most of these texts are English). Many of "
            "the photos are smaller than the 200 pixels asked for.",
            results.table(("stage", "rows", "kept", "rejected"), funnel),
            "More: `corpus_text.md` (texts), `duplicates.md`, `ocr.md`, `watermark.md`, "
            "`corpus_speed.md`, `corpus_cost.md`.",
        )
    )


if __name__ == "__main__":
    raise SystemExit(main())
