"""What others report on the same benchmarks, with where it stands."""

from __future__ import annotations

import dataclasses

from kmm_jax.evaluation.suite.benchmark import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reported:
    """A published figure, in percent; of an English text tower on Korean too, where it was tried.

    Attributes:
        source: the paper or page that has it.
    """

    benchmark: str
    task: Task
    language: str
    metric: str
    model: str
    percent: float
    source: str
    what: str = ""

    @property
    def row(self) -> tuple[str, str, str, str, str]:
        """As :attr:`kmm_jax.evaluation.suite.benchmark.Figure.row`."""
        return self.benchmark, self.task, self.language, self.what, self.metric


_KELIP = "KELIP, arXiv 2203.14463"
_SLIDE_CC3M = "the talk, slide 3.3; SLIP's CC3M models, arXiv 2112.12750"
_SLIDE_ROBUST = "the talk, slide 3.1; CLIP, arXiv 2103.00020, figure 13"
_MCLIP = "Multilingual-CLIP's model cards"
_ALT = "AltCLIP, arXiv 2211.06679"
_OPEN_CLIP = "open_clip, docs/openclip_multilingual_retrieval_results.csv"


def _zero_shot(benchmark: str, language: str, model: str, percent: float, source: str) -> Reported:
    return Reported(
        benchmark=benchmark,
        task="zero_shot",
        language=language,
        what="class",
        metric="top1",
        model=model,
        percent=percent,
        source=source,
    )


def _retrieval(
    benchmark: str,
    what: str,
    model: str,
    percents: dict[str, float],
    source: str,
    language: str = "ko",
) -> list[Reported]:
    return [
        Reported(
            benchmark=benchmark,
            task="retrieval",
            language=language,
            what=what,
            metric=metric,
            model=model,
            percent=percent,
            source=source,
        )
        for metric, percent in percents.items()
    ]


REPORTED: tuple[Reported, ...] = (
    _zero_shot("imagenet", "ko", "KELIP", 38.3, _KELIP),
    _zero_shot("imagenet", "ko", "CLIP B/32", 0.4, _KELIP),
    _zero_shot("imagenet", "en", "KELIP", 62.6, _KELIP),
    _zero_shot("imagenet", "en", "CLIP B/16, CC3M", 17.1, _SLIDE_CC3M),
    _zero_shot("imagenet", "en", "SLIP B/16, CC3M", 23.0, _SLIDE_CC3M),
    _zero_shot("cifar10", "ko", "KELIP", 91.4, _KELIP),
    _zero_shot("cifar100", "ko", "KELIP", 55.5, _KELIP),
    _zero_shot("food101", "ko", "KELIP", 46.0, _KELIP),
    *(
        _zero_shot(benchmark, "en", model, percent, _SLIDE_ROBUST)
        for benchmark, resnet, clip in (
            ("imagenet", 76.2, 76.2),
            ("imagenet_v2", 64.3, 70.1),
            ("imagenet_r", 37.7, 88.9),
            ("objectnet", 32.6, 72.3),
            ("imagenet_sketch", 25.2, 60.2),
            ("imagenet_a", 2.7, 77.1),
        )
        for model, percent in (("ResNet-101", resnet), ("CLIP L/14 336", clip))
    ),
    *_retrieval("coco_ko", "image_to_text", "KELIP", {"r1": 21.7, "r5": 46.3, "r10": 59.0}, _KELIP),
    *_retrieval("coco_ko", "text_to_image", "KELIP", {"r1": 5.5, "r5": 19.0, "r10": 28.7}, _KELIP),
    *_retrieval("xtd10", "text_to_image", "M-CLIP XLM-R L/14", {"r10": 85.2}, _MCLIP),
    *_retrieval("xtd10", "text_to_image", "M-CLIP XLM-R B/16+", {"r10": 89.0}, _MCLIP),
    *_retrieval("xtd10", "image_to_text", "AltCLIP", {"r10": 94.4}, _ALT),
    *(
        one
        for model, image, text in (
            ("NLLB-CLIP large SigLIP", 66.7, 61.1),
            ("XLM-R large ViT-H/14", 56.5, 52.8),
            ("XLM-R base ViT-B/32", 43.9, 44.6),
        )
        for what, percent in (("text_to_image", image), ("image_to_text", text))
        for one in _retrieval("xtd10", what, model, {"r1": percent}, _OPEN_CLIP)
    ),
    *(
        one
        for model, image, text in (
            ("NLLB-CLIP large SigLIP", 59.4, 55.9),
            ("XLM-R large ViT-H/14", 51.6, 56.1),
            ("XLM-R base ViT-B/32", 43.5, 47.6),
            ("CLIP L/14", 0.1, 0.3),
        )
        for what, percent in (("text_to_image", image), ("image_to_text", text))
        for one in _retrieval("crossmodal_3600", what, model, {"r1": percent}, _OPEN_CLIP)
    ),
)
