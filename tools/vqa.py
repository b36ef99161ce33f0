"""Questions about pictures (slide 5.4), at hand's size: right answers by kind, beside chance.

    python -m tools.vqa                        # about 10 minutes on one core
    python -m tools.vqa --base-steps 60 --steps 30 --train 600 --test 60       # a try

The base of ``tools.caption_tuning`` (made if it is not there) learns to answer the built-in shop's
questions (``configs/coca/shop_vqa.py``) and is asked about held-out pictures, in the wordings of
training and in held-out ones. ``docs/results/vqa.*`` is written at the end; what is done is not
done again.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kmm_jax.errors import UserError
from kmm_jax.files import read_json, write_json
from tools import results, shop_runs

_WORDINGS = {"training": "wordings of training", "held_out": "held-out wordings"}


def measure(run: Path, test: str) -> dict[str, Any]:
    """Right answers, kept beside the run."""
    from kmm_jax.evaluation.encoders import from_model
    from kmm_jax.evaluation.questions import ask_questions, score_answers
    from kmm_jax.inference.loading import load_model

    kept = run / "measured.json"
    if found := read_json(kept):
        return found
    model = load_model(run)
    answered = ask_questions(
        test,
        from_model(model, batch_size=128),
        image_size=model.image_size,
        batch_size=128,
        progress=lambda done, total: print(f"{done} of {total} rows asked", file=sys.stderr),
    )
    counts: dict[str, int] = {}
    for one in answered:
        name = f"{one.question.wording}/{one.question.kind}"
        counts[name] = counts.get(name, 0) + 1
    values = {
        "scores": dict(score_answers(answered, name="the shop's held-out rows").metrics()),
        "counts": counts,
        "examples": [
            {"question": one.question.question, "true": one.question.answer, "given": one.given}
            for one in answered[:14]
        ],
    }
    write_json(kept, values)
    return values


def body(values: Mapping[str, Any]) -> str:
    """A table a set of wordings, and some answers."""
    scores, counts = values["scores"], values["counts"]
    parts = []
    for wording, title in _WORDINGS.items():
        kinds = [name.partition("/")[2] for name in counts if name.startswith(f"{wording}/")]
        rows = []
        for kind in ("all", *kinds):
            number = counts.get(f"{wording}/{kind}") or sum(
                count for name, count in counts.items() if name.startswith(f"{wording}/")
            )
            rows.append(
                (
                    kind,
                    number,
                    shop_runs.percent(scores[f"{wording}/{kind}"]),
                    shop_runs.percent(scores[f"{wording}/chance_{kind}"]),
                    shop_runs.percent(scores[f"{wording}/{kind}/other_image"]),
                )
            )
        columns = ("kind", "questions", "right %", "chance %", "another image %")
        parts += [f"## Held-out pictures, {title}", "", results.table(columns, rows), ""]
    parts += [
        "Some answers:",
        "",
        results.table(
            ("question", "answer", "given"),
            [(one["question"], one["true"], one["given"]) for one in values["examples"]],
        ),
    ]
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.vqa",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--steps", type=int, default=1200)
    shop_runs.add_arguments(parser)
    arguments = parser.parse_args()
    from kmm_jax.training.config_file import load_experiment

    work = arguments.work
    try:
        made = shop_runs.data(work, train=arguments.train, test=arguments.test)
        base = shop_runs.base(made, work, steps=arguments.base_steps, seed=arguments.seed)
        experiment = load_experiment(
            "coca/shop_vqa", shop_runs.settings(made, steps=arguments.steps, seed=arguments.seed)
        )
        experiment = dataclasses.replace(experiment, name="vqa")
        values = measure(shop_runs.trained(experiment, work, initial=base), made.test)
    except UserError as error:
        print(f"vqa: {error}", file=sys.stderr)
        return 2
    setting = (
        f"A CoCa of width {shop_runs.WIDTH} at 32 px, {arguments.base_steps} steps of "
        f"{shop_runs.BATCH} pairs of the shop's texts, then {arguments.steps} steps of "
        f"`configs/coca/shop_vqa.py` on questions about {arguments.train} pictures. Asked about "
        f"{arguments.test} held-out pictures, of combinations of type, colour and pattern "
        "never seen in training; greedy search over all that the decoder can say; an answer is "
        "right if it is the true word. "
        "Chance: the commonest answer of each kind. Another image: the same questions asked of "
        "another record's picture. One seed. Kinds that end in `_of`, `has`, `which`, `left_right` "
        "and `top_bottom` are asked of pictures of two or three things, a fifth of all."
    )
    results.write(
        "vqa",
        title="Questions about pictures",
        command=f"python -m tools.vqa --base-steps {arguments.base_steps} --steps "
        f"{arguments.steps} --train {arguments.train} --test {arguments.test} "
        f"--seed {arguments.seed}",
        values=values,
        body=f"{setting}\n\n{body(values)}",
    )
    print(body(values))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
