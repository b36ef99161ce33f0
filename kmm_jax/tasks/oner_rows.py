"""The rows of the table of slides 3.3 that have one tower, and what takes the naive one apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from kmm_jax.tasks.oner import OneRTask
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.teacher import Teacher

TITLES: Mapping[str, str] = {
    "clip": "CLIP",
    "slip": "SLIP",
    "itc": "ITC",
    "two_heads": "ITC (two heads)",
    "xmc": "ITC + XMC",
    "cic": "ITC + XMC + CIC",
    "cmc": "ITC + CMC (OneR)",
}
"""The table's rows, in its order and its words."""

ABLATIONS: Mapping[str, str] = {
    "itc_no_predictor": "ITC, no predictor",
    "itc_joint": "ITC, batch norm over images and texts together",
    "itc_modality": "ITC, running statistics by modality",
    "itc_linear": "ITC, no predictor, one linear layer for a head",
    "itc_no_momentum": "ITC, the teacher the student itself (momentum 0)",
    "itc_deep": "ITC, twice the layers",
    "two_heads_no_predictor": "ITC (two heads), no predictor",
    "cmc_no_predictor": "ITC + CMC, no predictor",
    "cmc_modality": "ITC + CMC, running statistics by modality",
}
"""What of ITC's failure is due to what, and whether its remedies are still one without it."""


def one_tower_rows(oner: Experiment) -> dict[str, Experiment]:
    """The five rows with one tower, from the experiment of the last of them."""
    return {
        "itc": _weighted(oner),
        "two_heads": _with_head(_weighted(oner), apart=True),
        "xmc": _weighted(oner, xmc=1.0),
        "cic": _weighted(oner, xmc=1.0, cic=1.0),
        "cmc": _weighted(oner, cmc=1.0),
    }


def ablations(oner: Experiment) -> dict[str, Experiment]:
    """The experiments of ``ABLATIONS``."""
    rows = one_tower_rows(oner)
    itc = rows["itc"]
    return {
        "itc_no_predictor": _with_head(itc, predictor=False),
        "itc_joint": _with_head(itc, statistics="joint"),
        "itc_modality": _with_head(itc, statistics="modality"),
        "itc_linear": _with_head(itc, kind="linear", predictor=False),
        "itc_no_momentum": dataclasses.replace(itc, teacher=Teacher(momentum=0.0, final=0.0)),
        "itc_deep": _with_model(
            itc,
            lambda model: dataclasses.replace(
                model, tower=dataclasses.replace(model.tower, depth=2 * model.tower.depth)
            ),
        ),
        "two_heads_no_predictor": _with_head(rows["two_heads"], predictor=False),
        "cmc_no_predictor": _with_head(rows["cmc"], predictor=False),
        "cmc_modality": _with_head(rows["cmc"], statistics="modality"),
    }


def _weighted(oner: Experiment, *, xmc: float = 0, cic: float = 0, cmc: float = 0) -> Experiment:
    task = dataclasses.replace(oner.task, itc=1.0, xmc=xmc, cic=cic, cmc=cmc)
    return dataclasses.replace(oner, task=task)


def _with_head(oner: Experiment, **changes: Any) -> Experiment:
    return _with_model(
        oner,
        lambda model: dataclasses.replace(model, head=dataclasses.replace(model.head, **changes)),
    )


def _with_model(oner: Experiment, change: Callable[[Any], Any]) -> Experiment:
    task: OneRTask = oner.task
    return dataclasses.replace(oner, task=dataclasses.replace(task, model=change(task.model)))
