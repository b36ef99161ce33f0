"""Whole models through files: what each network gives there and here, and what is written back.

Only one of both models is in memory at a time, but for a moment while ours is put on the device.

B rows, T positions, C channels, h w of the latents.
"""

from __future__ import annotations

import dataclasses
import gc
import importlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import safe_open

from kmm_jax.generation.pipeline import Pipeline
from kmm_jax.generation.request import Request
from kmm_jax.interop.diffusers import folder as folders
from kmm_jax.models.diffusion.modeling import abstract
from kmm_jax.models.diffusion.unet import Added
from kmm_jax.text.tokenizer import Tokenizer
from tools.parity.compare import error
from tools.stable_diffusion import originals
from tools.stable_diffusion.originals import Kind, Sizes

_PROMPTS = ("a photo of a red shirt", "불꽃놀이가 비치는 밤 바다 유화")
_SIDES = (8, 16)  # of the latents: not square, so that a mistaken axis shows

Arrays = dict[str, np.ndarray]


def inputs(sizes: Sizes, tokenizer: Tokenizer, seed: int = 0) -> Arrays:
    """Random inputs of every network, as PyTorch keeps them (B, C, h, w)."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    rows, factor = len(_PROMPTS), 2 ** (len(sizes.vae["block_out_channels"]) - 1)
    pixels = (side * factor for side in _SIDES)
    found = {
        "latents": normal(rows, 4, *_SIDES),
        "timesteps": np.asarray([981.0, 13.0], np.float32),
        "context": normal(rows, 77, sizes.unet["cross_attention_dim"]),
        "image": rng.uniform(-1, 1, (1, 3, *pixels)).astype(np.float32),
        "ids": tokenizer.sequences(_PROMPTS, None, 77).astype(np.int32),
    }
    if "addition_embed_type" in sizes.unet:
        found["pooled"] = normal(rows, sizes.texts[-1]["projection_dim"])
        found["time_ids"] = np.tile(np.asarray([64, 128, 0, 8, 64, 96], np.float32), (rows, 1))
    return found


def theirs(pipeline: Any, given: Arrays) -> Arrays:
    """What the networks of diffusers and transformers give."""
    torch = importlib.import_module("torch")
    x = {name: torch.from_numpy(np.array(value)) for name, value in given.items()}
    found: dict[str, Any] = {}
    more = {}
    if "pooled" in x:
        more["added_cond_kwargs"] = {"text_embeds": x["pooled"], "time_ids": x["time_ids"]}
    with torch.no_grad():
        found["UNet"] = pipeline.unet(x["latents"], x["timesteps"], x["context"], **more).sample
        posterior = pipeline.vae.encode(x["image"]).latent_dist
        found["encoder, mean"], found["encoder, log-variance"] = posterior.mean, posterior.logvar
        found["decoder"] = pipeline.vae.decode(x["latents"][:1]).sample
        encoders = [pipeline.text_encoder, getattr(pipeline, "text_encoder_2", None)]
        for number, encoder in enumerate(filter(None, encoders), start=1):
            states = encoder(x["ids"].long(), output_hidden_states=True)
            found[f"text {number}, last"] = states.last_hidden_state
            found[f"text {number}, before the last"] = states.hidden_states[-2]
            pooled = states.text_embeds if "text_embeds" in states else states.pooler_output
            found[f"text {number}, pooled"] = pooled
        height, width = (side * pipeline.vae_scale_factor for side in _SIDES)
        found["one step, latents"] = pipeline(
            list(_PROMPTS),
            num_inference_steps=1,
            guidance_scale=7.5,
            height=height,
            width=width,
            latents=x["latents"],
            output_type="latent",
        ).images
    return {name: value.numpy() for name, value in found.items()}


def ours(pipeline: Pipeline, given: Arrays) -> Arrays:
    """What ours give, as PyTorch would keep it."""
    module = abstract(pipeline.config)
    x = {name: jnp.asarray(value) for name, value in given.items()}
    for name in ("latents", "image"):
        x[name] = x[name].transpose(0, 2, 3, 1)

    def run(part: Any, params: Any, call: Callable[..., Any], *arrays: Any) -> Any:
        graphdef = nnx.graphdef(part)
        return jax.jit(lambda params, *arrays: call(nnx.merge(graphdef, params), *arrays))(
            params, *arrays
        )

    added = (x["pooled"], x["time_ids"]) if "pooled" in x else ()

    def predict(unet: Any, latents: Any, timesteps: Any, context: Any, *added: Any) -> Any:
        return unet(latents, timesteps, context, added=Added(*added) if added else None)

    found: dict[str, Any] = {}
    found["UNet"] = run(
        module.unet,
        pipeline.params["unet"],
        predict,
        x["latents"],
        x["timesteps"],
        x["context"],
        *added,
    )
    posterior, found["decoder"] = run(
        module.vae,
        pipeline.params["vae"],
        lambda vae, image, latents: (vae.posterior(image), vae.decode_unscaled(latents)),
        x["image"],
        x["latents"][:1],
    )
    found["encoder, mean"], found["encoder, log-variance"] = posterior
    for number, text in enumerate(module.texts):
        last, before = run(
            text,
            pipeline.params["texts"][number],
            lambda text, ids: (text(ids), text(ids, skip=1, normed=False)),
            x["ids"],
        )
        found[f"text {number + 1}, last"] = last.hidden
        found[f"text {number + 1}, before the last"] = before.hidden
        found[f"text {number + 1}, pooled"] = last.pooled
    height, width = (side * pipeline.config.vae.factor for side in _SIDES)
    request = Request(
        prompts=_PROMPTS, steps=1, height=height, width=width, latents=given["latents"]
    )
    found["one step, latents"] = pipeline.generate(request).latents
    return {
        name: np.asarray(value).transpose(0, 3, 1, 2) if value.ndim == 4 else np.asarray(value)
        for name, value in found.items()
    }


def differing(before: Path, after: Path) -> list[str]:
    """Tensors below two folders that are not the same bytes, or in one of them only.

    Without the prefix of text encoders, which transformers takes with and without.
    """

    def places(folder: Path) -> dict[str, tuple[Path, str]]:
        found = {}
        for file in sorted(folder.rglob("*.safetensors")):
            with safe_open(str(file), "numpy") as opened:
                for name in opened.keys():  # noqa: SIM118 - no mapping
                    plain = name.removeprefix("text_model.")
                    found[f"{file.parent.relative_to(folder)}/{plain}"] = (file, name)
        return found

    def tensor(place: tuple[Path, str]) -> np.ndarray:
        with safe_open(str(place[0]), "numpy") as opened:
            return np.asarray(opened.get_tensor(place[1]))

    there, here = places(before), places(after)
    found = sorted(there.keys() ^ here.keys())
    for name in there.keys() & here.keys():
        first, second = tensor(there[name]), tensor(here[name])
        if first.dtype != second.dtype or first.tobytes() != second.tobytes():
            found.append(name)
    return found


def measured(kind: Kind, sizes: Callable[[Kind], Sizes], tokenizer: Tokenizer) -> dict[str, Any]:
    """The error of each output relative to its scale, and whether the folder comes back equal."""
    with tempfile.TemporaryDirectory() as place:
        before, after = Path(place) / "model", Path(place) / "again"
        original = originals.pipeline(Path(place), kind, sizes=sizes, tokenizer=tokenizer)
        given = inputs(sizes(kind), tokenizer)
        expected = theirs(original, given)
        del original
        gc.collect()
        began = time.monotonic()
        model = folders.read(before)
        seconds = time.monotonic() - began
        pipeline = Pipeline(
            model.config,
            model.params,
            model.tokenizers,
            model.scheduler,
            zero_empty_negative=model.zero_empty_negative,
            devices=jax.local_devices()[:1],
        )
        # Back from the device, so that what is written was in use.
        model = dataclasses.replace(model, params=pipeline.params)
        gc.collect()
        found = ours(pipeline, given)
        folders.write(after, model)
        left = differing(before, after)
    return {
        "parameters": {
            name: sum(leaf.size for leaf in jax.tree.leaves(pipeline.params[part]))
            for name, part in (("unet", "unet"), ("autoencoder", "vae"), ("text", "texts"))
        },
        "latents": _SIDES,
        "errors": {name: error(found[name], expected[name]) for name in expected},
        "seconds_to_read": seconds,
        "tensors_come_back_equal": not left,
        "differing": left,
    }
