"""CLIPs of other libraries whose texts go through an XLM-RoBERTa, with random weights."""

from __future__ import annotations

import dataclasses
import importlib
import json
import tempfile
from pathlib import Path
from typing import Any

from tools.bench.torch_reference import open_clip_module
from tools.parity.originals import Original, Sizes, hf_clip, randomised

BASE = Sizes(text_width=768, text_depth=12, text_heads=12, vocabulary=250_002)
LARGE = dataclasses.replace(BASE, text_width=1024, text_depth=24, text_heads=16)
_MARKS = (0, 2, 1)
_SPACE_FOR_MARKS = 2


def tower_config(sizes: Sizes) -> Any:
    """transformers' ``XLMRobertaConfig``, as the published models have it but for their sizes."""
    return importlib.import_module("transformers").XLMRobertaConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.text_width,
        num_hidden_layers=sizes.text_depth,
        num_attention_heads=sizes.text_heads,
        intermediate_size=4 * sizes.text_width,
        max_position_embeddings=512 + _SPACE_FOR_MARKS,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
    )


def mean_of_tokens(tower: Any, ids: Any) -> Any:
    """The mean of a text's vectors, padding left out, as M-CLIP's code pools them."""
    open_BT = (ids != tower.config.pad_token_id).long()
    x_BTD = tower(input_ids=ids, attention_mask=open_BT)[0]
    return (x_BTD * open_BT.unsqueeze(2)).sum(dim=1) / open_BT.sum(dim=1)[:, None]


def m_clip(sizes: Sizes = LARGE, *, beside: Original | None = None) -> Original:
    """M-CLIP's ``MultilingualCLIP``, put together as its code is, beside a CLIP (by default Hugging
    Face's ViT-B/32).

    Its package asks for a transformers of long ago.
    """
    torch = importlib.import_module("torch")
    beside = beside or hf_clip(dataclasses.replace(Sizes(), embedding=sizes.embedding))
    transformers = importlib.import_module("transformers")

    class MultilingualCLIP(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = transformers.XLMRobertaModel(
                tower_config(sizes), add_pooling_layer=False
            )
            self.LinearTransformation = torch.nn.Linear(sizes.text_width, sizes.embedding)

        def encode(self, ids: Any) -> Any:
            return self.LinearTransformation(mean_of_tokens(self.transformer, ids))

    module = randomised(MultilingualCLIP())
    about = {
        "model_type": "M-CLIP",
        "modelBase": "xlm-roberta-large",
        "transformerDimensions": sizes.text_width,
        "numDims": sizes.embedding,
    }
    return Original(
        family="m-clip",
        module=module,
        files={"config.json": about},
        image=beside.image,
        text=module.encode,
        marks=_MARKS,
        beside=beside,
        sizes=sizes,
    )


def open_clip_xlm_roberta(
    sizes: Sizes = BASE, *, pooler: str = "mean_pooler", projection: str = "mlp"
) -> Original:
    """open_clip's ``CustomTextCLIP`` with Hugging Face's tower, by default
    xlm-roberta-base-ViT-B-32."""
    library = open_clip_module()
    vision = sizes.open_clip_vision
    text = {"hf_pooler_type": pooler, "hf_proj_type": projection}
    with tempfile.TemporaryDirectory() as folder:
        # open_clip looks for the tower's sizes under a name on the Hub, or in a folder.
        config = {**tower_config(sizes).to_dict(), "model_type": "xlm-roberta"}
        (Path(folder) / "config.json").write_text(json.dumps(config), "utf-8")
        module = library.model.CustomTextCLIP(
            embed_dim=sizes.embedding,
            vision_cfg=library.CLIPVisionCfg(**vision),
            text_cfg=library.CLIPTextCfg(hf_model_name=folder, hf_model_pretrained=False, **text),
        )
    module = randomised(module)
    about = {
        "embed_dim": sizes.embedding,
        "vision_cfg": vision,
        "text_cfg": {
            "context_length": sizes.length,
            "hf_model_name": "xlm-roberta-base",
            "hf_tokenizer_name": "xlm-roberta-base",
            **text,
        },
    }
    return Original(
        family="open-clip-xlm-roberta",
        module=module,
        files={"open_clip_config.json": {"model_cfg": about}},
        image=module.encode_image,
        text=module.encode_text,
        marks=_MARKS,
        sizes=sizes,
    )
