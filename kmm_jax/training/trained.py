"""Which of a run's parameters are trained, and what of them is the model."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from kmm_jax.errors import ConfigError
from kmm_jax.training.lora import LORA, LoRA, merged, with_factors
from kmm_jax.training.parameter_names import chosen, kept, named


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """The part of the parameters that gradients, optimizer and average see.

    The rest is frozen: it is no input of what is differentiated, so that a tower of nothing else
    goes forward only and keeps no activations; it has no moments and no weight decay, does not
    count in the gradient's norm, and running statistics among it stay as they are.

    Attributes:
        names: of the trained parameters; None for all.
        lora: how factors among the parameters change the model's matrices; None without any.
    """

    names: frozenset[str] | None = None
    lora: LoRA | None = None

    def part(self, params: Any) -> Any:
        """The trained ones of nested parameters, or of what is nested as they are; None of None."""
        return params if self.names is None or params is None else kept(params, self.names)

    def model(self, params: Any) -> Any:
        """The parameters of the model, as ``nnx.merge`` takes them; None of None."""
        return params if self.lora is None or params is None else merged(params, self.lora)


EVERYTHING = Trained()


def trained(params: Any, *, freeze: str | None, lora: LoRA | None = None) -> Trained:
    """What is trained of nested parameters (or shapes) when these are frozen.

    Args:
        params: those of the model.
        freeze: a regex of whole paths; None trains all.
        lora: train its factors, and nothing else but what it names.

    Raises:
        ConfigError: a regex is none, or names no parameter, or ``freeze`` names all.
    """
    if lora is not None:
        whole = jax.eval_shape(lambda: with_factors(params, lora, jax.random.key(0))[LORA])
        factors = {f"{LORA}/{name}" for name in named(whole)}
        also = chosen(lora.also, named(params), setting="lora.also") if lora.also else frozenset()
        return Trained(names=frozenset(factors) | also, lora=lora)
    if freeze is None:
        return EVERYTHING
    names = named(params).keys()
    frozen = chosen(freeze, names, setting="freeze")
    if len(frozen) == len(names):
        raise ConfigError(f"freeze {freeze!r} names every parameter, so that nothing is trained")
    return Trained(names=frozenset(names - frozen))
