"""METEOR and SPICE, which their authors wrote in Java; pycocoevalcap carries the programs."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from kmm_jax.errors import UserError
from kmm_jax.evaluation.caption_statistics import Statistics, Tokens, mean_of
from kmm_jax.files import read_json

JavaMetric = Literal["meteor", "spice"]
JAVA_METRICS: tuple[JavaMetric, ...] = get_args(JavaMetric)

_METEOR_JAR = Path("meteor", "meteor-1.5.jar")
_SPICE_JAR = Path("spice", "spice-1.0.jar")
# Of Meteor 1.5 for English, as its jar has them for `-l en -norm`: alpha, beta, gamma, delta; the
# weights of exact, stem, synonym and paraphrase matches.
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_WEIGHTS = (1.0, 0.6, 0.8, 0.6)
_METEOR_NUMBERS = 23
_SPICE_MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


def missing(metric: JavaMetric) -> str | None:
    """What a metric needs that is not here, for people; None where it can be measured."""
    if shutil.which("java") is None:
        return "needs Java"
    folder = _package()
    if folder is None:
        return "needs pycocoevalcap: pip install 'kmm-jax[captions]'"
    if metric == "spice":
        lack = [name for name in _SPICE_MODELS if not (folder / "spice" / "lib" / name).is_file()]
        if lack:
            # Its wrapper would fetch half a gigabyte unasked.
            return f"needs {' and '.join(lack)} of Stanford in {folder / 'spice' / 'lib'}"
    return None


def java_statistics(
    metric: JavaMetric, captions: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> Statistics:
    """METEOR 1.5 or SPICE, in [0, 1], of English captions as :func:`english_tokens` cuts them.

    METEOR (Denkowski & Lavie, WMT 2014) of a corpus is computed from sums of what its captions
    match; SPICE (Anderson et al., ECCV 2016, arXiv 1607.08822) is the mean of its captions' F.

    Args:
        references: at least one for each caption.

    Raises:
        UserError: what it needs is :func:`missing`, or Java failed.
    """
    if reason := missing(metric):
        raise UserError(f"{metric} cannot be measured: it {reason}")
    texts = [" ".join(tokens) for tokens in captions]
    others = [[" ".join(tokens) for tokens in each] for each in references]
    return _meteor(texts, others) if metric == "meteor" else _spice(texts, others)


def _meteor(captions: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
    folder = _package()
    assert folder is not None
    lines = [
        " ||| ".join(["SCORE", *(_one_part(text) for text in texts), _one_part(caption)])
        for caption, texts in zip(captions, references, strict=True)
    ]
    jar = folder / _METEOR_JAR
    printed = _run(
        ["java", "-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"],
        "\n".join(lines) + "\n",
    )
    rows = [[float(number) for number in line.split()] for line in printed.splitlines()]
    if len(rows) != len(lines) or any(len(row) != _METEOR_NUMBERS for row in rows):
        raise UserError(
            f"{jar} answered {len(lines)} captions with {len(rows)} lines, not with "
            f"{_METEOR_NUMBERS} numbers for each: {printed[:200]!r}"
        )
    values_NS = np.asarray(rows, np.float64).reshape(-1, _METEOR_NUMBERS)
    # A caption that equals its reference has no fragments, alone or in a corpus (MeteorStats.java).
    same_N = (values_NS[:, 21:23] == values_NS[:, 0:2]).all(axis=1) & (values_NS[:, 20] == 1)
    values_NS[same_N, 20] = 0.0
    return Statistics(values_NS=values_NS, score_of=_meteor_score)


def _meteor_score(sums_RS: np.ndarray) -> np.ndarray:
    """Meteor's score of its own statistics (Denkowski & Lavie 2014, section 2).

    Lengths of caption and reference; function words in both; for each kind of match content words
    of both, function words of both; chunks; matched words of both.
    """
    length_R2, function_R2 = sums_RS[:, 0:2], sums_RS[:, 2:4]
    content_RK2, other_RK2 = sums_RS[:, 4:20].reshape(-1, 4, 2, 2).transpose(2, 0, 1, 3)
    chunks_R, matched_R2 = sums_RS[:, 20], sums_RS[:, 21:23]
    weighed_R2 = np.einsum(
        "k,rkx->rx", np.asarray(_WEIGHTS), _DELTA * content_RK2 + (1 - _DELTA) * other_RK2
    )
    whole_R2 = _DELTA * (length_R2 - function_R2) + (1 - _DELTA) * function_R2
    with np.errstate(divide="ignore", invalid="ignore"):
        precision_R, recall_R = (weighed_R2 / whole_R2).T
        mean_R = 1 / ((1 - _ALPHA) / precision_R + _ALPHA / recall_R)
        fragments_R = chunks_R / (matched_R2.sum(axis=1) / 2)
        score_R = mean_R * (1 - _GAMMA * fragments_R**_BETA)
    return np.maximum(np.nan_to_num(score_R, nan=0.0), 0.0)


def _spice(captions: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
    folder = _package()
    assert folder is not None
    rows = [
        {"image_id": number, "test": caption, "refs": list(texts)}
        for number, (caption, texts) in enumerate(zip(captions, references, strict=True))
    ]
    # Not through pycocoevalcap's wrapper, which writes into its own folder and prints.
    with tempfile.TemporaryDirectory(prefix="kmm_jax-") as place:
        given, found = Path(place, "captions.json"), Path(place, "scores.json")
        given.write_text(json.dumps(rows), "utf-8")
        jar = folder / _SPICE_JAR
        _run(["java", "-Xmx8G", "-jar", str(jar), str(given), "-out", str(found), "-silent"])
        if not found.is_file():
            raise UserError(f"{jar} ended without an error and without scores")
        scores = {row["image_id"]: row["scores"]["All"]["f"] for row in read_json(found) or ()}
    if scores.keys() != set(range(len(captions))):
        raise UserError(f"{jar} scored {len(scores)} of {len(captions)} captions")
    return mean_of([float(scores[number]) for number in range(len(captions))])


def _run(command: Sequence[str], given: str = "") -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        # Java's own line is the first of a trace, and what ends it says "... 3 more".
        said = next((line for line in lines if "Exception" in line or "Error" in line), lines[-1])
        raise UserError(f"{' '.join(command[:4])} failed with code {done.returncode}: {said}")
    return done.stdout


def _one_part(text: str) -> str:
    """A text without Meteor's separator; it reads a line at a time."""
    return " ".join(text.replace("|||", " ").split())


def _package() -> Path | None:
    found = importlib.util.find_spec("pycocoevalcap")
    places = list(found.submodule_search_locations or ()) if found is not None else []
    return Path(places[0]) if places else None
