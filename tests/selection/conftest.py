"""A tiny model for the selection tests, whose logits are spread wider than those of the suite's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from tests.tokenizers import tokenizer

settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama that vLLM can run on CPUs (head_dim 32), with a tokenizer and a chat template."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    path = tmp_path_factory.mktemp("tiny")
    own = tokenizer("chatml")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(own), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, max_position_embeddings=2048, tie_word_embeddings=True,
        initializer_range=0.2, eos_token_id=own.eos_token_id, pad_token_id=own.pad_token_id, bos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.float32).save_pretrained(path)
    own.save_pretrained(path)
    return path
