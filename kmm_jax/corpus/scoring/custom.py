"""A score of the user's own."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from kmm_jax.corpus.scoring.protocol import Scorer
from kmm_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Custom:
    """Numbers by a class that the user names; aesthetics, faces, a trained safety classifier.

    The class is called with ``options`` and has ``score`` of protocol ``Scorer``: from a list of
    samples to a list of ``{column: number}``.

    Attributes:
        name: of the score; also the reason of what it rejects.
        function: ``module:Class``, importable where the corpus is built.
        fields: the columns it fills.
        most, least: thresholds by column; without, it only measures.
        options: named arguments of the class.
        version: to be changed when the class is, so that pictures are scored again.
    """

    name: str
    function: str
    fields: tuple[str, ...]
    most: Mapping[str, float] = dataclasses.field(default_factory=dict)
    least: Mapping[str, float] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    version: str = "1"
    side: int = 224
    of_texts: bool = False

    def __post_init__(self) -> None:
        if not self.fields:
            raise ConfigError(f"custom score {self.name}: fields is empty")
        for column in (*self.most, *self.least):
            if column not in self.fields:
                raise ConfigError(
                    f"custom score {self.name}: a threshold for {column!r}, which is not one of "
                    f"its fields ({', '.join(self.fields)})"
                )

    def columns(self) -> dict[str, pa.DataType]:
        """Numbers."""
        return {field: pa.float64() for field in self.fields}

    def identity(self) -> Any:
        """What it is called with; the class is looked up, so that a typing error shows early."""
        self._class()
        return ["custom 1", self.function, self.fields, dict(self.options), self.version, self.side]

    def load(self) -> Scorer:
        """The user's."""
        found: Scorer = self._class()(**self.options)
        return found

    def judge(self, row: Mapping[str, Any]) -> tuple[Mapping[str, Any], str | None]:
        """By each threshold; what has no number passes."""
        for column, line in self.most.items():
            if row[column] is not None and row[column] > line:
                return row, self.name
        for column, line in self.least.items():
            if row[column] is not None and row[column] < line:
                return row, self.name
        return row, None

    def thresholds(self) -> dict[str, tuple[str, float]]:
        """Of a column with two, the upper one."""
        lower = {column: ("least", line) for column, line in self.least.items()}
        return lower | {column: ("most", line) for column, line in self.most.items()}

    def _class(self) -> Any:
        module, _, name = self.function.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(
                f"custom score {self.name}: {self.function!r} cannot be imported ({error}); it "
                "must be module:Class"
            ) from error
