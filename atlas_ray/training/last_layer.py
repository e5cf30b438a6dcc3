"""The last decoder layer with queries, output projection and MLP at predicting positions only.

Keys and values are needed everywhere, but the last layer's output at a position is read by the head at that position
and by nothing else. This saves about 1 / layers of the work. The layer's forward pass is written anew, so it is limited
to families whose layer is known: pre-norm, rotary positions, separate q, k, v, gated MLP (Llama, Qwen2, Qwen3,
Mistral).
"""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from atlas_ray.training import block_attention
from atlas_ray.training.attention import by_segment, on_path, sdpa
from atlas_ray.training.prefix_tree import Layout

_LAYERS = {"LlamaDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer", "MistralDecoderLayer"}
_PARTS = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm"}


@dataclass(frozen=True)
class Predicting:
    """Positions of a row that predict a label: one object, so that the other layers pass it on without a look at it."""

    positions: torch.Tensor
    """Ascending, shape (predictors,)."""
    per_segment: list[int]
    """How many of them each segment of the layout holds, in order."""


def obstacle(model: PreTrainedModel) -> str | None:
    """Why the last layer cannot be made sparse; None when it can."""
    layers = getattr(model.base_model, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        return f"{type(model).__name__} has no list of layers"
    last: Any = layers[-1]
    if type(last).__name__ not in _LAYERS:
        return f"{type(last).__name__} is not a layer that is known"
    parts = {name for name, _ in last.named_children()}
    attention = {name for name, _ in last.self_attn.named_children()}
    if parts != _PARTS or not attention <= _ATTENTION:
        return f"{type(last).__name__} has parts that are not known ({', '.join(sorted(parts | attention))})"
    return None


def make_sparse(model: PreTrainedModel) -> None:
    """Replace the last layer's forward pass by one that computes predicting positions only.

    The model then takes a row's `predicting` positions and returns logits of shape (1, predictors, vocabulary).
    """
    last: Any = model.base_model.layers[-1]
    last.forward = types.MethodType(_forward, last)


def _forward(
    layer: Any,
    hidden_states: torch.Tensor,
    *,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    layout: Layout,
    predicting: Predicting,
    **_: Any,
) -> torch.Tensor:
    """The layer's output at the predictors, which ascend: (1, tokens, hidden) -> (1, predictors, hidden)."""
    attention, predictors = layer.self_attn, predicting.positions
    normed = layer.input_layernorm(hidden_states)
    cos, sin = position_embeddings

    def heads(projection: nn.Module, norm: str, states: torch.Tensor) -> torch.Tensor:
        split: torch.Tensor = projection(states).view(1, states.shape[1], -1, attention.head_dim)
        normal: torch.Tensor = getattr(attention, norm, nn.Identity())(split)
        return normal.transpose(1, 2)

    query = heads(attention.q_proj, "q_norm", normed[:, predictors])
    key = heads(attention.k_proj, "k_norm", normed)
    value = heads(attention.v_proj, "", normed)
    query, _ = apply_rotary_pos_emb(query, query, cos[:, predictors], sin[:, predictors])
    key, _ = apply_rotary_pos_emb(key, key, cos, sin)

    outputs = []
    keys, values = by_segment(key, layout), by_segment(value, layout)
    queries, places = torch.split(query, predicting.per_segment, 2), torch.split(predictors, predicting.per_segment)
    for number, (segment, own, of_row) in enumerate(zip(layout.segments, queries, places, strict=True)):
        if len(of_row):  # elsewhere, nothing reads the layer's output
            k, v = on_path(keys, layout, number), on_path(values, layout, number)
            of_path = of_row + (k.shape[2] - segment.start - segment.length)
            if block_attention.suits(own):
                mixed = block_attention.attend(own, k, v, block_attention.at(of_path), attention.scaling)
            else:
                sees = torch.arange(k.shape[2], device=of_path.device) <= of_path[:, None]
                mixed = sdpa(own, k, v, attention.scaling, sees)
            outputs.append(mixed)
    mixed = torch.cat(outputs, 1).reshape(1, len(predictors), -1)
    residual = hidden_states[:, predictors] + attention.o_proj(mixed)
    output: torch.Tensor = residual + layer.mlp(layer.post_attention_layernorm(residual))
    return output
