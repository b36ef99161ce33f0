"""Weights that a run may begin with, as the loop knows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

OF_WEIGHTS = "@init"
"""As the name of a tokenizer: that of the weights the run begins with."""


class Beginning(Protocol):
    """Where a run's first parameters come from; ``inference.initial.InitialWeights`` is one."""

    def tokenizer(self) -> Path:
        """The ``tokenizer.json`` that the weights were trained with."""
        ...

    def params(self, tokenizer: Path | None) -> Any:
        """Nested dicts of arrays; parameters that are not among them begin fresh.

        Args:
            tokenizer: the run's; None where texts come as ids.
        """
        ...
