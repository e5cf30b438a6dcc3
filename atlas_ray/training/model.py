"""The network as it is trained: loaded, with the optimizations that `exact.decide` allows, and sharded.

Sharding is FSDP2 (`fully_shard`) over all workers; a single worker keeps the plain model, because sharding over one GPU
costs the host more time than a small model takes to compute. Rank 0 alone reads the weights and sends the other ranks
their shards. Weights that are tuned and the optimizer's state are fp32; forward and backward passes run in
`train.dtype`, in which weights that adapters leave alone are held too. Left out: tensor parallelism, and models that do
not fit into one node's memory.
"""

from __future__ import annotations

import logging
from collections.abc import Set
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from atlas_ray.config import TrainConfig
from atlas_ray.errors import ModelError
from atlas_ray.inference.fits import processor_dtype, processor_flags
from atlas_ray.training import attention, compiling, exact, last_layer, lora
from atlas_ray.training.job import ExactOptimizations

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Network:
    """A model, and the optimizations that its rows must be laid out for."""

    model: PreTrainedModel
    optimizations: ExactOptimizations
    kernel: str = "sdpa"
    """Of attention."""
    mixed: bool = False
    """Forward passes run in bf16 by `torch.autocast`; a sharded model has a policy for that."""
    compiled: str | None = None
    """`torch.compile`'s mode of the decoder layers; None: they are not compiled."""

    @property
    def graphs(self) -> bool:
        """Whether the layers are replayed as CUDA graphs, whose results are valid until the next row."""
        return self.compiled == compiling.GRAPHS

    def clear_gradients(self) -> None:
        """Before a step. With CUDA graphs gradients have memory of their own that stays, into which rows are added up;
        else the first row's gradients, which the second row overwrites, would become the parameters' own."""
        self.model.zero_grad(set_to_none=not self.graphs)
        for weight in self.model.parameters():
            if self.graphs and weight.requires_grad and weight.grad is None:
                weight.grad = torch.zeros_like(weight)


@dataclass(frozen=True)
class Recipe:
    """All that determines how a model directory becomes a network."""

    path: str
    optimizations: ExactOptimizations
    kernel: str
    options: TrainConfig
    seed: int = 0
    """Of the adapters' first weights."""
    trust_remote_code: bool = False


def config_of(path: str, *, trust_remote_code: bool = False) -> PreTrainedConfig:
    """The configuration of a causal language model.

    Raises:
        ModelError: it is none, or its loss has a term that ours has not.
    """
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    except ValueError as error:  # it has code of its own, or is of a kind that transformers does not know
        raise ModelError(f"model {path}: {' '.join(str(error).split())[:300]}") from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and not trust_remote_code:
        raise ModelError(f"model {path}: {config.model_type!r} is no causal language model that transformers knows")
    if getattr(config, "output_router_logits", False):
        raise ModelError(
            f"model {path}: its config asks for the router's auxiliary loss over all tokens, which the loss on "
            "critical steps has no part of; set output_router_logits to false in config.json"
        )
    return config


def load(recipe: Recipe) -> Network:
    """The model of a directory in fp32 and in training mode.

    Raises:
        ModelError: it is not a causal language model, or has weights that are not finite.
    """
    config = config_of(recipe.path, trust_remote_code=recipe.trust_remote_code)
    attention.register()
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        recipe.path,
        dtype=torch.float32,
        trust_remote_code=recipe.trust_remote_code,
        attn_implementation=_implementation(recipe, config),
    )
    broken = [name for name, weight in model.named_parameters() if not torch.isfinite(weight).all()]
    if broken:
        raise ModelError(
            f"model {recipe.path}: {len(broken)} weights are not finite ({broken[0]}); take another base model"
        )
    return _adapt(model, recipe)


def load_sharded(recipe: Recipe, device: torch.device, rank: int, world: int) -> Network:
    """As `load`, but every rank gets its shard; all ranks call it."""
    if world == 1:
        network = load(recipe)
        if is_mixed(recipe.options, device):
            network = in_bf16(network)  # before it is moved: a GPU may have no room for frozen weights in fp32
        network.model.to(device)
        return compiled(network, recipe.options, device, workers=world)
    failure: list[str | None] = [None]
    if rank == 0:
        try:
            network = load(recipe)
        except ModelError as error:
            failure = [str(error)]
    dist.broadcast_object_list(failure, src=0)
    if failure[0] is not None:
        raise ModelError(failure[0])
    if rank:
        network = _blank(recipe)
    network = compiled(network, recipe.options, device, workers=world)
    model = network.model
    mixed = _agreed(is_mixed(recipe.options, device))
    if mixed:
        _freeze_in_bf16(model)
    weights = model.state_dict() if rank == 0 else {}
    _shard(model, device, world, mixed=mixed)
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(model, weights, options=options)
    for buffer in model.buffers():  # also those that no state dict holds, as the rotary frequencies
        dist.broadcast(buffer, src=0)
    return network


def is_mixed(options: TrainConfig, device: torch.device, flags: Set[str] | None = None) -> bool:
    """Whether forward and backward passes run in bf16; `flags` are the processor's, None: this machine's."""
    if options.dtype == "auto":
        return device.type != "cpu" or processor_dtype(processor_flags() if flags is None else flags) == "bfloat16"
    return options.dtype == "bfloat16"


def in_bf16(network: Network) -> Network:
    """The network with forward passes in bf16: weights that are tuned and their gradients stay fp32.

    Autocast alone would leave the sums between the layers in fp32, which are most of what is read and written, and
    what norms return, of which each projection behind them would then keep a copy of its own.
    """
    _freeze_in_bf16(network.model)
    for module in network.model.modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, nn.Embedding) or (isinstance(weight, torch.Tensor) and weight.dim() == 1):
            module.register_forward_hook(lambda _module, _given, states: states.bfloat16())
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = False  # else each adapter would make an fp32 copy of what it is given
    return replace(network, mixed=True)


def _freeze_in_bf16(model: PreTrainedModel) -> None:
    """Hold matrices that adapters leave alone in bf16, to which forward passes would round them anyway."""
    for weight in model.parameters():
        if not weight.requires_grad and weight.dim() > 1:
            weight.data = weight.data.bfloat16()


def compiled(network: Network, options: TrainConfig, device: torch.device, *, workers: int) -> Network:
    """The network with its layers compiled as `train.compile` says."""
    parameters = sum(weight.numel() for weight in network.model.parameters())
    mode = compiling.mode(
        options.compile, device, parameters=parameters, workers=workers, checkpointing=options.activation_checkpointing
    )
    if mode is None:
        return network
    compiling.keep_code()
    compiling.compile_layers(network.model, mode)
    return replace(network, compiled=mode)


def sync_gradients(model: PreTrainedModel, sync: bool) -> None:
    """Set whether the next backward pass exchanges gradients; off, each rank adds up its own."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(sync)


def _implementation(recipe: Recipe, config: PreTrainedConfig) -> str | None:
    """An attention implementation that computes what the model's own does; None leaves the choice to transformers."""
    if recipe.optimizations.attends_per_document:
        return attention.NAMES[recipe.kernel]
    if getattr(config, "attn_logit_softcapping", None):
        return "eager"  # transformers' other implementations on CPUs leave the cap out
    return attention.NAMES["flash"] if recipe.kernel == "flash" else None


def _blank(recipe: Recipe) -> Network:
    """The same network with uninitialised weights."""
    attention.register()
    config = config_of(recipe.path, trust_remote_code=recipe.trust_remote_code)
    config._attn_implementation = _implementation(recipe, config)
    model = exact.meta_model(config, trust_remote_code=recipe.trust_remote_code).float()
    model.to_empty(device="cpu")
    model.tie_weights()
    return _adapt(model, recipe)


def _adapt(model: PreTrainedModel, recipe: Recipe) -> Network:
    if recipe.optimizations.sparse_last_layer:
        last_layer.make_sparse(model)
    if recipe.options.lora is not None:
        torch.manual_seed(recipe.seed)
        lora.add(model, recipe.options.lora)
    if recipe.options.activation_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return Network(model.train(), recipe.optimizations, recipe.kernel)


def _agreed(mine: bool) -> bool:
    """Whether all ranks say so: with `train.dtype: auto` processors of several kinds would exchange several dtypes."""
    said: list[bool] = [False] * dist.get_world_size()
    dist.all_gather_object(said, mine)
    return all(said)


def _shard(model: PreTrainedModel, device: torch.device, world: int, *, mixed: bool) -> None:
    """Shard the model over all workers, layer by layer, each shard on its worker's device.

    On CPUs parameters stay gathered between forward and backward: memory is not short there, and gathering them again
    would cost a collective per layer.
    """
    mesh = init_device_mesh(device.type, (world,))
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if mixed else MixedPrecisionPolicy()
    gathered_again = None if device.type != "cpu" else False
    for module in [*compiling.decoder_layers(model), model]:
        fully_shard(module, mesh=mesh, reshard_after_forward=gathered_again, mp_policy=policy)
