"""The network as it is trained: loaded, checked for what can be skipped, and sharded.

One strategy: FSDP2 (`fully_shard`) over all workers; a single CPU worker needs none and keeps the plain model.
Weights and optimizer state are fp32; on GPUs forward and backward run in bf16. Left out: LoRA, tensor parallelism,
loading of a model that does not fit into one worker's memory.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from atlas_ray.errors import ModelError
from atlas_ray.training import attention, last_layer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Network:
    """A model, and which work it can skip without a change of the gradient."""

    model: PreTrainedModel
    packed: bool
    """Documents can stand end to end in a row; else a row must hold a single one."""
    sparse: bool
    """The last layer puts out predicting positions alone."""


def load(path: str, *, longest: int, trust_remote_code: bool = False) -> Network:
    """The model of a directory in fp32 and in training mode; the reason of what it cannot skip is logged.

    Args:
        path: Hugging Face model directory.
        longest: tokens of the longest document that it will read.
        trust_remote_code: lets the repository's own code run.

    Raises:
        ModelError: it is not a causal language model, or has weights that are not finite.
    """
    config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    known = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    if not known and not trust_remote_code:
        raise ModelError(f"model {path}: {config.model_type!r} is no causal language model that transformers knows")
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)] if known else PreTrainedModel
    reason = attention.obstacle(model_class, config, longest)
    if reason is not None:
        logger.warning("model %s: documents are not packed, each has a row of its own: %s", path, reason)
    attention.register()
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        path,
        dtype=torch.float32,
        trust_remote_code=trust_remote_code,
        attn_implementation=attention.NAME if reason is None else "sdpa",
    )
    broken = [name for name, weight in model.named_parameters() if not torch.isfinite(weight).all()]
    if broken:
        raise ModelError(f"model {path}: {len(broken)} weights are not finite ({broken[0]}); take another base model")
    dense = "documents are not packed" if reason else last_layer.obstacle(model)
    if dense is None:
        last_layer.make_sparse(model)
    else:
        logger.warning("model %s: the last layer is computed at all positions: %s", path, dense)
    return Network(model.train(), packed=reason is None, sparse=dense is None)


def shard(model: PreTrainedModel, device: torch.device, world_size: int) -> None:
    """Shard the model over all workers, layer by layer, and place each shard on its device.

    On CPUs parameters stay gathered between forward and backward: memory is not what is short there, and gathering
    them again would cost a collective per layer.
    """
    if device.type == "cpu" and world_size == 1:
        return
    on_gpu = device.type != "cpu"
    mesh = init_device_mesh(device.type, (world_size,))
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if on_gpu else MixedPrecisionPolicy()
    layers = [module for module in model.modules() if type(module).__name__ in (model._no_split_modules or ())]
    for module in [*layers, model]:
        fully_shard(module, mesh=mesh, reshard_after_forward=None if on_gpu else False, mp_policy=policy)


def sync_gradients(model: PreTrainedModel, sync: bool) -> None:
    """Whether the next backward pass exchanges gradients; off, they add up where they are."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(sync)
