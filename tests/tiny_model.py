"""A random Llama of 2 layers with ChatML, as a model directory: whatever runs on it takes seconds."""

from __future__ import annotations

import os
from pathlib import Path

from tests.tokenizers import tokenizer


def write(folder: Path) -> str:
    """Write the model; its heads have 32 dimensions, which vLLM's attention on CPUs takes."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    tok = tokenizer("chatml")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tok), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, max_position_embeddings=2048, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tok.save_pretrained(folder)
    return str(folder)
