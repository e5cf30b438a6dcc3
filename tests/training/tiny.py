"""Tiny random models and trajectories for them."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from atlas_ray.training.job import ExactOptimizations
from atlas_ray.trajectory import Message, Trajectory
from tests.tokenizers import tokenizer

SHAPE = {
    "vocab_size": 640, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 32, "max_position_embeddings": 2048, "bos_token_id": None, "eos_token_id": 2,
    "pad_token_id": 0, "initializer_range": 0.2,
}  # fmt: skip


ALL = ExactOptimizations(*[True] * 5)
Labels = dict[str, dict[int, float]]
"""Weight of each chosen step, by trajectory id."""


def tiny(family: str, **changes: object) -> PreTrainedModel:
    """A random model of a family, the same at every call."""
    torch.manual_seed(0)
    shape = {**SHAPE, **changes}
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(tie_word_embeddings=True, **shape))
    if family == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(tie_word_embeddings=True, **shape))
    if family == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(tie_word_embeddings=True, **shape))
    assert family == "mistral"
    return MistralForCausalLM(MistralConfig(**{"sliding_window": None, **shape}))


def save(model: PreTrainedModel, path: Path) -> str:
    """A model directory with weights and tokenizer."""
    model.save_pretrained(path)
    tokenizer("chatml").save_pretrained(path)
    return str(path)


def trajectory(number: int, n_steps: int, fork: int = 0, name: str = "") -> Trajectory:
    """A conversation of `n_steps` steps about nothing, with replies of different lengths.

    Conversations with the same `fork` begin with the same steps up to that one.
    """
    own, messages = number, [Message(role="user", content=f"task {0 if fork else number}")]
    for step in range(n_steps):
        number = own if step >= fork else 0
        words = " ".join(str((number * 7 + step * 3 + k) % 10) for k in range(1 + (number + step) % 5))
        messages.append(Message(role="assistant", content=f"Thought: {words}\nAction: go {step}", step=step))
        messages.append(Message(role="user", content=f"seen {number * step}"))
    return Trajectory(
        trajectory_id=name or f"t{own:03d}", env="none", item_id=f"none_{own}", source="test",
        messages=tuple(messages), n_steps=n_steps,
    )  # fmt: skip
