"""What a table is made of: its rows' experiments, and what each is measured by."""

from __future__ import annotations

import dataclasses

from kmm_jax.errors import ConfigError
from kmm_jax.evaluation.zero_shot import Candidates
from kmm_jax.text.templates import Language
from kmm_jax.training.experiment import Experiment


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZeroShot:
    """Classification of a source's images by the sentences of a class set."""

    source: str
    classes: str
    label: str
    lang: Language = "ko"
    candidates: Candidates = "present"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retrieval:
    """A source's images against its texts of one field, both ways, and the modality gap."""

    source: str
    field: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe:
    """A linear probe and k-NN, learned from ``train`` and tested on ``test``."""

    train: str
    test: str
    label: str
    train_limit: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measures:
    """What every row of a table is measured by.

    Attributes:
        zero_shot: the main one first.
        boxes: a source whose records have boxes, for the pointing game; None without.
        limit: rows of a test source, at most.
    """

    zero_shot: tuple[ZeroShot, ...]
    retrieval: Retrieval
    probe: Probe | None = None
    boxes: str | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if not self.zero_shot:
            raise ConfigError("a table's measures need at least one zero-shot set")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """The rows of a table and their measures; what a config's ``table()`` returns.

    Attributes:
        title: for people.
        rows: experiment by row, in the table's order.
        ablations: more of them, run where they are asked for.
        published: what others report of a row, by the headings of the table's columns.
        folder: the folder of data that all its paths begin with.
        data: the quickstart's data set that the command makes by itself where it is missing; None
            where the folder must be there.
    """

    title: str
    rows: dict[str, Experiment]
    ablations: dict[str, Experiment]
    measures: Measures
    published: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    folder: str
    data: str | None = None
