"""Which of a run's parameters are trained."""

from __future__ import annotations

import dataclasses
from typing import Any

from kmm_jax.errors import ConfigError
from kmm_jax.training.parameter_names import chosen, kept, named


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """The part of the parameters that gradients, optimizer and average see.

    The rest is frozen: it is no input of what is differentiated, so that a tower of nothing else
    goes forward only and keeps no activations; it has no moments and no weight decay, does not
    count in the gradient's norm, and running statistics among it stay as they are.

    Attributes:
        names: of the trained parameters; None for all.
    """

    names: frozenset[str] | None = None

    def part(self, params: Any) -> Any:
        """The trained ones of nested parameters, or of what is nested as they are; None of None."""
        return params if self.names is None or params is None else kept(params, self.names)


EVERYTHING = Trained()


def trained(params: Any, *, freeze: str | None) -> Trained:
    """What is trained of nested parameters (or shapes) when these are frozen.

    Args:
        freeze: a regex of whole paths; None trains all.

    Raises:
        ConfigError: it is no regex, or names no parameter or all.
    """
    if freeze is None:
        return EVERYTHING
    names = named(params).keys()
    frozen = chosen(freeze, names, setting="freeze")
    if len(frozen) == len(names):
        raise ConfigError(f"freeze {freeze!r} names every parameter, so that nothing is trained")
    return Trained(names=frozenset(names - frozen))
