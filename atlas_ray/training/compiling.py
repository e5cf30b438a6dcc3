"""Decoder layers compiled one by one (`torch.compile`), so that the host starts a few kernels a layer, not hundreds.

Attention stays as it is: flex_attention is compiled by itself, once, and the layout of a row would be a constant of the
compiled code. So a layer is four pieces around it (norm; projections and rotary embedding; output projection; residual,
norm and MLP) with dynamic sizes: no row compiles anything anew. The layers keep their parameters and names; sharding,
checkpointed activations and adapters work on them as before. In a small model starting those few kernels still takes
the host longer than the card needs to run them; there the pieces are replayed as CUDA graphs, one for each size of row.
Left out: a last layer that is sparse (`last_layer.py`), which would be the only one of its kind, and embedding and
head, which are a kernel each.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from atlas_ray.cache import cache_dir

PLAIN, GRAPHS = "default", "reduce-overhead"
"""`torch.compile`'s names for compiled kernels, and for these replayed as CUDA graphs."""
SMALL = 500_000_000
"""Parameters of a model that is replayed as CUDA graphs. Without compiled layers an H100 reached 3 % of its peak with
135 M parameters, because it waited for the host, and 37 % with 1.2 B."""


def mode(asked: str | bool, device: torch.device, *, parameters: int, workers: int, checkpointing: bool) -> str | None:
    """How the layers are compiled: `PLAIN`, `GRAPHS` or not at all.

    Args:
        asked: `train.compile`.
        device: of the training.
        parameters: of the model.
        workers: that share it. Sharded weights are gathered into other memory each time, which a graph cannot follow.
        checkpointing: whether activations are computed again, which would replay a graph before its results are used.
    """
    if asked is False or (asked == "auto" and device.type != "cuda"):
        return None
    small = asked == "auto" and parameters < SMALL and workers == 1 and not checkpointing
    return GRAPHS if small else PLAIN


def compile_layers(model: PreTrainedModel, how: str = PLAIN, backend: Any = "inductor") -> int:
    """Compile the decoder layers in place; returns how many. Call it after adapters are added and before sharding.

    Args:
        model: as it is trained.
        how: a mode.
        backend: of `torch.compile`.
    """
    count = 0
    for layer in decoder_layers(model):
        if "forward" not in vars(layer):  # else it was replaced in this layer alone
            layer.compile(backend=backend, mode=how, dynamic=True)
            count += 1
    return count


def keep_code() -> None:
    """Keep what is compiled under `$ATLAS_CACHE`, so that the next training on this machine does not wait for it.

    Not in the run directory: the code is loaded as it lies there, and a run may come from elsewhere. A folder that the
    environment names already stays.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir() / "compiled"))


def decoder_layers(model: PreTrainedModel) -> list[Any]:
    """The modules that transformers says are not to be split; in a decoder, its layers."""
    kinds = set(model._no_split_modules or ())
    found: list[nn.Module] = [module for module in model.modules() if type(module).__name__ in kinds]
    return found
