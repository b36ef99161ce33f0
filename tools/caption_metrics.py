"""BLEU, ROUGE-L and CIDEr-D beside pycocoevalcap's on the same texts, as ``caption_metrics.*``.

    KMM_DATA_DIR=FOLDER python -m tools.caption_metrics

FOLDER holds ``photos/flickr8k_subset.tsv`` (a person's first caption of each photo is scored by the
other four) and ``text/sts/korsts_dev_with_english.tsv`` (a Korean sentence by its counterpart).
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kmm_jax.errors import UserError
from tools import results

NAME = "caption_metrics"
Tokens = list[str]


def reference_scores(
    captions: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> dict[str, tuple[float, Any]]:
    """Scores of the corpus and of each caption by pycocoevalcap, by the names of our metrics.

    Raises:
        ImportError: pycocoevalcap is not installed.
    """

    def scorer(module: str, name: str) -> Any:
        return getattr(importlib.import_module(f"pycocoevalcap.{module}.{module}"), name)

    truth = {i: [" ".join(text) for text in texts] for i, texts in enumerate(references)}
    given = {i: [" ".join(text)] for i, text in enumerate(captions)}
    corpus, each = scorer("bleu", "Bleu")(4).compute_score(truth, given, verbose=0)
    found = {f"bleu{n + 1}": (corpus[n], each[n]) for n in range(4)}
    found["rouge_l"] = scorer("rouge", "Rouge")().compute_score(truth, given)
    found["cider_d"] = scorer("cider", "Cider")().compute_score(truth, given)
    return found


def our_scores(
    captions: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> dict[str, tuple[float, np.ndarray]]:
    """The same by this library."""
    from kmm_jax.evaluation.bleu import bleu_statistics
    from kmm_jax.evaluation.cider import cider_d_statistics
    from kmm_jax.evaluation.rouge import rouge_l_statistics

    names = (f"bleu{n + 1}" for n in range(4))
    found = dict(zip(names, bleu_statistics(captions, references), strict=True))
    found["rouge_l"] = rouge_l_statistics(captions, references)
    found["cider_d"] = cider_d_statistics(captions, references)
    return {name: (each.corpus(), each.captions()) for name, each in found.items()}


def compared(
    captions: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> dict[str, dict[str, float]]:
    """Both scores of the corpus, and the largest difference there and of any caption."""
    theirs = reference_scores(captions, references)
    return {
        name: {
            "ours": float(corpus),
            "pycocoevalcap": float(theirs[name][0]),
            "corpus_difference": abs(float(corpus) - float(theirs[name][0])),
            "caption_difference": float(np.abs(each - np.asarray(theirs[name][1])).max()),
        }
        for name, (corpus, each) in our_scores(captions, references).items()
    }


def _table(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise UserError(f"{path} is not there; name the folder with --data or KMM_DATA_DIR")
    header, *lines = path.read_text("utf-8").splitlines()
    return [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.caption_metrics", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--data", type=Path, help="default: KMM_DATA_DIR")
    arguments = parser.parse_args(argv)
    try:
        _run(arguments.data or Path(os.environ.get("KMM_DATA_DIR", "")))
    except UserError as error:
        print(f"caption_metrics: {error}", file=sys.stderr)
        return 2
    return 0


def _run(folder: Path) -> None:
    from kmm_jax.evaluation.caption_tokens import cutter

    english, korean = cutter("english").cut, cutter("morphemes").cut
    photos = _table(folder / "photos" / "flickr8k_subset.tsv")
    pairs = _table(folder / "text" / "sts" / "korsts_dev_with_english.tsv")
    sets = {
        "Flickr8k, English": compared(
            english([row["caption_en_0"] for row in photos]),
            [english([row[f"caption_en_{n}"] for n in range(1, 5)]) for row in photos],
        ),
        "KorSTS, Korean morphemes": compared(
            korean([row["ko1"] for row in pairs]),
            [[tokens] for tokens in korean([row["ko2"] for row in pairs])],
        ),
    }
    rows = [
        [
            texts,
            name,
            f"{found['ours']:.9f}",
            f"{found['pycocoevalcap']:.9f}",
            f"{found['corpus_difference']:.1e}",
            f"{found['caption_difference']:.1e}",
        ]
        for texts, metrics in sets.items()
        for name, found in metrics.items()
    ]
    columns = ["texts", "metric", "ours", "pycocoevalcap", "difference", "of any caption"]
    worst = max(
        found[which]
        for metrics in sets.values()
        for found in metrics.values()
        for which in ("corpus_difference", "caption_difference")
    )
    results.write(
        NAME,
        title="Caption metrics",
        command="python -m tools.caption_metrics",
        values={"sets": sets, "worst": worst, "texts": [len(photos), len(pairs)]},
        body=f"The same texts, cut alike, by both: {len(photos)} photos with five captions and "
        f"{len(pairs):,} pairs of sentences. The largest difference is {worst:.1e}; the aim was "
        f"1e-6.\n\n{results.table(columns, rows)}",
    )


if __name__ == "__main__":
    raise SystemExit(main())
