"""Decides which work is left out: by the user's switches, and by what is exact for the model.

An optimization is exact because attention is causal and every other part of a decoder computes token by token
(docs/training.md has the derivations). What breaks one of the two forbids it: dropout, which draws by position in the
row, attention windows, and recurrent states. Left out: the optimizations themselves.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from atlas_ray.config import TrainConfig
from atlas_ray.errors import ModelError
from atlas_ray.training import last_layer
from atlas_ray.training.job import ExactOptimizations

_DROPOUT = ("attention_dropout", "attn_dropout", "hidden_dropout", "activation_dropout", "layerdrop", "dropout")


def truncation(model: PreTrainedModel, options: TrainConfig) -> bool:
    """Whether trajectories are cut after their last label.

    Raises:
        ModelError: it is demanded and not exact for this model.
    """
    return _decide(options.exact.truncate, "truncate", _not_causal(model) or _dropout(model), {})


def decide(
    model: PreTrainedModel, options: TrainConfig, kernel: str, longest: int
) -> tuple[ExactOptimizations, dict[str, str]]:
    """The optimizations to use, and for each switch that the user left open and that stays off the reason.

    Args:
        model: may be on the meta device.
        options: `exact` counts here.
        kernel: of attention: `sdpa`, `flex` or `flash`.
        longest: tokens of the longest trajectory; an attention window at least that wide changes nothing.

    Raises:
        ModelError: a switch is demanded and not exact for this model.
    """
    wanted = options.exact
    reasons: dict[str, str] = {}
    apart = _no_attention_per_trajectory(model, longest)
    head = None
    if "logits_to_keep" not in inspect.signature(model.forward).parameters:
        head = f"{type(model).__name__} computes logits at all positions or at none"
    head_at_labels = _decide(wanted.head_at_labels, "head_at_labels", head, reasons)
    pack = _decide(wanted.pack, "pack", apart, reasons)
    no_tree = apart or (None if pack else "trajectories are not packed")
    if kernel == "flash":
        no_tree = no_tree or "FlashAttention knows no shared beginnings; use train.attention=flex"
    dense = apart or last_layer.obstacle(model) or (None if head_at_labels else "logits are computed at all positions")
    optimizations = ExactOptimizations(
        head_at_labels=head_at_labels,
        truncate=_decide(wanted.truncate, "truncate", _not_causal(model) or _dropout(model), reasons),
        pack=pack,
        prefix_tree=_decide(wanted.prefix_tree, "prefix_tree", no_tree, reasons),
        sparse_last_layer=_decide(wanted.sparse_last_layer, "sparse_last_layer", dense, reasons),
    )
    return optimizations, reasons


def _decide(wanted: bool | None, switch: str, obstacle: str | None, reasons: dict[str, str]) -> bool:
    if wanted and obstacle:
        raise ModelError(f"train.exact.{switch}: not exact for this model: {obstacle}; leave the switch out")
    if wanted is None and obstacle:
        reasons[switch] = obstacle
    return wanted is not False and obstacle is None


def _no_attention_per_trajectory(model: PreTrainedModel, longest: int) -> str | None:
    """Why attention per trajectory would not equal the model's own; None when it does."""
    config = model.config
    if not getattr(model, "_supports_attention_backend", False):
        return f"{type(model).__name__} takes no attention implementation"
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    if window is None or (getattr(config, "use_sliding_window", True) is False):
        kinds.discard("sliding_attention")
        window = None
    if kinds - {"full_attention", "sliding_attention"}:
        return f"layers of kind {', '.join(sorted(kinds - {'full_attention', 'sliding_attention'}))} carry a state"
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv1d):
            return f"the convolution {name} reads across trajectories"
        if hasattr(module, "sinks"):
            return f"the attention sinks of {name} take part in every softmax"
    if window is not None and window < longest:
        return f"its attention window of {window} tokens is shorter than the longest trajectory ({longest})"
    if getattr(config, "attn_logit_softcapping", None):
        return "it caps attention logits"
    return _not_causal(model) or _dropout(model)


def _not_causal(model: PreTrainedModel) -> str | None:
    config = model.config
    # Encoders that transformers also offers as language models say `is_decoder`; decoders do not have to.
    encoder = getattr(config, "is_decoder", None) is False and hasattr(model.base_model, "encoder")
    return "its attention is not causal" if encoder or getattr(config, "is_causal", True) is False else None


def _dropout(model: PreTrainedModel) -> str | None:
    found = next(_dropouts(model), None)
    return f"{found} draws by position in the row" if found else None


def _dropouts(model: nn.Module) -> Iterator[str]:
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
            yield f"dropout of {module.p} in {name}"
        for attribute in _DROPOUT:
            value: Any = getattr(module, attribute, None)
            if isinstance(value, float) and value > 0:
                yield f"{attribute} of {value} in {name}"


def meta_model(config: Any, *, trust_remote_code: bool = False) -> PreTrainedModel:
    """The model of a configuration without its weights: every tensor on the meta device."""
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    return model
