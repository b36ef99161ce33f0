"""Stage 4, second half: which scored pictures stay, by the thresholds; a table for each file.

Apart from the scores, so that another threshold costs seconds and not the scores again.
"""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

from kmm_jax.corpus import scores, tables
from kmm_jax.corpus.jobs import Answer, config_of

VERSION = 1

KEPT, REJECTED = 0, 1
"""Row groups of a judged table."""


def run(task: dict[str, Any]) -> Answer:
    """Judge one file's pictures; a picture is rejected for the first score that it fails.

    Args:
        task: ``scored``, the table to judge; where to ``write``; the corpus's ``config``.
    """
    config = config_of(task)
    path, scored = Path(task["write"]), Path(task["scored"])
    mark = tables.digest(
        [
            VERSION,
            tables.about(scored)["fingerprint"],
            [[score.name, score.thresholds(), list(score.columns())] for score in config.scores],
        ]
    )
    told = tables.about(path)
    if told.get("fingerprint") == mark:
        return Answer.loads(told["answer"], done_before=True)
    counts: collections.Counter[str] = collections.Counter()
    groups: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for number in range(len(tables.group_rows(scored))):
        for row in tables.group(scored, number):
            judged = dict(row)
            for score in config.scores:
                if judged["reason"] is None:
                    found, reason = score.judge(judged)
                    # What was taken out of a rejected row is what one wants to see of it.
                    judged = {**(found if reason is None else judged), "reason": reason}
            counts[judged["reason"] or "kept"] += 1
            groups[KEPT if judged["reason"] is None else REJECTED].append(judged)
    answer = Answer(rows=counts.total(), counts=dict(counts))
    about = {"fingerprint": mark, "answer": answer.dumps()}
    tables.write(path, scores.schema(config), groups, lambda: about)
    return answer
