"""How long or how often: steps, epochs, examples or a percentage of the run."""

from __future__ import annotations

import dataclasses
import math
import re
from fractions import Fraction
from typing import Literal, get_args

from kmm_jax.errors import ConfigError, nearest

Unit = Literal["steps", "epochs", "examples", "percent"]

_UNITS: dict[str, Unit] = {
    **{unit: unit for unit in get_args(Unit)},
    "": "steps",
    "step": "steps",
    "epoch": "epochs",
    "example": "examples",
    "%": "percent",
}
_FACTORS = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9}
_PATTERN = re.compile(
    r"\s*(?P<number>[0-9][0-9_]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?)(?P<factor>[kMB]?)"
    r"\s*(?P<unit>%|[a-zA-Z]*)\s*"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Duration:
    """An exact amount of training; ``value`` is not negative."""

    value: Fraction
    unit: Unit


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """What turns units into steps. ``total_steps`` is needed for percentages only."""

    global_batch_size: int
    examples_per_epoch: int
    total_steps: int | None = None


def parse(text: str | int) -> Duration:
    """Read ``1000``, ``"1000 steps"``, ``"10 epochs"``, ``"2M examples"`` or ``"5%"``.

    Raises:
        ConfigError: the text is none of these.
    """
    match = _PATTERN.fullmatch(str(text))
    if match is None:
        raise ConfigError(
            f"{text!r} is no duration; write '1000 steps', '10 epochs', '2M examples' or '5%'"
        )
    if match["unit"] not in _UNITS:
        raise ConfigError(
            f"duration {text!r} has the unknown unit {match['unit']!r}"
            + nearest(match["unit"], get_args(Unit))
        )
    value = Fraction(match["number"].replace("_", "")) * _FACTORS[match["factor"]]
    duration = Duration(value=value, unit=_UNITS[match["unit"]])
    if duration.unit == "percent" and duration.value > 100:
        raise ConfigError(f"duration {text!r} is more than 100% of the run")
    if duration.unit == "steps" and duration.value.denominator != 1:
        raise ConfigError(f"duration {text!r} is no whole number of steps")
    return duration


def resolve(text: str | int, scale: Scale) -> int:
    """The number of steps, at least 0.

    Epochs and examples round up, so that none is left out; percentages round to the nearest step.

    Raises:
        ConfigError: the text is no duration, or a percentage where there is no whole to take it of.
    """
    duration = parse(text)
    match duration.unit:
        case "steps":
            return int(duration.value)
        case "epochs":
            return math.ceil(duration.value * scale.examples_per_epoch / scale.global_batch_size)
        case "examples":
            return math.ceil(duration.value / scale.global_batch_size)
        case "percent":
            if scale.total_steps is None:
                raise ConfigError(
                    f"duration {text!r} is a share of the whole run, which must itself be given "
                    "in steps, epochs or examples"
                )
            return math.floor(duration.value * scale.total_steps / 100 + Fraction(1, 2))
