"""Decoder layers compiled one by one (`torch.compile`), so that the host starts a few kernels a layer, not hundreds.

Attention stays as it is: flex_attention is compiled by itself, once, and the layout of a row would be a constant of the
compiled code. So a layer is four pieces around it (norm; projections and rotary embedding; output projection; residual,
norm and MLP) with dynamic sizes: no row compiles anything anew. The layers keep their parameters and names; sharding,
checkpointed activations and adapters work on them as before. Left out: a last layer that is sparse (`last_layer.py`),
which would be the only one of its kind, embedding and head, which are a kernel each, and CUDA graphs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel


def is_wanted(asked: str | bool, device: torch.device) -> bool:
    """Whether to compile: what `train.compile` says, and with `auto` on GPUs."""
    return asked is True or (asked == "auto" and device.type == "cuda")


def compile_layers(model: PreTrainedModel, backend: str = "inductor") -> int:
    """Compile the decoder layers in place; returns how many. Call it after adapters are added and before sharding.

    Args:
        model: as it is trained.
        backend: of `torch.compile`.
    """
    count = 0
    for layer in decoder_layers(model):
        if "forward" not in vars(layer):  # else it was replaced in this layer alone
            layer.compile(backend=backend, dynamic=True)
            count += 1
    return count


def decoder_layers(model: PreTrainedModel) -> list[Any]:
    """The modules that transformers says are not to be split; in a decoder, its layers."""
    kinds = set(model._no_split_modules or ())
    found: list[nn.Module] = [module for module in model.modules() if type(module).__name__ in kinds]
    return found
