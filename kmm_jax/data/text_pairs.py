"""What a text encoder is taught from: tables of parallel texts."""

from __future__ import annotations

import dataclasses

from kmm_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextPairs:
    """What to teach a text encoder from.

    Attributes:
        files: tables with the columns ``ko`` and ``en``, and the weight of each in the mixture.
        teacher_tokenizer: folder of the tokenizer that the teacher reads English by. The student
            reads by the experiment's.
        text_length: tokens of a text, marks included, as the student reads it.
        teacher_length: as the teacher reads it; None for as many.
        empty: share of pairs that are empty texts, which guidance needs.
    """

    files: tuple[tuple[str, float], ...]
    teacher_tokenizer: str
    text_length: int
    teacher_length: int | None = None
    empty: float = 0.02
    seed: int = 0
    styled: bool = False

    def __post_init__(self) -> None:
        if not self.files:
            raise ConfigError("data.files is empty; name at least one table of pairs")
        for path, weight in self.files:
            if not weight > 0:
                raise ConfigError(f"the weight of {path} must be above 0, found {weight}")
        if not 0 <= self.empty < 1:
            raise ConfigError(f"data.empty must lie from 0 to below 1, found {self.empty}")
        if self.styled:
            raise ConfigError("prompts have no style tokens: set data.styled=false")

    @property
    def taught_length(self) -> int:
        """Tokens of a text as the teacher reads it."""
        return self.text_length if self.teacher_length is None else self.teacher_length

    def batch_shapes(self, rows: int) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype of each array of a training batch."""
        own = ((rows, self.text_length), "int32")
        return {
            "korean": own,
            "english": own,
            "teacher": ((rows, self.taught_length), "int32"),
        }
