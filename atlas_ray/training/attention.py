"""Causal attention inside each document of a packed row, as an attention implementation of transformers.

A dense mask would cost the square of the whole row and turn the causal kernel off; a loop over the documents costs
the sum of their squares. The kernel per document is PyTorch's SDPA on every device; a varlen kernel for GPUs fits
behind the same signature.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PretrainedConfig, PreTrainedModel

NAME = "atlas_documents"
"""Name of the implementation, for `attn_implementation`."""


def register() -> None:
    """Make `NAME` known to transformers, in this process."""
    AttentionInterface.register(NAME, attend)
    # Without a mask function of its own, transformers would build the dense block-diagonal mask all the same.
    AttentionMaskInterface.register(NAME, _no_mask)


def obstacle(model_class: type[PreTrainedModel], config: PretrainedConfig, longest: int) -> str | None:
    """Why attention per document would not equal the model's own; None when it does.

    Args:
        model_class: what the model will be an instance of.
        config: of the model.
        longest: tokens of the longest document; a window at least that wide changes nothing.
    """
    if not getattr(model_class, "_supports_attention_backend", False):
        return f"{model_class.__name__} does not take an attention implementation"
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    if window is None or (getattr(config, "use_sliding_window", True) is False):
        kinds.discard("sliding_attention")
        window = None
    if kinds - {"full_attention", "sliding_attention"}:
        return f"layers of kind {', '.join(sorted(kinds - {'full_attention', 'sliding_attention'}))} carry a state"
    if window is not None and window < longest:
        return f"its attention window of {window} tokens is shorter than the longest trajectory ({longest})"
    if getattr(config, "attn_logit_softcapping", None):
        return "it caps attention logits"
    if not getattr(config, "is_causal", True):
        return "its attention is not causal"
    return None


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    document_lengths: Sequence[int],
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention per document.

    Args:
        module: the attention layer.
        query: shape (1, heads, tokens, head_dim).
        key: shape (1, key-value heads, tokens, head_dim).
        value: as `key`.
        attention_mask: None; the documents say all.
        document_lengths: tokens of each document, in order; their sum is `tokens`.
        scaling: of the scores.
        dropout: of the attention weights.

    Returns:
        Shape (1, tokens, heads, head_dim), and no weights.
    """
    lengths = list(document_lengths)
    grouped = query.shape[1] != key.shape[1]
    outputs = [
        scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=grouped)
        for q, k, v in zip(*(torch.split(states, lengths, dim=2) for states in (query, key, value)), strict=True)
    ]
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


def _no_mask(*_: Any, **__: Any) -> None:
    return None
