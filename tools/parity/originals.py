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
    """

    family: str
    module: Any
    files: Mapping[str, Any]
    image: Callable[[Any], Any]
    text: Callable[[Any], Any]
    logits: Callable[[Any, Any], Any] | None = None
    prefix: str = ""
    image_size: int
    text_length: int
    vocabulary: int
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD

    def state(self) -> dict[str, np.ndarray]:
        """Its tensors."""
        return {
            self.prefix + name: value.detach().numpy()
            for name, value in self.module.state_dict().items()
        }

    def save(self, folder: Path, *, name: str = "model") -> None:
        """As its library leaves it on the Hub."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            self.prefix + key: value.detach().clone().contiguous()
            for key, value in self.module.state_dict().items()
        }
        save_file(tensors, str(folder / f"{name}.safetensors"), metadata={"format": "pt"})
        for file, values in self.files.items():
            (folder / file).write_text(json.dumps(values), "utf-8")

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


def hf_clip(
    *,
    image_size: int = 224,
    patch_size: int = 32,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    text_width: int = 512,
    text_depth: int = 12,
    text_heads: int = 8,
    embedding: int = 512,
    vocabulary: int = 49_408,
    length: int = 77,
) -> Original:
    """``CLIPModel`` of transformers; by default OpenAI's ViT-B/32."""
    open_clip_module()  # makes torchvision importable, which CLIPModel imports
    transformers = importlib.import_module("transformers")
    config = transformers.CLIPConfig(
        projection_dim=embedding,
        vision_config={
            "image_size": image_size,
            "patch_size": patch_size,
            "hidden_size": width,
            "num_hidden_layers": depth,
            "num_attention_heads": heads,
            "intermediate_size": 4 * width,
        },
        text_config={
            "vocab_size": vocabulary,
            "hidden_size": text_width,
            "num_hidden_layers": text_depth,
            "num_attention_heads": text_heads,
            "intermediate_size": 4 * text_width,
            "max_position_embeddings": length,
            "eos_token_id": vocabulary - 1,
        },
    )
    module = randomised(transformers.CLIPModel(config))

    def vectors(of: Callable[..., Any]) -> Callable[[Any], Any]:
        def run(x: Any) -> Any:
            found = of(x)
            return getattr(found, "pooler_output", found)

        return run

    return Original(
        family="hf-clip",
        module=module,
        files={"config.json": config.to_dict()},
        image=vectors(lambda x: module.get_image_features(pixel_values=x)),
        text=vectors(lambda x: module.get_text_features(input_ids=x)),
        image_size=image_size,
        text_length=length,
        vocabulary=vocabulary,
    )


def open_clip(
    *,
    family: str = "open-clip",
    image_size: int = 224,
    patch_size: int = 32,
    width: int = 768,
    depth: int = 12,
    head_width: int = 64,
    mlp_ratio: float = 4.0,
    text_width: int = 512,
    text_depth: int = 12,
    text_heads: int = 8,
    embedding: int = 512,
    vocabulary: int = 49_408,
    length: int = 77,
    quick_gelu: bool = False,
    prefix: str = "",
    says: bool = True,
) -> Original:
    """open_clip's ``CLIP``; by default LAION's ViT-B/32.

    Args:
        says: write ``open_clip_config.json``, which OpenAI's archives and KELIP's do not have.
    """
    library = open_clip_module()
    vision = {
        "image_size": image_size,
        "patch_size": patch_size,
        "width": width,
        "layers": depth,
        "head_width": head_width,
        "mlp_ratio": mlp_ratio,
    }
    text = {
        "vocab_size": vocabulary,
        "context_length": length,
        "width": text_width,
        "layers": text_depth,
        "heads": text_heads,
    }
    module = randomised(
        library.model.CLIP(
            embed_dim=embedding,
            vision_cfg=library.CLIPVisionCfg(**vision),
            text_cfg=library.CLIPTextCfg(**text),
            quick_gelu=quick_gelu,
        )
    )
    about = {
        "embed_dim": embedding,
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
        image_size=image_size,
        text_length=length,
        vocabulary=vocabulary,
    )


def open_clip_coca(
    *,
    image_size: int = 224,
    patch_size: int = 32,
    width: int = 768,
    depth: int = 12,
    text_width: int = 512,
    text_depth: int = 12,
    decoder_depth: int = 12,
    text_heads: int = 8,
    queries: int = 256,
    pooler_heads: int = 8,
    embedding: int = 512,
    vocabulary: int = 49_408,
    length: int = 76,
) -> Original:
    """open_clip's ``CoCa``; by default coca_ViT-B-32."""
    library = open_clip_module()
    sizes = {
        "vocab_size": vocabulary,
        "context_length": length,
        "width": text_width,
        "heads": text_heads,
    }
    vision = {
        "image_size": image_size,
        "patch_size": patch_size,
        "width": width,
        "layers": depth,
        "attentional_pool": True,
        "attn_pooler_queries": queries,
        "attn_pooler_heads": pooler_heads,
        "output_tokens": True,
    }
    text = {**sizes, "layers": text_depth, "embed_cls": True, "output_tokens": True}
    multimodal = {**sizes, "layers": decoder_depth, "attn_pooler_heads": pooler_heads}
    module = randomised(
        library.coca_model.CoCa(
            embed_dim=embedding,
            multimodal_cfg=library.coca_model.MultimodalCfg(**multimodal),
            text_cfg=library.CLIPTextCfg(**text),
            vision_cfg=library.CLIPVisionCfg(**vision),
        )
    )
    about = {
        "embed_dim": embedding,
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
        image_size=image_size,
        text_length=length,
        vocabulary=vocabulary,
    )


def slip(
    *,
    image_size: int = 224,
    patch_size: int = 16,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    text_width: int = 512,
    text_depth: int = 12,
    embedding: int = 512,
    head: int | None = 4096,
    vocabulary: int = 49_408,
    length: int = 77,
) -> Original:
    """A SLIP put together as its authors' code is: timm's tower, OpenAI's text tower, an MLP.

    Their code is on no package index; both towers here come from other libraries. By default
    ViT-B/16; without ``head`` the CLIP of the same table.
    """
    torch = importlib.import_module("torch")
    library = open_clip_module()
    timm: ModuleType = importlib.import_module("timm")
    towers = library.model.CLIP(
        embed_dim=embedding,
        vision_cfg=library.CLIPVisionCfg(image_size=32, patch_size=32, width=64, layers=1),
        text_cfg=library.CLIPTextCfg(
            vocab_size=vocabulary,
            context_length=length,
            width=text_width,
            layers=text_depth,
            heads=text_width // 64,
        ),
        quick_gelu=True,
    )

    class Joined(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = timm.models.vision_transformer.VisionTransformer(
                img_size=image_size,
                patch_size=patch_size,
                embed_dim=width,
                depth=depth,
                num_heads=heads,
                num_classes=0,
            )
            self.image_projection = torch.nn.Parameter(torch.empty(width, embedding))
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
                sizes = [(width, head), (head, head), (head, 256)]
                for number, (inputs, outputs) in enumerate(sizes, start=1):
                    self.image_mlp.add_module(f"layer{number}", torch.nn.Linear(inputs, outputs))
                    if number < len(sizes):
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
        image_size=image_size,
        text_length=length,
        vocabulary=vocabulary,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )
