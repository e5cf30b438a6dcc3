"""Tiny random models with a tokenizer of their own, trajectories for them, and a local Ray."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as token_models
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from atlas_ray.trajectory import Message, Trajectory

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SHAPE = {
    "vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 32, "max_position_embeddings": 2048, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": 0, "initializer_range": 0.2,
}  # fmt: skip


def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, and the special tokens of ChatML."""
    bpe = Tokenizer(token_models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<pad>", "<|im_start|>", "<|im_end|>"]
    bpe.train_from_iterator(
        [],
        trainers.BpeTrainer(
            vocab_size=320, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<pad>"
    )
    fast.chat_template = CHATML
    return fast


def tiny(family: str, **changes: object) -> PreTrainedModel:
    """A random model of a family, the same at every call."""
    torch.manual_seed(0)
    shape = {**SHAPE, **changes}
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(tie_word_embeddings=True, **shape))
    if family == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(tie_word_embeddings=True, **shape))
    assert family == "mistral"
    return MistralForCausalLM(MistralConfig(**{"sliding_window": None, **shape}))


def save(model: PreTrainedModel, path: Path) -> str:
    """A model directory with weights and tokenizer."""
    model.save_pretrained(path)
    tokenizer().save_pretrained(path)
    return str(path)


def trajectory(number: int, n_steps: int) -> Trajectory:
    """A conversation of `n_steps` steps about nothing, with replies of different lengths."""
    messages = [Message(role="user", content=f"task {number}")]
    for step in range(n_steps):
        words = " ".join(str((number * 7 + step * 3 + k) % 10) for k in range(1 + (number + step) % 5))
        messages.append(Message(role="assistant", content=f"Thought: {words}\nAction: go {step}", step=step))
        messages.append(Message(role="user", content=f"seen {number * step}"))
    return Trajectory(
        trajectory_id=f"t{number:03d}", env="none", item_id=f"none_{number}", source="test",
        messages=tuple(messages), n_steps=n_steps,
    )  # fmt: skip


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Directory of a tiny Llama."""
    return save(tiny("llama"), tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local Ray of 4 CPUs."""
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        _temp_dir="/tmp/ray-train-helper",
        runtime_env={"env_vars": {"PYTHONPATH": os.getcwd(), "TOKENIZERS_PARALLELISM": "false"}},
    )
    yield
    ray.shutdown()
