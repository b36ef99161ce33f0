"""Where each pair of a LoRA file belongs: by names made from the model's own, never guessed.

Names that trainers give (of one layer of a UNet, say ``down_blocks.0...attn1.to_q``):

peft                 ``unet.<layer>.lora_A.weight``, ``lora_B``; ``base_model.model.`` before it
diffusers of 2023    ``unet.<layer>.lora.down.weight``, or with ``processor.to_q_lora``
kohya                ``lora_unet_<layer, _ for .>.lora_down.weight`` and ``.alpha``, where the layer
                     may also bear the name of the original layout (``input_blocks_1_1_...``)
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

from kmm_jax.interop.diffusers import folder, names
from kmm_jax.interop.diffusers.ldm_names import ldm_name
from kmm_jax.interop.diffusers.text_forms import form_of
from kmm_jax.interop.names import LAYER, Layout, Rule
from kmm_jax.models.diffusion.config import LatentDiffusionConfig


@dataclasses.dataclass(frozen=True)
class Target:
    """A matrix or convolution here that a pair is added to.

    Attributes:
        module: its name as diffusers has it, with its part: ``unet.conv_in``.
        ours: flat name among the parameters of a model.
        number: of the layer, where a stack of them is one parameter.
        layout: how it lies in PyTorch's weight.
    """

    module: str
    ours: str
    number: int | None
    layout: Layout


# What pairs of tensors end with: A (in -> rank) first, then B (rank -> out).
_ENDINGS = (
    *(
        (re.compile(rf"(?P<module>.+?){pattern}"), role)
        for role, letter in (("down", "A"), ("up", "B"))
        for pattern in (
            rf"\.lora_{letter}(\.[A-Za-z]\w*)?\.weight",
            rf"\.lora_{role}\.weight",
            rf"(\.lora|\.lora_linear_layer)\.{role}\.weight",
            rf"_lora\.{role}\.weight",
        )
    ),
    (re.compile(r"(?P<module>.+)\.alpha"), "alpha"),
)


def role_of(tensor: str) -> tuple[str, str] | None:
    """The layer that a tensor belongs to, as the file calls it, and ``down``, ``up`` or ``alpha``.

    None for a tensor of another kind.
    """
    for ending, role in _ENDINGS:
        found = ending.fullmatch(tensor)
        if found:
            return found["module"], role
    return None


def targets(config: LatentDiffusionConfig) -> dict[str, Target]:
    """Every layer that can be adapted, by every name that files give it."""
    found: dict[str, Target] = {}
    for target in _targets(config):
        part, _, path = target.module.partition(".")
        for name in _names(part, path, config):
            found[name] = target
    return found


def plain(module: str) -> str:
    """A file's name of a layer without what only says how it was saved."""
    module = module.replace("base_model.model.", "").replace(".processor.", ".")
    module = re.sub(r"\.to_out$", ".to_out.0", module)
    if ".self_attn." in module:  # text encoders, adapted by diffusers of early 2023
        module = re.sub(r"\.to_(q|k|v)$", r".\1_proj", module).replace(".to_out.0", ".out_proj")
    return module


def _targets(config: LatentDiffusionConfig) -> Iterator[Target]:
    shapes = folder.abstract_params(config)
    yield from _of_part("unet", "unet", folder.unet_rules(config, shapes), {})
    for number, text in enumerate(config.texts):
        rules = form_of(text).rules(text)
        part = f"text_encoder_{number + 1}" if number else "text_encoder"
        ours = names.shapes_of(shapes["texts"][number])
        layers = {rule: ours[rule.ours[0]][0] for rule in rules if rule.stacked}
        yield from _of_part(part, f"texts.{number}", rules, layers)


def _of_part(part: str, below: str, rules: list[Rule], layers: dict[Rule, int]) -> Iterator[Target]:
    for rule in rules:
        (ours,) = rule.ours
        if not ours.endswith(".kernel"):
            continue
        module = f"{part}.{rule.theirs.removesuffix('.weight')}"
        for number in range(layers[rule]) if rule.stacked else (None,):
            named = module if number is None else module.replace(LAYER, str(number))
            yield Target(named, f"{below}.{ours}", number, rule.layout)


def _names(part: str, path: str, config: LatentDiffusionConfig) -> Iterator[str]:
    joined = path.replace(".", "_")
    yield f"{part}.{path}"
    if part == "unet":
        yield path
        yield f"lora_unet_{joined}"
        original = ldm_name(path, config.unet)
        if original is not None:
            yield f"lora_unet_{original.replace('.', '_')}"
        return
    bare = path.removeprefix(names.PREFIX)
    yield f"{part}.{bare}"
    number = 2 if part.endswith("_2") else 1
    yield f"lora_te{number}_{joined}"
    if len(config.texts) == 1:
        yield f"lora_te_{joined}"
        yield path
