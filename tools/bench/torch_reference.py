"""open_clip beside a PyTorch whose torchvision was built for another one."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Any

from kmm_jax.errors import UserError, require

_declared: list[Any] = []  # the operators live as long as this reference to their library


def open_clip_module() -> ModuleType:
    """Import open_clip.

    torchvision's published wheels want a CUDA PyTorch and fail to register two operators beside a
    CPU one. open_clip's models call neither, so declaring them is enough.

    Raises:
        UserError: PyTorch or open_clip is not installed.
    """
    torch = require("torch", extra="test")
    if importlib.util.find_spec("torchvision") is None:
        raise UserError("torchvision is needed by open_clip; install kmm-jax[test]")
    if not _declared:
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
    return importlib.import_module("open_clip")
