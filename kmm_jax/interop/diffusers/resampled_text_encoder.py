"""A text encoder for StableDiffusionPipeline: XLM-RoBERTa, and queries that gather from it.

This file lies in the folder ``text_encoder`` of a model and is run by diffusers and transformers
alone:

    StableDiffusionPipeline.from_pretrained(MODEL, trust_remote_code=True)
    AutoModel.from_pretrained(f"{MODEL}/text_encoder", trust_remote_code=True)

B batch, T tokens, Q positions, R width of the tower, D width of the sequence, P of the pooled text.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PretrainedConfig, PreTrainedModel, XLMRobertaConfig, XLMRobertaModel
from transformers.modeling_outputs import BaseModelOutputWithPooling


class ResampledTextConfig(PretrainedConfig):
    """The sizes, as ``config.json`` has them; ``tower`` is a configuration of XLM-RoBERTa."""

    model_type = "resampled_text_encoder"

    def __init__(
        self,
        tower: dict[str, Any] | None = None,
        length: int = 77,
        positions: int = 77,
        hidden_size: int = 768,
        resampler_layers: int = 4,
        resampler_heads: int = 12,
        resampler_hidden: int = 3072,
        projection_dim: int | None = None,
        layer_norm_eps: float = 1e-5,
        **more: Any,
    ) -> None:
        self.tower = dict(tower or {})
        self.length, self.positions, self.hidden_size = length, positions, hidden_size
        self.resampler_layers, self.resampler_heads = resampler_layers, resampler_heads
        self.resampler_hidden = resampler_hidden
        self.projection_dim, self.layer_norm_eps = projection_dim, layer_norm_eps
        super().__init__(**more)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(
        self, x: torch.Tensor, context: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        def split(y: torch.Tensor) -> torch.Tensor:
            return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        gathered = functional.scaled_dot_product_attention(
            split(self.query(x)), split(self.key(context)), split(self.value(context)), mask
        )
        joined: torch.Tensor = self.out(gathered.transpose(1, 2).flatten(-2))
        return joined


class _MLP(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.down(functional.gelu(self.up(x)))
        return result


class _Layer(nn.Module):
    """Queries look at each other, then at what was read; norms come first."""

    def __init__(self, config: ResampledTextConfig, width: int) -> None:
        super().__init__()
        heads, epsilon = config.resampler_heads, config.layer_norm_eps
        self.attention_norm = nn.LayerNorm(width, eps=epsilon)
        self.attention = _Attention(width, heads)
        self.cross_norm = nn.LayerNorm(width, eps=epsilon)
        self.cross_attention = _Attention(width, heads)
        self.mlp_norm = nn.LayerNorm(width, eps=epsilon)
        self.mlp = _MLP(width, config.resampler_hidden)

    def forward(self, x: torch.Tensor, read: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        normed = self.attention_norm(x)
        x = x + self.attention(normed, normed)
        x = x + self.cross_attention(self.cross_norm(x), read, mask)
        result: torch.Tensor = x + self.mlp(self.mlp_norm(x))
        return result


class ResampledTextEncoder(PreTrainedModel):
    """Token ids (B, T) to states (B, Q, D) as the UNet attends to them, and one vector a text."""

    config_class = ResampledTextConfig
    main_input_name = "input_ids"

    def __init__(self, config: ResampledTextConfig) -> None:
        super().__init__(config)
        self.tower = XLMRobertaModel(XLMRobertaConfig(**config.tower), add_pooling_layer=False)
        width = self.tower.config.hidden_size
        self.queries = nn.Parameter(torch.randn(config.positions + 1, width) * 0.02)
        self.layers = nn.ModuleList(_Layer(config, width) for _ in range(config.resampler_layers))
        self.output = nn.Linear(width, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.projection = None
        if config.projection_dim is not None:
            self.projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **more: Any,
    ) -> Any:
        """``last_hidden_state`` (B, Q, D) and ``pooler_output`` (B, P).

        Args:
            attention_mask: not looked at: padding is known by its id.
        """
        if output_hidden_states:
            raise ValueError(
                "a resampled text encoder has states behind its last layer alone: leave clip_skip "
                "and output_hidden_states out"
            )
        ids = self._cut(input_ids)
        read_there = torch.ne(ids, self.config.pad_token_id)
        read = self.tower(input_ids=ids, attention_mask=read_there.long())[0]
        x = self.queries.expand(len(ids), -1, -1)
        for layer in self.layers:
            x = layer(x, read, read_there[:, None, None])
        states = self.norm(self.output(x))
        hidden, pooled = states[:, :-1], states[:, -1]
        if self.projection is not None:
            pooled = self.projection(pooled)
        if return_dict is False:
            return hidden, pooled
        return BaseModelOutputWithPooling(last_hidden_state=hidden, pooler_output=pooled)

    def _cut(self, ids: torch.Tensor) -> torch.Tensor:
        """As many tokens as the encoder takes, closed by the end as the tokenizer would.

        diffusers cuts negative prompts at the number of positions, not of tokens.
        """
        if ids.shape[1] <= self.config.length:
            return ids
        last = ids[:, self.config.length - 1 : self.config.length]
        end = torch.full_like(last, self.config.eos_token_id)
        closed = torch.where(last == self.config.pad_token_id, last, end)
        return torch.cat([ids[:, : self.config.length - 1], closed], dim=1)
