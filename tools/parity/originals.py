"""PyTorch models of other libraries with random weights, and the files that hold such weights.

Every parameter is drawn at random, biases and norms too: at their usual start of 0 and 1 a name
mistaken for another would not show.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from kmm_jax.models.clip.config import CLIP_MEAN, CLIP_STD
from kmm_jax.models.slip.config import IMAGENET_MEAN, IMAGENET_STD
from tools.bench.torch_reference import open_clip_module


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of a model with an image and a text side; by default CLIP's ViT-B/32."""

    image_size: int = 224
    patch_size: int = 32
    width: int = 768
    depth: int = 12
    heads: int = 12
    text_width: int = 512
    text_depth: int = 12
    text_heads: int = 8
    embedding: int = 512
    vocabulary: int = 49_408
    length: int = 77

    @property
    def open_clip_vision(self) -> dict[str, Any]:
        """As open_clip's ``vision_cfg``."""
        return {
            "image_size": self.image_size,
            "patch_size": self.patch_size,
            "width": self.width,
            "layers": self.depth,
            "head_width": self.width // self.heads,
        }

    @property
    def open_clip_text(self) -> dict[str, Any]:
        """As open_clip's ``text_cfg``."""
        return {
            "vocab_size": self.vocabulary,
            "context_length": self.length,
            "width": self.text_width,
            "layers": self.text_depth,
            "heads": self.text_heads,
        }


B32 = Sizes()
B16 = Sizes(patch_size=16)
COCA_B32 = Sizes(length=76)
KELIP = Sizes(vocabulary=98_818)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Original:
    """A model of another library.

    Attributes:
        family: whose weights it has, as ``kmm_jax.interop`` names them.
        module: in PyTorch, in evaluation mode.
        files: JSON files beside the weights, by name.
        image: normalised pixels (B, 3, S, S) -> vectors.
        text: ids (B, T) -> vectors.
        logits: both -> logits of the next token, of a model that writes captions.
        prefix: before every name in the file.
        marks: ids that begin, end and fill up a text; by default the last two and 0.
        beside: whose images these are, where the weights are a text tower alone.
    """

    family: str
    module: Any
    files: Mapping[str, Any]
    image: Callable[[Any], Any]
    text: Callable[[Any], Any]
    logits: Callable[[Any, Any], Any] | None = None
    prefix: str = ""
    marks: tuple[int, int, int] | None = None
    beside: Original | None = None
    sizes: Sizes
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD

    def state(self) -> dict[str, np.ndarray]:
        """Its tensors."""
        return {
            self.prefix + name: value.detach().numpy()
            for name, value in self.module.state_dict().items()
        }

    def save(self, folder: Path, *, name: str = "model") -> None:
        """As its library leaves it on the Hub; what is beside it in the folder ``image`` there."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            self.prefix + key: value.detach().clone().contiguous()
            for key, value in self.module.state_dict().items()
        }
        save_file(tensors, str(folder / f"{name}.safetensors"), metadata={"format": "pt"})
        for file, values in self.files.items():
            (folder / file).write_text(json.dumps(values), "utf-8")
        if self.beside is not None:
            self.beside.save(folder / "image")

    def outputs(self, pixels_BHWC: np.ndarray, ids_BT: np.ndarray) -> dict[str, np.ndarray]:
        """Unit vectors of images and texts, and logits where it has them.

        Args:
            pixels_BHWC: uint8.
        """
        torch = importlib.import_module("torch")
        scaled = (pixels_BHWC / 255 - np.asarray(self.mean)) / np.asarray(self.std)
        images = torch.from_numpy(scaled.transpose(0, 3, 1, 2).astype(np.float32))
        ids = torch.from_numpy(ids_BT.astype(np.int64))
        with torch.no_grad():
            found = {
                name: torch.nn.functional.normalize(vectors, dim=-1).numpy()
                for name, vectors in (("image", self.image(images)), ("text", self.text(ids)))
            }
            if self.logits is not None:
                found["logits"] = self.logits(images, ids).numpy()
        return found


def randomised(module: Any, seed: int = 0) -> Any:
    """The module in evaluation mode, with every parameter at random."""
    torch = importlib.import_module("torch")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if value.ndim >= 2:
                # Products keep their scale whatever the width.
                value.copy_(noise * (value.shape[-1] ** -0.5 if value.ndim == 2 else 0.05))
            elif name.endswith(("logit_scale",)):
                value.fill_(2.5)
            elif name.endswith("weight"):
                value.copy_(1 + 0.2 * noise)  # a norm's
            else:
                value.copy_(0.2 * noise)
    return module.eval()


def hf_clip(sizes: Sizes = B32) -> Original:
    """``CLIPModel`` of transformers, in OpenAI's form."""
    open_clip_module()  # makes torchvision importable, which CLIPModel imports
    transformers = importlib.import_module("transformers")
    config = transformers.CLIPConfig(
        projection_dim=sizes.embedding,
        vision_config={
            "image_size": sizes.image_size,
            "patch_size": sizes.patch_size,
            "hidden_size": sizes.width,
            "num_hidden_layers": sizes.depth,
            "num_attention_heads": sizes.heads,
            "intermediate_size": 4 * sizes.width,
        },
        text_config={
            "vocab_size": sizes.vocabulary,
            "hidden_size": sizes.text_width,
            "num_hidden_layers": sizes.text_depth,
            "num_attention_heads": sizes.text_heads,
            "intermediate_size": 4 * sizes.text_width,
            "max_position_embeddings": sizes.length,
            "eos_token_id": sizes.vocabulary - 1,
            "bos_token_id": sizes.vocabulary - 2,
        },
    )
    module = randomised(transformers.CLIPModel(config))
    return Original(
        family="hf-clip",
        module=module,
        files={"config.json": config.to_dict()},
        image=lambda images: _pooled(module.get_image_features(pixel_values=images)),
        text=lambda ids: _pooled(module.get_text_features(input_ids=ids)),
        sizes=sizes,
    )


def _pooled(found: Any) -> Any:
    """transformers 5 gives an object where 4 gave a tensor."""
    return getattr(found, "pooler_output", found)


def open_clip(
    sizes: Sizes = B32,
    *,
    family: str = "open-clip",
    quick_gelu: bool = False,
    prefix: str = "",
    says: bool = True,
) -> Original:
    """open_clip's ``CLIP``, by default in LAION's form.

    Args:
        says: write ``open_clip_config.json``, which OpenAI's archives and KELIP's do not have.
    """
    library = open_clip_module()
    vision, text = sizes.open_clip_vision, sizes.open_clip_text
    module = randomised(
        library.model.CLIP(
            embed_dim=sizes.embedding,
            vision_cfg=library.CLIPVisionCfg(**vision),
            text_cfg=library.CLIPTextCfg(**text),
            quick_gelu=quick_gelu,
        )
    )
    about = {
        "embed_dim": sizes.embedding,
        "quick_gelu": quick_gelu,
        "vision_cfg": vision,
        "text_cfg": text,
    }
    return Original(
        family=family,
        module=module,
        files={"open_clip_config.json": {"model_cfg": about}} if says else {},
        image=module.encode_image,
        text=module.encode_text,
        prefix=prefix,
        sizes=sizes,
    )


def kelip(sizes: Sizes = KELIP) -> Original:
    """OpenAI's network with KELIP's vocabulary, as its wrapper names the tensors."""
    return open_clip(sizes, family="kelip", quick_gelu=True, prefix="model.", says=False)


def open_clip_coca(
    sizes: Sizes = COCA_B32, *, decoder_depth: int = 12, queries: int = 256, pooler_heads: int = 8
) -> Original:
    """open_clip's ``CoCa``; by default coca_ViT-B-32."""
    library = open_clip_module()
    vision = {
        **sizes.open_clip_vision,
        "attentional_pool": True,
        "attn_pooler_queries": queries,
        "attn_pooler_heads": pooler_heads,
        "output_tokens": True,
    }
    text = {**sizes.open_clip_text, "embed_cls": True, "output_tokens": True}
    multimodal = {
        **sizes.open_clip_text,
        "layers": decoder_depth,
        "attn_pooler_heads": pooler_heads,
    }
    module = randomised(
        library.coca_model.CoCa(
            embed_dim=sizes.embedding,
            multimodal_cfg=library.coca_model.MultimodalCfg(**multimodal),
            text_cfg=library.CLIPTextCfg(**text),
            vision_cfg=library.CLIPVisionCfg(**vision),
        )
    )
    about = {
        "embed_dim": sizes.embedding,
        "vision_cfg": vision,
        "text_cfg": text,
        "multimodal_cfg": multimodal,
        "custom_text": True,
    }
    return Original(
        family="open-clip-coca",
        module=module,
        files={"open_clip_config.json": {"model_cfg": about}},
        image=module.encode_image,
        text=module.encode_text,
        logits=lambda images, ids: module(images, ids)["logits"],
        sizes=sizes,
    )


def slip(sizes: Sizes = B16, *, head: int | None = 4096) -> Original:
    """A SLIP put together as its authors' code is: timm's tower, OpenAI's text tower, an MLP.

    Their code is on no package index; both towers here come from other libraries. Without ``head``
    it is the CLIP of the same table.
    """
    torch = importlib.import_module("torch")
    library = open_clip_module()
    timm: ModuleType = importlib.import_module("timm")
    towers = library.model.CLIP(
        embed_dim=sizes.embedding,
        vision_cfg=library.CLIPVisionCfg(image_size=32, patch_size=32, width=64, layers=1),
        text_cfg=library.CLIPTextCfg(**sizes.open_clip_text),
        quick_gelu=True,
    )

    class Joined(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = timm.models.vision_transformer.VisionTransformer(
                img_size=sizes.image_size,
                patch_size=sizes.patch_size,
                embed_dim=sizes.width,
                depth=sizes.depth,
                num_heads=sizes.heads,
                num_classes=0,
            )
            self.image_projection = torch.nn.Parameter(torch.empty(sizes.width, sizes.embedding))
            for part in (
                "transformer",
                "token_embedding",
                "positional_embedding",
                "ln_final",
                "text_projection",
                "logit_scale",
            ):
                setattr(self, part, getattr(towers, part))
            if head is not None:
                self.image_mlp = torch.nn.Sequential()
                layers = [(sizes.width, head), (head, head), (head, 256)]
                for number, (inputs, outputs) in enumerate(layers, start=1):
                    self.image_mlp.add_module(f"layer{number}", torch.nn.Linear(inputs, outputs))
                    if number < len(layers):
                        self.image_mlp.add_module(f"bn{number}", torch.nn.BatchNorm1d(outputs))
                        self.image_mlp.add_module(f"relu{number}", torch.nn.ReLU())

        def encode_image(self, images: Any) -> Any:
            return self.visual(images) @ self.image_projection

    module = randomised(Joined())
    towers.eval()
    return Original(
        family="slip",
        module=module,
        files={},
        image=module.encode_image,
        text=towers.encode_text,
        prefix="module.",
        sizes=sizes,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )
