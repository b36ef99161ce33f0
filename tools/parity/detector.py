"""LAION's watermark detector in PyTorch with random weights and statistics, and its import here."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from kmm_jax.interop import detectors
from kmm_jax.models.efficientnet import FEATURES
from tools.bench.torch_reference import open_clip_module
from tools.parity import compare

NAME = "laion-watermark"
TITLE = "Watermark detector of LAION-5B"
REFERENCE = "timm efficientnet_b3"
_SIZE = 320


def pictures(batch: int, size: int, seed: int = 0) -> np.ndarray:
    """Random pictures (uint8) of coarse patches and fine grain, each with a contrast of its own.

    Plain noise is the same to a net that averages over the picture.
    """
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(batch, 8, 8, 3)).repeat(size // 8, axis=1).repeat(size // 8, axis=2)
    contrast = np.linspace(20, 120, batch)[:, None, None, None]
    tint = rng.normal(scale=40, size=(batch, 1, 1, 3))
    grain = rng.normal(scale=8, size=coarse.shape)
    return np.clip(128 + tint + contrast * coarse + grain, 0, 255).astype(np.uint8)


def original(size: int = _SIZE, *, seed: int = 0) -> Any:
    """timm's net with LAION's classifier, as its example_use.py builds it, all of it at random.

    Statistics are those of random pictures of this size, shaken: drawn without regard to what comes
    in, they would drown the picture a little more in each block, or blow it up.
    """
    open_clip_module()  # makes torchvision importable, which timm imports
    torch = importlib.import_module("torch")
    timm = importlib.import_module("timm")
    torch.manual_seed(seed)
    model = timm.create_model("efficientnet_b3", pretrained=False, num_classes=2)
    linear, relu = torch.nn.Linear, torch.nn.ReLU
    model.classifier = torch.nn.Sequential(
        linear(FEATURES, 625), relu(), torch.nn.Dropout(0.3), linear(625, 256), relu(),
        linear(256, 2),
    )  # fmt: skip
    norms = [each for each in model.modules() if isinstance(each, torch.nn.BatchNorm2d)]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for each in model.classifier:
            if isinstance(each, linear):
                spread = 2 * each.in_features**-0.5
                each.weight.normal_(0, spread, generator=generator)
                each.bias.normal_(0, 0.1, generator=generator)
        for norm in norms:
            norm.weight.uniform_(0.5, 1.5, generator=generator)
            norm.bias.normal_(0, 0.3, generator=generator)
            norm.momentum = 1.0
        model.train()
        model(_normalised(pictures(8, size, seed=seed + 1)))
        for norm in norms:
            noise = torch.randn(norm.running_mean.shape, generator=generator)
            norm.running_mean += 0.1 * noise * norm.running_var.sqrt()
            norm.running_var *= 0.9 + 0.4 * torch.rand(noise.shape, generator=generator)
    return model.eval()


def _normalised(pixels_BSSC: np.ndarray) -> Any:
    """Pixels as PyTorch's net takes them."""
    usual = detectors.DetectorConfig()
    scaled = (pixels_BSSC / 255 - np.asarray(usual.mean)) / np.asarray(usual.std)
    moved = np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), np.float32)
    return importlib.import_module("torch").from_numpy(moved)


def save(model: Any, file: Path) -> None:
    """The state dict as LAION's is once it is safetensors."""
    from safetensors.torch import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().clone() for name, value in model.state_dict().items()}
    save_file(tensors, str(file))


def logits(model: Any, pixels_BSSC: np.ndarray) -> np.ndarray:
    """What PyTorch gives of uint8 pixels."""
    with importlib.import_module("torch").no_grad():
        return np.asarray(model(_normalised(pixels_BSSC)))


def measured(folder: Path, *, batch: int, size: int = _SIZE) -> dict[str, Any]:
    """The error of its logits at full size, through files."""
    theirs = original(size)
    began = time.monotonic()
    save(theirs, folder / "laion.safetensors")
    weights = detectors.recognise(folder / "laion.safetensors")
    assert weights is not None, "its names are not recognised"
    imported = detectors.from_timm(weights, folder)
    detectors.save(folder / "detector", imported, image_size=size)
    config, ours = detectors.load(folder / "detector")
    seconds = time.monotonic() - began
    pixels = pictures(batch, size)
    normal = (pixels / 255 - np.asarray(config.mean)) / np.asarray(config.std)
    found = jax.jit(lambda model, x: model(x))(ours, jnp.asarray(normal, jnp.float32))
    return {
        "title": TITLE,
        "reference": REFERENCE,
        "family": NAME,
        "parameters": sum(x.size for x in jax.tree.leaves(nnx.state(ours, nnx.Param))),
        "errors": {"logits": compare.error(np.asarray(found), logits(theirs, pixels))},
        "tensors_come_back_equal": None,
        "seconds_to_save_and_import": seconds,
    }
