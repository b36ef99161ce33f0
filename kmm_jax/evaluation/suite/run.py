"""Several models over a suite; what is measured is kept, and the same call goes on from it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmm_jax.errors import DataError, UserError, nearest
from kmm_jax.evaluation.java_metrics import JAVA_METRICS, missing
from kmm_jax.evaluation.suite.benchmark import (
    LANGUAGES,
    Benchmark,
    Figure,
    Measured,
    PairForm,
    Task,
)
from kmm_jax.evaluation.suite.forms import Form, Places
from kmm_jax.evaluation.suite.measure import Measurer, Progress
from kmm_jax.files import read_json, write_json
from kmm_jax.text.templates import Language

if TYPE_CHECKING:
    from kmm_jax.inference.model import Model

_FORM = 1  # of the kept files; another one is measured anew


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to measure.

    Attributes:
        benchmarks: of a suite.
        languages: of class names, captions and sentences.
        tasks: None for all.
        limit: images of a part at most; see :class:`Measurer`.
    """

    benchmarks: tuple[Benchmark, ...]
    languages: tuple[Language, ...] = LANGUAGES
    tasks: tuple[Task, ...] | None = None
    limit: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelResults:
    """One model's part of a table.

    Attributes:
        title: at the head of its column.
        about: path, hash, step, family, parameters, image size.
        measured: by benchmark; one that is not there is absent.
        failed: benchmarks that are there and could not be read, with the reason.
    """

    title: str
    about: Mapping[str, Any]
    measured: Mapping[str, Measured]
    failed: Mapping[str, str] = dataclasses.field(default_factory=dict)


def chosen(suite: Sequence[Benchmark], names: Sequence[str] | None) -> tuple[Benchmark, ...]:
    """The named benchmarks of a suite, in its order; all by default.

    Raises:
        UserError: it has no such benchmark.
    """
    if names is None:
        return tuple(suite)
    known = {benchmark.name: benchmark for benchmark in suite}
    for name in names:
        if name not in known:
            raise UserError(f"the suite has no benchmark {name!r}{nearest(name, known)}")
    return tuple(benchmark for benchmark in suite if benchmark.name in names)


def there(suite: Sequence[Benchmark], places: Places) -> dict[str, str]:
    """Where each benchmark is that is there, by its name."""
    found = {}
    for benchmark in suite:
        forms: Sequence[Form | PairForm] = benchmark.forms or benchmark.pairs
        part = next((one for form in forms if (one := form.find(places)) is not None), None)
        if part is not None:
            found[benchmark.name] = part.where
    return found


def run(
    title: str,
    model: Model,
    wanted: Wanted,
    *,
    places: Places,
    kept: Path | None = None,
    batch_size: int = 64,
    progress: Progress | None = None,
    done: Callable[[Benchmark, Measured], None] | None = None,
) -> ModelResults:
    """Measure a model on each benchmark that is there.

    A benchmark that cannot be read costs its own figures and no others.

    Args:
        kept: a folder for what is measured; a second call takes it from there.
        done: called with each benchmark once it is measured.
    """
    measurer = Measurer(
        model,
        places=places,
        languages=wanted.languages,
        tasks=wanted.tasks,
        limit=wanted.limit,
        batch_size=batch_size,
        progress=progress,
    )
    present = there(wanted.benchmarks, places)
    measured: dict[str, Measured] = {}
    failed: dict[str, str] = {}
    for benchmark in wanted.benchmarks:
        if benchmark.name not in present:
            continue
        file = None
        if kept is not None:
            mark = _mark(wanted, benchmark, present[benchmark.name], places)
            file = kept / model.hash / f"{benchmark.name}-{mark}.json"
        found = None if file is None else _read(file)
        if found is None:
            try:
                found = measurer.measure(benchmark)
            except DataError as error:
                failed[benchmark.name] = str(error)
                continue
            if found is None:
                continue
            if file is not None:
                write_json(file, dataclasses.asdict(found))
        measured[benchmark.name] = found
        if done is not None:
            done(benchmark, found)
    return ModelResults(title=title, about=_about(model), measured=measured, failed=failed)


def _mark(wanted: Wanted, benchmark: Benchmark, where: str, places: Places) -> str:
    """What the kept figures depend on besides model and benchmark."""
    measures = (benchmark.zero_shot, benchmark.learned, benchmark.retrieval, benchmark.captions)
    # What is installed later is measured then, and so is a training part that comes later.
    installed = [find_spec(name) is not None for name in ("sklearn", "kiwipiepy")]
    installed += [missing(metric) is None for metric in JAVA_METRICS]
    values = [_FORM, where, wanted.languages, wanted.tasks, wanted.limit, repr(measures), installed]
    values += [part.where for form in benchmark.train if (part := form.find(places))]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:10]


def _read(file: Path) -> Measured | None:
    values = read_json(file)
    if values is None:
        return None
    figures = tuple(Figure(**figure) for figure in values.pop("figures"))
    return Measured(figures=figures, **values)


def _about(model: Model) -> dict[str, Any]:
    from kmm_jax.models import registry
    from kmm_jax.models.summary import summarise

    return {
        "path": str(model.path),
        "hash": model.hash,
        "step": model.step,
        "family": registry.family(model.config),
        "parameters": int(summarise(model.config)["total"]),
        "image_size": model.image_size,
        "style_tokens": model.styled,
    }
