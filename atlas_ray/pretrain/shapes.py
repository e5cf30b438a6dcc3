"""The shape of a small agent: from a family and a number of parameters to an untrained model.

Heads are 32 wide, which vLLM's attention on CPUs takes; input and output embeddings are shared. Torch is imported only
where a model is made.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, get_args

from atlas_ray.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CONTEXT = 8192
"""Tokens that positions are made for; more than any episode here has."""
SMALLEST, LARGEST = 500_000, 100_000_000
"""Parameters; below and above, neither this code nor its settings have been tried."""
_HEAD = 32
_WIDTH_PER_LAYER = 48
"""Width over depth that is aimed at: wide and shallow, because CPUs are slow at many small products."""

Family = Literal["llama", "qwen3"]
"""Llama, and Qwen3, which normalises queries and keys."""
FAMILIES: tuple[Family, ...] = get_args(Family)


def parse_size(text: str) -> int:
    """A number of parameters, as in `3M`, `750k` or `3000000`.

    Raises:
        ConfigError: it is none, or too small or too large for this command.
    """
    unit = {"k": 1e3, "m": 1e6}.get(text[-1:].lower(), 1.0)
    try:
        size = float(text[:-1] if unit > 1 else text) * unit
    except ValueError:
        size = math.nan
    if not SMALLEST <= size <= LARGEST:
        raise ConfigError(f"--parameters {text}: give a number from {SMALLEST} to {LARGEST}, as in 3M")
    return round(size)


def shape_of(parameters: int, vocabulary: int) -> dict[str, int]:
    """Width, depth and heads of the shape nearest to a number of parameters."""

    def distance(shape: tuple[int, int]) -> float:
        width, layers = shape
        size = vocabulary * width + layers * _layer(width)
        return abs(math.log(size / parameters)) + 0.2 * abs(math.log(width / layers / _WIDTH_PER_LAYER))

    width, layers = min(((w, n) for w in range(64, 1025, _HEAD) for n in range(2, 25)), key=distance)
    return {
        "hidden_size": width, "intermediate_size": _inner(width), "num_hidden_layers": layers,
        "num_attention_heads": width // _HEAD, "num_key_value_heads": width // _HEAD, "head_dim": _HEAD,
    }  # fmt: skip


def untrained(family: Family, parameters: int, *, vocabulary: int, end: int, pad: int, seed: int) -> PreTrainedModel:
    """A model with random weights, in fp32.

    Args:
        family: of the architecture.
        parameters: the number to come close to.
        vocabulary: entries of the tokenizer.
        end: id of the end-of-turn token.
        pad: id of the padding token.
        seed: of the weights.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    shape = shape_of(parameters, vocabulary)
    config = AutoConfig.for_model(
        family, **shape, vocab_size=vocabulary, max_position_embeddings=CONTEXT, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=end, pad_token_id=pad,
        # The usual 0.02 suits widths of thousands; narrow attention would be all but uniform for hundreds of steps.
        initializer_range=shape["hidden_size"] ** -0.5,
    )  # fmt: skip
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return model


def _inner(width: int) -> int:
    return math.ceil(width * 8 / 3 / _HEAD) * _HEAD


def _layer(width: int) -> int:
    return 4 * width * width + 3 * width * _inner(width)
