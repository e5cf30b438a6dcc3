"""Low-rank adapters through peft: added to a model, merged into its weights, and written as peft's own directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

from atlas_ray.config import LoraConfig

_NAME = "default"
_A, _B = f".lora_A.{_NAME}.weight", f".lora_B.{_NAME}.weight"


def add(model: PreTrainedModel, options: LoraConfig) -> None:
    """Add an adapter to every linear layer but the head; all other weights are frozen."""
    import peft  # the import takes a second, and most runs need no adapter

    model.add_adapter(
        peft.LoraConfig(r=options.rank, lora_alpha=options.alpha, target_modules="all-linear", task_type="CAUSAL_LM"),
        _NAME,
    )


def merged(weights: dict[str, torch.Tensor], options: LoraConfig) -> dict[str, torch.Tensor]:
    """The state dict of the plain model: weight + alpha / rank x B A, under the names of the base model."""
    plain = {}
    for key, value in weights.items():
        if ".lora_" in key:
            continue
        layer = key.removesuffix(".base_layer.weight")
        if layer != key:
            value = value + options.alpha / options.rank * weights[layer + _B] @ weights[layer + _A]
        plain[key.replace(".base_layer.", ".")] = value
    return plain


def write(folder: Path, model: PreTrainedModel, weights: dict[str, torch.Tensor], base: str) -> None:
    """A directory that peft and vLLM load beside the base model.

    Args:
        folder: to be made.
        model: with the adapter.
        weights: its gathered state dict.
        base: what the adapter belongs to.
    """
    folder.mkdir()
    adapter = {
        f"base_model.model.{key.replace(f'.{_NAME}.', '.')}": value.contiguous()
        for key, value in weights.items()
        if ".lora_" in key
    }
    save_file(adapter, folder / "adapter_model.safetensors", {"format": "pt"})
    config: Any = model.peft_config[_NAME]
    config.base_model_name_or_path, config.inference_mode = base, True
    config.save_pretrained(str(folder))
