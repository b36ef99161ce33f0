"""open_clip's training step of the same size, as its trainer runs it: autocast, compiled."""

from __future__ import annotations

import os
import time
from typing import Any

from kmm_jax.errors import require
from kmm_jax.models.clip.config import CLIP_MEAN, CLIP_STD, CLIPConfig
from kmm_jax.models.coca.config import CoCaConfig
from kmm_jax.models.flops import forward_flops_total
from kmm_jax.models.vision import VisionConfig
from tools.bench.steps import cases
from tools.bench.steps.cases import Case
from tools.bench.torch_reference import open_clip_module


def _vision(config: VisionConfig, **more: Any) -> dict[str, Any]:
    return {
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "width": config.width,
        "layers": config.depth,
        "head_width": config.width // config.heads,
        **more,
    }


def _text(config: Any, depth: int, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": config.vocabulary,
        "context_length": config.length,
        "width": config.width,
        "heads": config.heads,
        "layers": depth,
        **more,
    }


def _clip(open_clip: Any, config: CLIPConfig) -> Any:
    return open_clip.model.CLIP(
        embed_dim=config.embedding,
        vision_cfg=_vision(config.vision),
        text_cfg=_text(config.text, config.text.depth, pool_type="eos"),
    )


def _coca(open_clip: Any, config: CoCaConfig) -> Any:
    layers, _ = cases.open_clip_decoder_layers(config)
    return open_clip.coca_model.CoCa(
        embed_dim=config.embedding,
        vision_cfg=_vision(
            config.vision,
            # One pooler whose first query is the contrastive one: the only form that trains there.
            attentional_pool=True,
            attn_pooler_queries=config.queries + 1,
            attn_pooler_heads=config.pooler_heads,
            output_tokens=True,
        ),
        text_cfg=_text(config.text, config.text.unimodal_depth, embed_cls=True, output_tokens=True),
        multimodal_cfg=_text(config.text, layers),
    )


class Theirs:
    """One model, on the GPU where PyTorch has one."""

    def __init__(self, case: Case, *, compiled: bool = True) -> None:
        # Threads that spin at each other's barriers take a busy processor several times as long.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        torch = self._torch = require("torch", extra="test")
        open_clip = open_clip_module()
        cuda = torch.cuda.is_available()
        self._device = torch.device("cuda" if cuda else "cpu")
        torch.manual_seed(0)
        if cuda:
            torch.backends.cuda.matmul.allow_tf32 = True
            torch.backends.cudnn.benchmark = True
        config = case.config
        if isinstance(config, CoCaConfig):
            model, self._loss = _coca(open_clip, config), self._coca_loss(open_clip)
        else:
            model, self._loss = _clip(open_clip, config), self._clip_loss(open_clip)
        model = model.to(self._device)
        self._parameters = sum(parameter.numel() for parameter in model.parameters())
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=cuda)
        self._bfloat16 = config.dtype == "bfloat16"
        rows = cases.rows(case)
        images = torch.from_numpy(rows["image"]).permute(0, 3, 1, 2).contiguous()
        texts = torch.from_numpy(rows["text"]).long()
        self._batch = [x.pin_memory() if cuda else x for x in (images, texts)]
        self._mean, self._std = (
            torch.tensor(values, device=self._device).view(1, 3, 1, 1)
            for values in (CLIP_MEAN, CLIP_STD)
        )
        self._model = torch.compile(model) if compiled else model
        self._case, self._compiled = case, compiled
        start = time.perf_counter()
        self.steps(1)
        self._compile_seconds = time.perf_counter() - start

    def _clip_loss(self, open_clip: Any) -> Any:
        loss = open_clip.loss.ClipLoss()
        return lambda images, texts: loss(*self._model(images, texts))

    def _coca_loss(self, open_clip: Any) -> Any:
        loss = open_clip.loss.CoCaLoss(caption_loss_weight=2.0, clip_loss_weight=1.0)

        def both(images: Any, texts: Any) -> Any:
            out = self._model(images, texts)
            names = ("image_features", "text_features", "logits", "labels", "logit_scale")
            return sum(loss(*(out[name] for name in names)))

        return both

    def steps(self, count: int) -> float:
        """So many steps; the last one's loss."""
        torch = self._torch
        for _ in range(count):
            images, texts = (x.to(self._device, non_blocking=True) for x in self._batch)
            images = (images.float() / 255 - self._mean) / self._std
            self._optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
                loss = self._loss(images, texts)
            loss.backward()
            self._optimizer.step()
        return float(loss.detach())

    def facts(self, seconds: float) -> dict[str, Any]:
        """What is known besides the ``seconds`` a step takes; memory only on a GPU."""
        config = self._case.config
        cuda = self._device.type == "cuda"
        flops, how = forward_flops_total(config), []
        if isinstance(config, CoCaConfig):
            layers, flops = cases.open_clip_decoder_layers(config)
            how.append(f"{layers} of its multimodal layers")
        how.append("torch.compile" if self._compiled else "without torch.compile")
        return {
            "parameters": self._parameters,
            "flops_per_example": flops,
            "mfu": None,
            "peak_bytes": self._torch.cuda.max_memory_allocated() if cuda else None,
            "peak_bytes_by": "PyTorch's allocator" if cuda else "",
            "compile_seconds": self._compile_seconds,
            "dtype": "bfloat16" if self._bfloat16 else "float32",
            "how": ", ".join(how),
        }
