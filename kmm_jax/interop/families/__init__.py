"""Every family of weights that is read and written here."""

from __future__ import annotations

from kmm_jax.errors import UserError, nearest
from kmm_jax.interop.families import (
    hf_clip,
    open_clip,
    open_clip_coca,
    open_clip_xlm_roberta,
    slip,
    xlm_roberta,
)
from kmm_jax.interop.families.base import Family
from kmm_jax.interop.weights import Weights

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        hf_clip.FAMILY,
        open_clip.FAMILY,
        open_clip.KELIP,
        open_clip_coca.FAMILY,
        slip.FAMILY,
        open_clip_xlm_roberta.FAMILY,
        xlm_roberta.MCLIP,
        xlm_roberta.FAMILY,
    )
}

# What training scripts and wrappers put before every name.
_PREFIXES = ("module.", "model.", "state_dict.", "model.module.", "clip.", "roberta.")
_SHOWN = 3


def family(name: str) -> Family:
    """The family of that name.

    Raises:
        UserError: there is none.
    """
    if name not in FAMILIES:
        raise UserError(f"no family of weights {name!r}{nearest(name, FAMILIES)}")
    return FAMILIES[name]


def recognise(weights: Weights) -> tuple[Family, Weights]:
    """Whose weights these are, and they with the prefix of a wrapper taken away.

    Raises:
        UserError: of none that is known.
    """
    for prefix in ("", *_PREFIXES):
        below = weights if not prefix else weights.without(prefix)
        if not len(below):
            continue
        for each in FAMILIES.values():
            if each.recognises(below):
                return each, below
    names = list(weights)[:_SHOWN]
    raise UserError(
        f"{weights.path} is none of the weights that are known here "
        f"({', '.join(each.title for each in FAMILIES.values())}); its first tensors are "
        f"{', '.join(names)}"
    )
