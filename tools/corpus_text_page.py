"""The page of ``tools.corpus_text``: tables, and the targets beside what was measured."""

from __future__ import annotations

from typing import Any

from kmm_jax.corpus.text import REASONS
from tools import results

TITLES = "news titles"
ORDINARY = (TITLES, "reviews", "captions", "news", "NLI sentences", "product names (English)")
SMALL, LARGE = "decode, short side 256", "decode, 512 x 317"
MOST_PERSONAL, LEAST_PRECISION, MOST_OF_DECODE, LEAST_PER_SECOND = 0.001, 0.95, 0.02, 100_000
LEAST_RECALL_GENERATED, LEAST_PRECISION_GENERATED = 0.99, 0.98


def _met(is_met: bool) -> str:
    return "met" if is_met else "MISSED"


def page(values: dict[str, Any]) -> str:
    """The tables, and the targets beside what was measured."""
    rates, read, seconds = values["hit_rates"], values["judged"], values["seconds"]
    made = values["generated"]
    parts = [
        "## Hits on ordinary text",
        "",
        "Percent of the texts; everything rejects, as slide 2.2 says.",
    ]
    columns = ["rule", *(f"{name} ({rate['texts']:,})" for name, rate in rates.items())]
    rows = [
        [rule, *(f"{100 * rate['hits'][rule] / rate['texts']:.3f}" for rate in rates.values())]
        for rule in ("rejected", "any personal data", *REASONS)
    ]
    parts += ["", results.table(columns, rows), ""]
    texts = sum(rates[name]["texts"] for name in ORDINARY)
    personal = sum(rates[name]["hits"]["any personal data"] for name in ORDINARY) / texts
    parts.append(
        f"Personal data in {texts:,} ordinary texts (all but the program docs): {personal:.4%}, "
        f"target <= {MOST_PERSONAL:.1%}: {_met(personal <= MOST_PERSONAL)}. The docs are full of "
        "links, and these are found. `symbols` counts Latin letters, as the slide does, so "
        "that English names and "
        "program text fall; `count_latin=False` is for those. `language` finds single Hanja "
        "(故, 美), "
        "which Korean headlines use; `hanja=True` lets them through."
    )
    parts += ["", "## Hits read by hand", ""]
    parts.append(
        "Right: a word list's word, used as that word (not inside another, no homonym; reports "
        "about the matter count); a real value of the kind; a letter of another language; "
        "half of the text "
        "really symbols. One reader, the author of the lists; drawn anew after lists were "
        "mended by a first reading."
    )
    rows = [
        [
            rule,
            row["different hits"],
            row["read"],
            row["right"],
            "-" if row["precision"] is None else row["precision"],
            "-" if row["precision"] is None else _met(row["precision"] >= LEAST_PRECISION),
        ]
        for rule, row in read.items()
    ]
    parts += [
        "",
        results.table(
            ["rule", "different hits", "read", "right", "precision", f">= {LEAST_PRECISION}"], rows
        ),
    ]
    parts += ["", "## Profanity against labels", ""]
    parts.append(
        "The rule finds vulgar words and slurs; the labels are about what is said: contempt "
        "without "
        "any such word is positive there, friendly swearing is not. A hit is a row with the reason "
        "`profanity`. Halves by hash: the lists were read beside hits of the seen half; 40 "
        "positive "
        "rows of the curse set, of either half, had been looked at before."
    )
    label_columns = ["set", "half", "texts", "positive", "hits", "precision", "recall"]
    parts += [
        "",
        results.table(
            label_columns, [[row[name] for name in label_columns] for row in values["labelled"]]
        ),
    ]
    whole = made["rows"]["all"]
    parts += ["", "## Generated personal data", ""]
    parts.append(
        f"{whole['cases']:,} cases, {made['near misses']:,} of them near misses, seed "
        f"{made['seed']}; patterns were developed on another seed. Recall asks for the exact "
        f"span; precision counts "
        "every false span. The generator and the rules have one author: they share a view of how "
        "these numbers are written. "
        f"Recall >= {LEAST_RECALL_GENERATED}: {_met(whole['recall'] >= LEAST_RECALL_GENERATED)}; "
        f"precision >= {LEAST_PRECISION_GENERATED}: "
        f"{_met(whole['precision'] >= LEAST_PRECISION_GENERATED)}."
    )
    rows = [
        [rule, row["cases"], f"{row['recall']:.4f}", f"{row['precision']:.4f}"]
        for rule, row in made["rows"].items()
    ]
    parts += ["", results.table(["reason", "cases", "recall", "precision"], rows)]
    parts += [
        "",
        "## Speed",
        "",
        "One core, processor time, median of 5 turns in one run; JPEG by Pillow, as the "
        "photos are stored and in the size of the record on slide 2.3.",
    ]
    small, large = seconds[SMALL], seconds[LARGE]
    rows = [
        [
            name,
            f"{1e6 * value:.1f}",
            f"{1 / value:,.0f}",
            f"{value / small:.2%}",
            f"{value / large:.2%}",
        ]
        for name, value in seconds.items()
    ]
    parts += [
        "",
        results.table(["what", "us each", "a second", f"of {SMALL}", f"of {LARGE}"], rows),
        "",
    ]
    slowest = max(seconds[name] for name in (TITLES, "reviews", "captions"))
    parts.append(
        f">= {LEAST_PER_SECOND:,} titles a second: "
        f"{_met(1 / seconds[TITLES] >= LEAST_PER_SECOND)}; "
        f"slowest batch <= {MOST_OF_DECODE:.0%} of a decode at 512 x 317: "
        f"{_met(slowest <= MOST_OF_DECODE * large)}, at short side 256: "
        f"{_met(slowest <= MOST_OF_DECODE * small)}."
    )
    return "\n".join(parts)
