"""One model over one benchmark: its images are read and embedded once, for all that is measured.

N images, C classes, T texts, Q queries, E dimensions.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kmm_jax.data.sources import Source
from kmm_jax.errors import DataError, UserError
from kmm_jax.evaluation import labelled
from kmm_jax.evaluation.bootstrap import intervals, resampled_intervals, share_intervals
from kmm_jax.evaluation.caption_metrics import caption_metrics
from kmm_jax.evaluation.caption_tokens import Tokenization, cutter
from kmm_jax.evaluation.classes import Classes, named_classes
from kmm_jax.evaluation.dataset import EvaluationSet, read_set
from kmm_jax.evaluation.encoders import Encoder, from_model, style_name
from kmm_jax.evaluation.java_metrics import JAVA_METRICS, missing
from kmm_jax.evaluation.knn import knn
from kmm_jax.evaluation.probe import linear_probe
from kmm_jax.evaluation.recall import recalls
from kmm_jax.evaluation.retrieval import KS, Pairs, pair
from kmm_jax.evaluation.suite.benchmark import (
    LANGUAGES,
    Benchmark,
    Captions,
    Learned,
    Measured,
    Retrieval,
    Task,
    ZeroShot,
)
from kmm_jax.evaluation.suite.figures import Figures
from kmm_jax.evaluation.suite.forms import Form, Found, Places
from kmm_jax.evaluation.suite.items import ItemSource, Spread
from kmm_jax.evaluation.suite.sentences import FoundPairs, Pair
from kmm_jax.evaluation.zero_shot import class_vectors
from kmm_jax.text.styles import Style
from kmm_jax.text.templates import Language

if TYPE_CHECKING:
    from kmm_jax.inference.model import Model

_ASKED: Style = "query"  # of class sentences and of sentence pairs, as people search
_LEAST_CLASSES_FOR_TOP5 = 6
_CUT: Mapping[Language, Tokenization] = {"ko": "morphemes", "en": "english"}
_CAPTION_METRICS = ("bleu4", "rouge_l", "cider_d", "chrf")

Progress = Callable[[str, int, int], None]


class Measurer:
    """A model with what it has computed already, for one benchmark after the other.

    Args:
        languages: of class names, captions and sentences.
        tasks: to measure; all by default.
        limit: take only so many images of a benchmark's test, and of its training part: a first
            look, no figure of the benchmark.
        progress: called with what is read, rows done and rows in all.
    """

    def __init__(
        self,
        model: Model,
        *,
        places: Places,
        languages: Sequence[Language] = LANGUAGES,
        tasks: Sequence[Task] | None = None,
        limit: int | None = None,
        batch_size: int = 64,
        progress: Progress | None = None,
    ) -> None:
        self.model, self.places, self.languages, self.limit = model, places, tuple(languages), limit
        self.batch_size, self.progress = batch_size, progress
        self._tasks = None if tasks is None else set(tasks)
        self._encoder: Encoder = from_model(model, batch_size=batch_size)
        self._class_vectors: dict[tuple[str, Language], tuple[Classes, np.ndarray]] = {}

    def measure(self, benchmark: Benchmark) -> Measured | None:
        """All that is asked for of one benchmark; None where it is not there.

        Raises:
            DataError: it is there, and damaged.
        """
        began = time.perf_counter()
        if benchmark.pairs:
            pairs = next(
                (there for form in benchmark.pairs if (there := form.find(self.places))), None
            )
            if pairs is None:
                return None
            found, where, images, bad_rows = self._sentences(benchmark, pairs), pairs.where, 0, 0
        else:
            part = _find(benchmark.forms, self.places)
            if part is None:
                return None
            found, rows = self.measure_images(benchmark, part.open())
            where, images, bad_rows = part.where, len(rows.rows), rows.bad_rows
        return Measured(
            figures=tuple(found.figures),
            protocols=found.protocols,
            where=where,
            images=images,
            bad_rows=bad_rows,
            seconds=time.perf_counter() - began,
            skipped=found.skipped,
        )

    def measure_images(self, benchmark: Benchmark, source: Source) -> tuple[Figures, EvaluationSet]:
        """All that is asked for of the images of ``source``, which are read once; and their rows.

        Raises:
            DataError: they cannot be read.
        """
        found = Figures(benchmark)
        captions = benchmark.captions if self._wanted("captions") else None
        if captions is not None and self._encoder.caption is None:
            captions, found.skipped["captions"] = None, "the model has no decoder"
        style = () if captions is None else (self._style(captions.style),)
        rows = self._read(source, benchmark.name, caption_styles=style)
        rows = dataclasses.replace(rows, name="the test part")
        if self._wanted("zero_shot"):
            for one in benchmark.zero_shot:
                self._zero_shot(found, rows, one)
        if benchmark.retrieval and self._wanted("retrieval"):
            self._retrieval(found, rows, _texts(source), benchmark.retrieval)
        if captions is not None:
            self._captions(found, rows, _texts(source), captions)
        if benchmark.train and benchmark.learned and self._wanted("linear_probe", "knn"):
            self._learned(found, rows, benchmark)
        return found, rows

    def _sentences(self, benchmark: Benchmark, pairs: FoundPairs) -> Figures:
        found = Figures(benchmark)
        if self._wanted("similarity"):
            for language in self.languages:
                if language in pairs.pairs:
                    self._similarity(found, pairs.pairs[language], language)
        return found

    def _zero_shot(self, found: Figures, rows: EvaluationSet, wanted: ZeroShot) -> None:
        labels = [None if one is None else one.split("|") for one in rows.labels(wanted.label)]
        for language in self.languages:
            classes, class_CE = self._classes(wanted.classes, language)
            number = {key: place for place, key in enumerate(classes.keys)}
            right = [[number[key] for key in keys or () if key in number] for keys in labels]
            which = [row for row, places in enumerate(right) if places]
            if not which:
                seen = sorted({key for keys in labels for key in keys or ()})[:5]
                raise DataError(
                    f"{rows.name}: no label {wanted.label!r} is a class of {wanted.classes}; "
                    f"labels are {', '.join(seen)}"
                )
            candidates = np.arange(len(classes))
            if wanted.candidates == "present":
                candidates = np.unique([place for row in which for place in right[row]])
            positives = [np.searchsorted(candidates, sorted(set(right[row]))) for row in which]
            result = recalls(rows.vectors_NE[which], class_CE[candidates], positives, ks=(1, 5))
            hits_N2 = np.stack([result.before_Q < 1, result.before_Q < 5], axis=1)
            low_high = share_intervals(hits_N2)
            ks = (1, 5) if len(candidates) >= _LEAST_CLASSES_FOR_TOP5 else (1,)
            for column, k in enumerate(ks):
                found.add(
                    "zero_shot",
                    what=wanted.label,
                    metric=f"top{k}",
                    language=language,
                    value=result.at[k],
                    interval=low_high[column],
                    chance=result.chance[k],
                    items=len(which),
                )
            left_out = len(rows.rows) - len(which)
            found.say(
                "zero_shot",
                f"{wanted.label}, {language}: {len(which):,} images"
                + (f" ({left_out:,} without such a label left out)" if left_out else "")
                + f", {len(candidates)} classes, {len(classes.templates)} sentences a class in the "
                f"style {style_name(self._style(_ASKED))}, averaged and renormalised, by cosine, "
                "ties count against",
            )

    def _classes(self, name: str, language: Language) -> tuple[Classes, np.ndarray]:
        if (name, language) not in self._class_vectors:
            classes = named_classes(name, language)
            vectors = class_vectors(
                lambda texts: self._encoder.text(texts, self._style(_ASKED)), classes.prompts()
            )
            self._class_vectors[name, language] = classes, vectors
        return self._class_vectors[name, language]

    def _retrieval(
        self,
        found: Figures,
        rows: EvaluationSet,
        texts: Mapping[str, Mapping[str, tuple[str, ...]]],
        wanted: Retrieval,
    ) -> None:
        keys = [row.key for row in rows.rows]
        style = self._style(wanted.style)
        for language in self.languages:
            said = [texts[key].get(wanted.texts.get(language, ""), ()) for key in keys]
            if not any(said):
                continue
            pairs = pair(keys, said)
            image_ME = rows.vectors_NE[pairs.image_rows]
            text_TE = self._encoder.text(pairs.texts, style)
            for way, result, groups in (
                (
                    "text_to_image",
                    recalls(text_TE, image_ME, pairs.images_of_text, ks=KS),
                    np.asarray([images[0] for images in pairs.images_of_text]),
                ),
                (
                    "image_to_text",
                    recalls(image_ME, text_TE, pairs.texts_of_image, ks=KS),
                    np.arange(len(image_ME)),
                ),
            ):
                hits_Q3 = np.stack([result.before_Q < k for k in KS], axis=1)
                low_high = share_intervals(hits_Q3, groups_N=groups)
                for column, k in enumerate(KS):
                    found.add(
                        "retrieval",
                        what=way,
                        metric=f"r{k}",
                        language=language,
                        value=result.at[k],
                        interval=low_high[column],
                        chance=result.chance[k],
                        items=result.queries,
                    )
            found.say("retrieval", _retrieval_protocol(language, pairs, style))

    def _captions(
        self,
        found: Figures,
        rows: EvaluationSet,
        texts: Mapping[str, Mapping[str, tuple[str, ...]]],
        wanted: Captions,
    ) -> None:
        """Held against the texts of each language that has some; chance is captions dealt anew."""
        ((_, captions),) = rows.captions.items()
        for language, name in wanted.texts.items():
            said = [texts[row.key].get(name, ()) for row in rows.rows]
            which = [row for row, references in enumerate(said) if references]
            if not which or language not in self.languages:
                continue
            try:
                cut = cutter(_CUT[language])
            except UserError as error:
                found.skipped[f"captions, {language}"] = str(error)
                continue
            metrics: list[str] = list(_CAPTION_METRICS)
            for java in JAVA_METRICS if language == "en" else ():
                reason = missing(java)
                if reason is None:
                    metrics.append(java)
                else:
                    found.skipped[java] = f"it {reason}"
            references = [said[row] for row in which]
            dealt = np.random.default_rng(0).permutation(which)
            real, chance = (
                caption_metrics(
                    [captions[row] for row in order],
                    references,
                    metrics=metrics,
                    tokenizer=cut.name,
                )
                for order in (which, dealt)
            )
            for metric, statistics in real.items():
                found.add(
                    "captions",
                    what="",
                    metric=metric,
                    language=language,
                    value=statistics.corpus(),
                    interval=resampled_intervals(statistics.resampled, len(which)),
                    chance=chance[metric].corpus(),
                    items=len(which),
                )
            found.say(
                "captions",
                f"{language}: {len(which):,} greedy captions in the style "
                f"{style_name(self._style(wanted.style))} against their images' texts, cut into "
                f"{cut.says}; chance: the same captions dealt to other images; CIDEr-D in percent "
                "as papers print it",
            )

    def _learned(self, found: Figures, rows: EvaluationSet, benchmark: Benchmark) -> None:
        part = _find(benchmark.train, self.places)
        if part is None:
            for task in ("linear_probe", "knn"):
                found.skipped[task] = "its training part is not there"
            return
        trained = self._read(part.open(), f"{benchmark.name}, training part")
        trained = dataclasses.replace(trained, name="the training part")
        for one in benchmark.learned:
            self._learn(found, trained, rows, one)

    def _learn(
        self, found: Figures, trained: EvaluationSet, rows: EvaluationSet, wanted: Learned
    ) -> None:
        try:
            those = labelled.labelled_rows(trained, rows, wanted.label)
        except DataError as error:  # no row to learn from
            found.skipped |= dict.fromkeys(("linear_probe", "knn"), str(error))
            return
        methods: tuple[tuple[Task, Callable[..., labelled.Classified]], ...] = (
            ("linear_probe", linear_probe),
            ("knn", knn),
        )
        for task, method in methods:
            if not self._wanted(task):
                continue
            try:
                result = method(
                    those.train_NE,
                    those.train_labels,
                    those.test_ME,
                    those.test_labels,
                    label=wanted.label,
                    said=those.said,
                )
            except UserError as error:  # scikit-learn is not there, or too few rows
                found.skipped[task] = str(error)
                continue
            right_T = result.rank_T == 0
            found.add(
                task,
                what=wanted.label,
                metric="top1",
                language="",
                value=float(right_T.mean()),
                interval=share_intervals(right_T[:, None])[0],
                chance=1 / len(result.keys),
                items=len(right_T),
            )
            found.say(task, f"{wanted.label}: {result.table.protocol}")

    def _similarity(self, found: Figures, pairs: Sequence[Pair], language: Language) -> None:
        from scipy.stats import rankdata

        style = self._style(_ASKED)
        one_NE = self._encoder.text([pair.one for pair in pairs], style)
        other_NE = self._encoder.text([pair.other for pair in pairs], style)
        # What float32 cannot tell apart has one rank.
        cosine_N = np.round(np.einsum("ne,ne->n", one_NE, other_NE), 6)
        score_N = np.asarray([pair.score for pair in pairs])

        def spearman(rows: np.ndarray) -> float:
            ranks = rankdata(cosine_N[rows]), rankdata(score_N[rows])
            with np.errstate(invalid="ignore", divide="ignore"):
                return float(np.corrcoef(*ranks)[0, 1])

        found.add(
            "similarity",
            what="",
            metric="spearman",
            language=language,
            value=spearman(np.arange(len(pairs))),
            interval=intervals(spearman, len(pairs)),
            chance=0.0,
            items=len(pairs),
            share=False,
        )
        found.say(
            "similarity",
            f"{language}: Spearman's rank correlation of the cosine of {len(pairs):,} pairs of "
            f"sentences, in the style {style_name(style)}, with people's scores",
        )

    def _read(
        self, source: Source, what: str, *, caption_styles: Sequence[Style | None] = ()
    ) -> EvaluationSet:
        return read_set(
            source if self.limit is None else Spread(source, self.limit),
            self._encoder,
            image_size=self.model.image_size,
            batch_size=self.batch_size,
            progress=self._told(what),
            caption_styles=caption_styles,
        )

    def _style(self, style: Style) -> Style | None:
        return style if self.model.styled else None

    def _wanted(self, *tasks: Task) -> bool:
        return self._tasks is None or bool(self._tasks & set(tasks))

    def _told(self, what: str) -> Callable[[int, int], None] | None:
        progress = self.progress
        if progress is None:
            return None
        return lambda done, total: progress(what, done, total)


def _find(forms: Sequence[Form], places: Places) -> Found | None:
    return next((found for form in forms if (found := form.find(places))), None)


def _texts(source: object) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    assert isinstance(source, ItemSource)  # every form with texts is one
    return {item.key: item.texts for item in source.items}


def _retrieval_protocol(language: Language, pairs: Pairs, style: Style | None) -> str:
    shared = sum(len(images) > 1 for images in pairs.images_of_text)
    return (
        f"{language}: {len(pairs.image_rows):,} images and {len(pairs.texts):,} distinct texts in "
        f"the style {style_name(style)}"
        + (f", {shared:,} of them of several images" if shared else "")
        + "; every text searches all images, every image all texts, by cosine; any positive among "
        "the first k counts, ties count against; resampled by image"
    )
