"""Requests and responses, as OpenAPI describes them."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
)

_INT64 = 1 << 63
_MOST_ID = 512


def _whole(text: str) -> str:
    """JSON can say half a surrogate pair, which is no character and names nothing."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("half a surrogate pair is no character") from error
    return text


Name = Annotated[str, Field(max_length=_MOST_ID), AfterValidator(_whole)]
Id = Annotated[str, Field(min_length=1, max_length=_MOST_ID), AfterValidator(_whole)]
Number = (
    Annotated[StrictInt, Field(ge=-_INT64, lt=_INT64)]
    | Annotated[StrictFloat, Field(allow_inf_nan=False)]
)
Value = StrictBool | Number | Annotated[StrictStr, Field(max_length=1_000), AfterValidator(_whole)]
Weight = Annotated[float, Field(ge=0, le=1_000, allow_inf_nan=False)]


class _Said(BaseModel):
    """A request: fields it does not know are refused, so that none is misspelt in silence."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Condition(_Said):
    """Conditions on one tag, which must all hold."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    eq: Value | None = None
    ne: Value | None = None
    gt: Value | None = None
    gte: Value | None = None
    lt: Value | None = None
    lte: Value | None = None
    one_of: list[Value] | None = Field(None, alias="in", max_length=100)
    exists: bool | None = None


Conditions = Annotated[
    dict[
        Name,
        Value | Annotated[list[Value], Field(max_length=100)] | Condition | None,
    ],
    Field(
        max_length=20,
        description="By tag, source or time: a value, one of several, or a comparison.",
        examples=[{"color": ["빨강", "분홍"], "price": {"gte": 10000, "lt": 50000}}],
    ),
]


class Weights(_Said):
    """How much each matcher counts; one of weight 0 is not asked."""

    words: Weight = 1.0
    text: Weight = 1.0
    image: Weight = 1.0


Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Box = Annotated[
    list[Share],
    Field(
        min_length=4,
        max_length=4,
        description="x0, y0, x1, y1 in shares of the picture's width and height.",
        examples=[[0.1, 0.5, 0.6, 1.0]],
    ),
]


class Term(_Said):
    """What should be found too, or, of a weight below 0, should not: one of text, image, like."""

    text: str = Field("", examples=["꽃무늬"])
    image: str | None = Field(None, description="In base64, as that of the request.")
    like: Id | None = Field(None, description="A document whose image is taken.")
    box: Box | None = Field(None, description="The part of the picture that counts.")
    locate: str = Field("", description="Or the part where this is seen.")
    weight: float = Field(1.0, ge=-100, le=100, allow_inf_nan=False, description="How much of it.")


class SearchRequest(_Said):
    """What is looked for: a text, an image or both, and terms that change them."""

    text: str = Field("", description="Korean or any text.", examples=["빨간 체크 셔츠"])
    image: str | None = Field(
        None, description="JPEG, PNG, WebP, AVIF, GIF or BMP in base64, or a data: URL of it."
    )
    like: Id | None = Field(None, description="A document whose image is taken in its place.")
    text_weight: float = Field(0.5, ge=0, le=1, description="Of the text against the image.")
    box: Box | None = Field(None, description="The part of the picture that counts.")
    locate: str = Field("", description="Or the part where this is seen.", examples=["신발"])
    whole: Share = Field(0.0, description="Of the whole picture beside the part.")
    terms: list[Term] = Field(
        default_factory=list,
        max_length=16,
        description="Added to it, each with its weight: an image without red and with blue.",
        examples=[[{"text": "빨간색", "weight": -1}, {"text": "파란색", "weight": 1}]],
    )
    k: int = Field(20, ge=1, le=100, description="Documents to find.")
    where: Conditions = Field(default_factory=dict)
    fusion: Literal["rrf", "weighted", "learned"] = Field(
        "rrf",
        description="How matchers become one ranking; learned: from judged queries, where the "
        "collection says that it has learned.",
    )
    weights: Weights = Field(default_factory=Weights)
    facets: list[Id] = Field(
        default_factory=list, max_length=20, description="Tags whose values are counted."
    )


class FoundImage(BaseModel):
    """An image of a document."""

    hash: str
    caption: str
    url: str = Field(description="Where the service has it; sends JPEG.")


class Hit(BaseModel):
    """A document that was found, and why."""

    rank: int
    id: str
    title: str
    body: str = Field(description="How it begins.")
    source: str
    time: datetime.datetime | None
    tags: dict[str, Any]
    score: float = Field(description="The sum of the parts.")
    parts: dict[str, float] = Field(description="What each matcher adds: words, text, image.")
    image: FoundImage | None = Field(description="The one that matches best.")
    images: int = Field(description="How many it has.")


class FacetCount(BaseModel):
    """A value and how many candidates have it."""

    value: Any
    count: int


class SearchResponse(BaseModel):
    """What was found, the best first."""

    hits: list[Hit]
    facets: dict[str, list[FacetCount]]
    complete: bool = Field(
        description="False where a part of the index did not answer and was left out."
    )
    box: Box | None = Field(None, description="The part of the picture that was looked at.")
    version: str = Field(description="Of the documents that were searched.")
    milliseconds: float


class ThumbnailRequest(_Said):
    """Which images of a document may stand for it under a text (slide 5.2)."""

    document: Id
    text: str = Field(min_length=1, examples=["밀면"])
    most: int | None = Field(None, ge=1, le=1_000, description="Images to choose; all by default.")


class ThumbnailTerms(BaseModel):
    """What each term adds to a score, in cosines."""

    similarity: float = Field(description="Of text and image.")
    quality: float
    safety: float = Field(description="0 or less: what it loses by being probably unsafe.")
    diversity: float = Field(description="0 or less: what it loses by being like one before it.")


class Thumbnail(BaseModel):
    """An image of the document that may stand for it."""

    image: FoundImage
    score: float = Field(description="The sum of the terms.")
    terms: ThumbnailTerms


class LeftOutThumbnail(BaseModel):
    """An image of the document that is not shown, and why."""

    image: FoundImage
    reason: Literal["unsafe", "below_floor", "not_indexed"]
    similarity: float | None = Field(description="Of text and image, where that is known.")
    unsafe: float | None = Field(description="How probably it is so, where that is known.")


class ThumbnailResponse(BaseModel):
    """The images of a document, the best first; none where no picture is better than any."""

    thumbnails: list[Thumbnail]
    left_out: list[LeftOutThumbnail]
    floor: float | None = Field(description="Similarity below which no image is shown.")


class HeatResponse(BaseModel):
    """Where in an image a text is seen."""

    heat: list[list[float]] = Field(
        description="0 to 1, rows first, over the image's central square."
    )


class GenerateRequest(_Said):
    """A picture to make."""

    prompt: str = Field(min_length=1, examples=["물 속을 헤엄치는 바다거북, 4K"])
    negative: str = Field("", description="What to guide away from.")
    image: str | None = Field(
        None, description="A picture to begin from, in base64; its central square is made over."
    )
    strength: float = Field(0.6, gt=0, le=1, description="How far to go from that picture.")
    steps: int = Field(25, ge=1, le=100)
    guidance: float = Field(7.5, ge=0, le=30)
    seed: int | None = Field(None, ge=0, lt=1 << 32, description="By default any.")


class GenerateResponse(BaseModel):
    """A picture that was made."""

    image: str = Field(description="A data: URL of a PNG with its settings inside.")
    seed: int = Field(description="That makes it again.")
    blackened: bool = Field(description="Whether the safety filter hides it.")
    milliseconds: float


class NamesRequest(_Said):
    """A picture whose name is asked for (slide 5.4)."""

    image: str = Field(description="In base64, or a data: URL of it.")
    box: Box | None = Field(None, description="The part of it that counts.")
    k: int = Field(5, ge=1, le=20, description="Names to give.")


class FoundName(BaseModel):
    """A name that the picture may have."""

    name: str
    probability: float | None = Field(description="Null where none was learned (kmm name fit).")
    score: float = Field(description="By which it stands here.")


class NamesResponse(BaseModel):
    """What the picture may show, the likeliest first."""

    names: list[FoundName]
    none: float | None = Field(description="The probability that it is none of all names.")
    known: bool = Field(description="Whether the first is likely enough to be said.")
    milliseconds: float


class ShownDocument(BaseModel):
    """A document as it is kept."""

    id: str
    title: str
    body: str
    source: str
    time: datetime.datetime | None
    tags: dict[str, Any]
    images: list[FoundImage]


class Collection(BaseModel):
    """What is served."""

    documents: int
    images: int
    version: str
    model: str = Field(description="Names the model whose vectors these are.")
    columns: dict[str, str] = Field(description="What may be filtered by, with its type.")
    learned: bool = Field(description="Whether a fusion was learned from judged queries.")
    heat_maps: bool = Field(description="Whether there are heat-maps.")
    pictures: bool = Field(description="Whether images are shown.")
    generates: bool = Field(description="Whether pictures are made from prompts.")
    names: bool = Field(False, description="Whether pictures are named.")


class Reason(BaseModel):
    """Why a request was not answered."""

    code: str = Field(description="For programs.", examples=["too_large"])
    message: str = Field(description="For people.")


class ProblemResponse(BaseModel):
    """A request that was not answered."""

    error: Reason
