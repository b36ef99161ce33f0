"""What a benchmark is, and what a measurement of it gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal, Protocol

from kmm_jax.evaluation.suite.forms import CLASS, Form, Places
from kmm_jax.evaluation.suite.sentences import FoundPairs
from kmm_jax.evaluation.zero_shot import Candidates
from kmm_jax.text.styles import Style
from kmm_jax.text.templates import Language

Task = Literal["zero_shot", "retrieval", "captions", "linear_probe", "knn", "similarity"]

TASKS: Mapping[Task, str] = {
    "zero_shot": "Zero-shot classification",
    "retrieval": "Image-text retrieval",
    "captions": "Captions",
    "linear_probe": "Linear probe",
    "knn": "k nearest neighbours",
    "similarity": "Text similarity",
}

LANGUAGES: tuple[Language, ...] = ("ko", "en")


class PairForm(Protocol):
    """One form of a benchmark of sentence pairs."""

    @property
    def layout(self) -> str:
        """What is looked for, for people."""
        ...

    def find(self, places: Places) -> FoundPairs | None:
        """The pairs, if they are there."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZeroShot:
    """Classify images by sentences about the classes, in Korean and in English.

    Attributes:
        classes: a class set (``kmm classnames``).
        label: which of an item's labels is the class; with ``|`` in it, each part is right.
        candidates: choose among all classes, or only those that some image has.
    """

    classes: str
    label: str = CLASS
    candidates: Candidates = "all"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Learned:
    """Learn a label from the benchmark's training part: a linear probe and k nearest neighbours."""

    label: str = CLASS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Search images with texts and texts with images, in each language that there are texts in.

    Attributes:
        texts: of a language, which of an item's texts; by default those named by the language.
        style: of the texts, for a model with style tokens.
    """

    texts: Mapping[Language, str] = dataclasses.field(
        default_factory=lambda: {"ko": "ko", "en": "en"}
    )
    style: Style = "prompt"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Captions:
    """Caption images, held against an item's texts; for models with a decoder.

    Attributes:
        texts: of a language, which of an item's texts.
        style: to caption in.
    """

    texts: Mapping[Language, str] = dataclasses.field(default_factory=lambda: {"ko": "ko"})
    style: Style = "prompt"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A known set with its protocol.

    Attributes:
        name: as the command line has it.
        title: for people.
        forms: of the images that are tested on.
        train: forms of its training part.
        pairs: forms of its sentence pairs, if it is one of text similarity.
        zero_shot, learned, retrieval, captions: what is measured.
        get: where people get it.
        licence: on what terms.
        note: what a reader must know to compare figures.
    """

    name: str
    title: str
    get: str
    licence: str
    forms: tuple[Form, ...] = ()
    train: tuple[Form, ...] = ()
    pairs: tuple[PairForm, ...] = ()
    zero_shot: tuple[ZeroShot, ...] = ()
    learned: tuple[Learned, ...] = ()
    retrieval: Retrieval | None = None
    captions: Captions | None = None
    note: str = ""

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What can be measured on it."""
        found: list[Task] = []
        if self.zero_shot:
            found.append("zero_shot")
        if self.retrieval:
            found.append("retrieval")
        if self.captions:
            found.append("captions")
        if self.learned and self.train:
            found += ["linear_probe", "knn"]
        if self.pairs:
            found.append("similarity")
        return tuple(found)

    @property
    def layouts(self) -> tuple[str, ...]:
        """What is looked for, for people."""
        return (*(form.layout for form in self.forms), *(form.layout for form in self.pairs))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of one model.

    Attributes:
        what: is classified or searched: a label, ``text_to_image``; empty where there is one thing.
        metric: ``top1``, ``r5``, ``cider_d``, ``spearman``.
        language: of the texts; empty where none is used.
        value, low, high: with its 95 % bootstrap interval.
        chance: what the same protocol gives without looking; None where nothing such exists.
        items: that were resampled: images, queries or pairs.
        share: whether it lies in [0, 1] and is shown in percent.
    """

    benchmark: str
    task: Task
    what: str
    metric: str
    language: str
    value: float
    low: float
    high: float
    chance: float | None
    items: int
    share: bool = True

    @property
    def row(self) -> tuple[str, str, str, str, str]:
        """What it has in common with the same figure of another model."""
        return self.benchmark, self.task, self.language, self.what, self.metric


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """What one model gives on one benchmark.

    Attributes:
        figures: one of each kind.
        protocols: how each came about, by task; sentences that stand alone.
        where: the benchmark was found.
        images, bad_rows: read, and left out as unreadable.
        seconds: of reading, embedding and scoring.
        skipped: tasks and metrics not measured, with the reason.
    """

    figures: tuple[Figure, ...]
    protocols: Mapping[str, str]
    where: str
    images: int
    bad_rows: int
    seconds: float
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)
