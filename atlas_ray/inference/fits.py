"""Whether a model fits on a GPU for inference, and what a processor computes fastest in: decisions over numbers.

A model fits if its weights and the cache of one sequence do; vLLM's own buffers are in the share of the card that
`engine.gpu_memory_utilization` leaves to others. Left out: quantised models, whose weights are counted as they lie.
"""

from __future__ import annotations

import json
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BF16 = {"amx_bf16", "avx512_bf16"}
"""Flags of processors that multiply matrices of bf16; others emulate it, 4 to 17 times slower than fp32."""


def processor_dtype(flags: Set[str]) -> str:
    """The data type that an engine takes on a processor with these flags (`/proc/cpuinfo`)."""
    return "bfloat16" if flags & _BF16 else "float32"


def processor_flags() -> frozenset[str]:
    """The flags of this machine's processor; empty where it does not tell."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return frozenset(next((line.split(":")[1] for line in lines if line.startswith("flags")), "").split())


@dataclass(frozen=True)
class Demand:
    """Bytes that a model needs for inference, over all of its GPUs."""

    weights: int
    per_token: int
    """Keys and values of one token in the cache."""

    def shortage(self, model: str, context: int, gpus: int, card: int, share: float) -> str | None:
        """Why a model does not fit; None: it does.

        Args:
            model: its name, for the line.
            context: tokens of one sequence.
            gpus: that share the model.
            card: bytes of one of them.
            share: of the card that the engine may use.
        """
        needed, usable = (self.weights + context * self.per_token) / gpus, share * card
        if needed <= usable:
            return None
        return (
            f"{model}: weights and the cache of one sequence of {context} tokens need {needed / 1e9:.1f} GB on each of "
            f"{gpus} GPU(s), {share:.0%} of the card are {usable / 1e9:.1f} GB: {(needed - usable) / 1e9:.1f} GB are "
            "missing; raise engine.tensor_parallel, lower engine.max_model_len, or take a smaller model"
        )


def demand_of(directory: str, itemsize: int = 2) -> Demand:
    """What a model directory needs.

    Args:
        directory: with `config.json` and safetensors files.
        itemsize: bytes of a number in the engine.
    """
    config: dict[str, Any] = json.loads(Path(directory, "config.json").read_text(encoding="utf-8"))
    config |= config.get("text_config") or {}
    heads = config["num_attention_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    key_values = 2 * config["num_hidden_layers"] * (config.get("num_key_value_heads") or heads) * width
    weights = sum(_numbers(file) for file in Path(directory).glob("*.safetensors"))
    return Demand(weights * itemsize, key_values * itemsize)


def _numbers(file: Path) -> int:
    """How many numbers a safetensors file holds, from its header."""
    with file.open("rb") as opened:
        header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    shapes = [tensor["shape"] for name, tensor in header.items() if name != "__metadata__"]
    return sum(_product(shape) for shape in shapes)


def _product(shape: list[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
