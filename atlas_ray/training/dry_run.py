"""`atlas-ray train --dry-run`: memory, FLOPs and hours of a training run, from the architecture alone.

Neither weights nor network are needed: the model is built on the meta device and one packed row is sent through it, so
that activations are counted, not guessed. Hours follow from the FLOPs, the GPU's data sheet and the share of it that
the run's own steps reached; before there are any, from an assumed share.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import (
    AttentionInterface,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from atlas_ray import hub, models
from atlas_ray.config import PipelineConfig, TrainConfig
from atlas_ray.errors import ConfigError, HubError, ModelError
from atlas_ray.store import Store
from atlas_ray.training import flops, last_layer, lora, packing
from atlas_ray.training.exact import decide, meta_model
from atlas_ray.training.examples import Example, by_trajectory, choose, prepare
from atlas_ray.training.fit import SHARE, Needs, row_tokens
from atlas_ray.training.flops import Counts
from atlas_ray.training.hardware import GPUS
from atlas_ray.training.job import ExactOptimizations
from atlas_ray.training.log import FILE
from atlas_ray.training.loss import Row, make_row, token_losses
from atlas_ray.training.model import Network, config_of
from atlas_ray.training.prefix_tree import lay_out

ARCHITECTURES: dict[str, Callable[[], PreTrainedConfig]] = {
    "meta-llama/Llama-3.1-8B-Instruct": lambda: LlamaConfig(
        vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, max_position_embeddings=131072,
    ),
    "Qwen/Qwen2.5-7B-Instruct": lambda: Qwen2Config(
        vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28,
        num_key_value_heads=4,
    ),
    "mistralai/Mistral-7B-Instruct-v0.3": lambda: MistralConfig(
        vocab_size=32768, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, sliding_window=None,
    ),
    "Qwen/Qwen3-4B": lambda: Qwen3Config(
        vocab_size=151936, hidden_size=2560, intermediate_size=9728, num_hidden_layers=36, num_attention_heads=32,
        num_key_value_heads=8, head_dim=128, tie_word_embeddings=True,
    ),
    "Qwen/Qwen3-8B": lambda: Qwen3Config(
        vocab_size=151936, hidden_size=4096, intermediate_size=12288, num_hidden_layers=36, num_attention_heads=32,
        num_key_value_heads=8, head_dim=128,
    ),
    models.ON_BOARD: lambda: LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True,
    ),
}  # fmt: skip
"""Models whose shape is known without their files; any other needs a directory with config.json."""
MFU = 0.4
"""Assumed share of the data sheet's FLOP/s."""
_RATIO_TOKENS = 1 / 3
"""Assumed share of a trajectory's tokens that its steps are."""
_KERNEL = "atlas_meta"
_DOCUMENT, _STEPS = 1024, 10


@dataclass(frozen=True)
class Data:
    """Counts of the data that would be trained on."""

    trajectories: int
    whole: Counts
    """The trajectories in full, or where the chat template rewrites earlier turns, their rows."""
    read: Counts
    """Up to their last labels, with what the rows of a trajectory share once."""
    source: str
    """Where the numbers come from."""


def dry_run(config: PipelineConfig, gpu: str, mean_tokens: int) -> str:
    """The text that the job prints.

    Args:
        config: of the pipeline.
        gpu: a name of `hardware.GPUS`.
        mean_tokens: of a trajectory, where none has been collected yet.

    Raises:
        ConfigError: the GPU is not known, or the objective is not `sft`.
        ModelError: the model's shape is not known here.
    """
    if gpu not in GPUS:
        raise ConfigError(f"--gpu {gpu}: not known; take one of {', '.join(GPUS)}")
    options = config.train
    if options.objective != "sft":
        raise ConfigError(f"--dry-run counts supervised training alone; leave out train.objective={options.objective}")
    model = meta_model(architecture(config.model), trust_remote_code=config.trust_remote_code)
    optimizations, reasons = decide(model, options, "flex", longest=options.max_length)
    data = _data(config, mean_tokens, optimizations)
    parameters = sum(weight.numel() for weight in model.parameters())
    labels = data.read.predictors / max(1, data.read.tokens)
    row = options.row_tokens if optimizations.pack else round(data.read.tokens / data.trajectories)
    if options.lora is not None:
        lora.add(model, options.lora)
    shape = flops.shape_of(model)
    tuned = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    peak, size = GPUS[gpu]
    needed_bytes = needs(model, options, optimizations, labels)
    fits = needed_bytes.tokens(size * 1e9)
    if options.pack_tokens == "auto" and optimizations.pack and fits > 0:
        row = row_tokens(needed_bytes, size * 1e9, 1)
    memory = _memory(model, options, *activation_bytes(model, options, optimizations, row, labels))
    plain = shape.step(data.whole, head_at_labels=False, sparse_last_layer=False) * options.epochs
    needed = options.epochs * shape.step(
        data.read, head_at_labels=optimizations.head_at_labels, sparse_last_layer=optimizations.sparse_last_layer
    )
    reached = _reached(Store(config.run_dir), peak)
    # Of the assumed rate the forward pass that is computed again takes its part; a measured one counts needed work.
    computed = needed * 4 / 3 if options.activation_checkpointing and reached is None else needed
    share, source = (MFU, "an assumption until the run has made 10 steps") if reached is None else (reached, "reached")
    total = sum(memory.values()) / 1e9
    too_much = ": TOO MUCH; set train.activation_checkpointing, train.lora or more workers"
    steps = packing.steps_per_epoch(data.trajectories, options.batch_size) * options.epochs
    lines = [
        f"model       {config.model}: {parameters / 1e9:.2f} B parameters, {tuned / 1e9:.3g} B tuned",
        f"data        {data.trajectories} trajectories ({data.source})",
        f"            {data.whole.tokens / 1e6:.1f} M tokens, {data.read.tokens / 1e6:.1f} M read, "
        f"{data.read.predictors / 1e6:.1f} M labels",
        f"steps       {steps} of {options.batch_size} trajectories in {options.epochs} epochs",
        f"memory      {total:.0f} GB on each of {options.workers} x {gpu} ({size} GB)"
        + ("" if total <= SHARE * size else too_much),
        *(f"            {value / 1e9:6.1f} GB {name}" for name, value in memory.items() if value),
        f"rows        of {row} tokens; a trajectory of at most {max(0, fits)} tokens fits on a GPU",
        f"FLOPs       {needed:.3g}; {1 - needed / plain:.0%} of the plain {plain:.3g} are left out",
        f"time        {computed / (peak * share * options.workers) / 3600:.1f} hours at {share:.0%} of "
        f"{peak / 1e12:.0f} TFLOP/s a GPU ({source})",
        *(f"off         train.exact.{switch}: {reason}" for switch, reason in reasons.items()),
    ]
    return "\n".join(lines)


def _reached(store: Store, peak: float) -> float | None:
    """Median share of a GPU's FLOP/s that this run's steps on such GPUs reached; None: fewer than 10 are logged."""
    shares = []
    for row in store.journal(*FILE):
        gpus = row["flops"] / row["seconds"] / row["mfu"] / peak
        if gpus > 0.5 and abs(gpus - round(gpus)) < 0.01:
            shares.append(row["mfu"])
    return statistics.median(shares) if len(shares) >= _STEPS else None


def architecture(name: str) -> PreTrainedConfig:
    """The configuration of a model: from its directory, the built-in table, or the Hugging Face cache or Hub.

    Raises:
        ModelError: none of them knows it.
    """
    if Path(name).expanduser().is_dir():
        if not Path(name).expanduser().joinpath("config.json").is_file():
            raise ModelError(f"model {name}: config.json is missing; the dry run needs nothing else")
        return config_of(str(Path(name).expanduser()))
    if (known := name.partition("@")[0]) in ARCHITECTURES:
        return ARCHITECTURES[known]()
    try:
        return config_of(str(hub.fetch(models.reference(name), ["*.json"])) if models.is_on_hub(name) else name)
    except (OSError, ValueError, HubError) as error:
        raise ModelError(
            f"model {name!r}: its config.json is neither cached nor to be had; give a directory that holds one, or one "
            f"of {', '.join(ARCHITECTURES)}"
        ) from error


def activation_bytes(
    model: PreTrainedModel, options: TrainConfig, optimizations: ExactOptimizations, tokens: int, labels: float
) -> tuple[int, int]:
    """Bytes that one row keeps for its backward pass, in bf16, and bytes that this begins with: the gradient of the
    logits, or the activations of a layer that are computed again.

    A row as training makes it is sent through the model. Every tensor that autograd saves on the meta device is counted
    once; attention saves what a flash kernel would. Of what compiled layers compute again, adapters are left out.

    Args:
        model: on the meta device, adapters included; it is changed.
        options: of the training.
        optimizations: what is left out.
        tokens: of the row, which holds documents of 1,024.
        labels: share of the tokens that predict a label.
    """
    AttentionInterface.register(_KERNEL, _flash)
    model.config._attn_implementation = _KERNEL
    model.to(torch.bfloat16).train()
    if optimizations.sparse_last_layer:
        last_layer.make_sparse(model)
    model.gradient_checkpointing_disable()
    row = _row(tokens, labels)
    kept = _kept(model, optimizations, row)
    vocabulary = model.get_output_embeddings().weight.shape[0]
    of_all = 0 if optimizations.head_at_labels else 2 * tokens  # in bf16, where all logits have one
    first = vocabulary * ((4 + 2) * len(row.targets) + of_all)
    if options.activation_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        whole, kept = kept, _kept(model, optimizations, row)
        first = max(first, (whole - kept) // model.config.num_hidden_layers)
    elif options.compile is not False and options.lora is None and last_layer.obstacle(model) is None:
        compiled = model.config.num_hidden_layers - optimizations.sparse_last_layer
        kept -= tokens * compiled * _computed_again(model.config)
    return kept, first


def _computed_again(config: PreTrainedConfig) -> int:
    """Bytes of a token that a compiled layer of a known family does not keep.

    For each number of the hidden state, two norms would keep 12 bytes; the pieces of the layer keep 6 as their inputs.
    Of the MLP the activation of the gate is computed again.
    """
    return int(6 * config.hidden_size + 2 * config.intermediate_size)


def _kept(model: PreTrainedModel, optimizations: ExactOptimizations, row: Row) -> int:
    """Bytes that autograd saves in the forward pass."""
    kept: dict[int, int] = {}
    weights = {id(weight) for weight in model.parameters()}
    alive: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        source = tensor if tensor._base is None else tensor._base
        if id(source) not in weights and id(source) not in kept:
            kept[id(source)] = source.numel() * source.element_size()
            alive.append(source)  # an id is only unique while its tensor lives
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        token_losses(Network(model, optimizations), row)
    return sum(kept.values())


def _row(tokens: int, labels: float) -> Row:
    """Documents of 1,024 tokens whose last ones are labels, on the meta device."""
    documents = []
    for start in range(0, tokens, _DOCUMENT):
        read = min(_DOCUMENT, tokens - start)
        weights = np.zeros(read + 1, np.float32)
        weights[-max(1, min(read, round(labels * read))) :] = 1
        documents.append(Example(f"{start}", np.zeros(read + 1, np.int32), weights, read + 1))
    return make_row(documents).moved(torch.device("meta"))


class _Flash(torch.autograd.Function):
    """The output shape of a flash attention kernel, and the tensors that it saves."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        output = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, output, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return output

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        raise NotImplementedError("the dry run has no backward pass")


def _flash(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any
) -> tuple[torch.Tensor, None]:
    output: torch.Tensor = _Flash.apply(query, key, value)  # type: ignore[no-untyped-call]
    return output.transpose(1, 2), None


def needs(model: PreTrainedModel, options: TrainConfig, optimizations: ExactOptimizations, labels: float) -> Needs:
    """What a model takes on one GPU.

    Args:
        model: on the meta device, adapters included.
        options: of the training.
        optimizations: what is left out.
        labels: share of a row's tokens that predict a label.
    """
    small, large = (sum(activation_bytes(model, options, optimizations, n, labels)) for n in (1024, 2048))
    per_token = (large - small) / 1024
    fixed = sum(_memory(model, options, 0, 0).values())
    return Needs(fixed + small - 1024 * per_token, per_token)


def _memory(model: PreTrainedModel, options: TrainConfig, kept: int, first: int) -> dict[str, float]:
    """Bytes on one GPU.

    Frozen weights are held in the dtype of the passes (`model.in_bf16`). Of several workers: shards, and under FSDP2
    bf16 of the largest layer twice (it is prefetched). Of one: all of the weights, and those in fp32 once more in bf16,
    as autocast keeps them from the forward to the backward pass, or where activations are computed again, to the end of
    the forward pass; the head's gradient comes in both before it is added.

    Args:
        model: on the meta device.
        options: of the training.
        kept: as `activation_bytes`.
        first: as `activation_bytes`.
    """
    tuned = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    frozen = sum(weight.numel() for weight in model.parameters() if not weight.requires_grad)
    mixed, workers, head = options.dtype != "float32", options.workers, model.get_output_embeddings().weight
    of_frozen = 2.0 if mixed else 4.0
    if workers == 1:
        return {
            "weights, fp32": 4.0 * tuned,
            "frozen weights": of_frozen * frozen,
            "gradients and Adam's moments, fp32": 12.0 * tuned,
            "weights, bf16": max(0.0, 2.0 * tuned - (first if options.activation_checkpointing else 0)) * mixed,
            "the head's gradient": (6.0 if mixed else 4.0) * head.numel() if head.requires_grad else 0.0,
            "activations and logits of a row": float(kept + first),
        }
    blocks = list(getattr(model.base_model, "layers", [model]))
    largest = max(sum(weight.numel() for weight in block.parameters()) for block in blocks)
    ends = {id(end.weight): end.weight.numel() for end in (model.get_input_embeddings(), model.get_output_embeddings())}
    return {
        "weights, shard": (4.0 * tuned + of_frozen * frozen) / workers,
        "gradients and Adam's moments, fp32 shard": 12.0 * tuned / workers,
        "gathered weights, bf16 (two layers, embedding, head), and the gradient of a layer": 2.0
        * (3 * largest + sum(ends.values())),
        "activations and logits of a row": float(kept + first),
    }


def _data(config: PipelineConfig, mean_tokens: int, optimizations: ExactOptimizations) -> Data:
    collected = _collected(config, optimizations)
    if collected is not None:
        return collected
    trajectories = sum(config.collect.trajectories.values())
    if not trajectories:
        raise ModelError("nothing is collected and collect.trajectories names no numbers; run atlas-ray collect first")
    ratio = config.selection(config.train.selections[0]).ratio
    labels = round(mean_tokens * _RATIO_TOKENS * ratio)
    cut = round(mean_tokens * 0.82) if optimizations.truncate else mean_tokens
    whole, read = flops.document(mean_tokens), flops.document(cut)
    read = Counts(read.tokens, read.pairs, labels, labels * cut // 2)
    return Data(
        trajectories,
        Counts(*(trajectories * value for value in whole.values)),
        Counts(*(trajectories * value for value in read.values)),
        f"none collected yet: assumed {mean_tokens} tokens each, a third of them steps, the last critical step at 82 %",
    )


def _collected(config: PipelineConfig, optimizations: ExactOptimizations) -> Data | None:
    """Counts of the run directory's trajectories and first selection; None where these or the tokenizer are missing."""
    store, selection = Store(config.run_dir), config.train.selections[0]
    if not store.names("trajectories") or not store.names("selections", selection):
        return None
    try:
        tokenizer = models.load_tokenizer(models.resolve(config.model))
    except ModelError:
        return None  # a dry run is made before the weights are there
    selections = store.read_selections(selection)
    named = {row.trajectory_id for row in selections}
    chosen = choose([t for t in store.read_trajectories(selection) if t.trajectory_id in named], selections)
    examples, _ = prepare(
        chosen.trajectories, chosen.labels, tokenizer, config.train, truncate=optimizations.truncate,
        thinks=config.evaluate.thinking.on,
    )  # fmt: skip
    trajectories, whole, read = by_trajectory(examples), Counts(), Counts()
    for rows in trajectories:
        for row in rows:
            whole += flops.document(row.full_length)
        read += _counts(rows, share=optimizations.prefix_tree)
    return Data(len(trajectories), whole, read, f"selection {selection!r} in {config.run_dir}")


def _counts(rows: Sequence[Example], *, share: bool) -> Counts:
    """Of the rows of one trajectory, up to their last labels; `share` counts their common beginnings once."""
    tree = lay_out([row.ids[:-1] for row in rows], share=share)
    before = [positions[row.weights.nonzero()[0] - 1] for row, positions in zip(rows, tree.positions, strict=True)]
    predictors, context = np.unique(np.concatenate(before)), tree.position_ids + 1
    return Counts(len(context), int(context.sum()), len(predictors), int(context[predictors].sum()))
