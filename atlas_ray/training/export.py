"""Writes the Hugging Face directory `checkpoints/<name>/`: safetensors, config, tokenizer with chat template.

The files are written to a temporary folder and moved in one by one. `config.json` is removed first and moved in last,
so a directory with a `config.json` is complete. It loads in transformers and vLLM.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from transformers import AutoConfig, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from atlas_ray.config import LoraConfig
from atlas_ray.errors import StoreError
from atlas_ray.store import Store
from atlas_ray.training import checkpoint, lora

_LAST = "config.json"
_ADAPTER = "adapter"


def export(
    store: Store,
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    base: str,
    *,
    write: bool,
    adapter: LoraConfig | None = None,
) -> None:
    """Gather the weights from all ranks and write the model directory in the dtype of the base model.

    An adapter is merged into the weights, and written on its own as `adapter/` besides.

    Args:
        store: of the run.
        name: of the checkpoint.
        model: as trained; every rank calls this.
        tokenizer: of the base model.
        base: directory of the base model.
        write: whether this rank writes (rank 0 does).
        adapter: how the model was adapted, if it was.

    Raises:
        StoreError: the directory cannot be written; an older one is then unchanged, or has no `config.json`.
    """
    weights: dict[str, Any] = get_model_state_dict(
        model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )
    if not write:
        return
    adapted = weights
    if adapter is not None:
        weights = lora.merged(weights, adapter)
    for name_of_tie, name_of_weight in _ties(model).items():
        weights[name_of_tie] = weights[name_of_weight]  # gathering copied tied weights, which would be stored twice
    dtype = AutoConfig.from_pretrained(base).dtype or torch.float32
    cast = {id(value): value.to(dtype) if value.is_floating_point() else value for value in weights.values()}
    weights = {key: cast[id(value)] for key, value in weights.items()}
    target = store.path("checkpoints", name)
    try:
        store.fs.makedirs(target, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".export-", dir=target if store.is_local else None))
        try:
            _write(scratch, model, weights, tokenizer, base, dtype)
            if adapter is not None:
                lora.write(scratch / _ADAPTER, model, adapted, base)
            _move_in(store, scratch, name)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk as an error of its own
        reason = getattr(error, "strerror", None) or error
        raise StoreError(f"cannot write {target}: {reason}; free space and run again") from error


def _ties(model: PreTrainedModel) -> dict[str, str]:
    """Name of each tied parameter, and the name under which its weights come first."""
    first: dict[int, str] = {}
    ties = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if first.setdefault(id(parameter), name) != name:
            ties[name] = first[id(parameter)]
    return ties


def _write(
    scratch: Path,
    model: PreTrainedModel,
    weights: dict[str, torch.Tensor],
    tokenizer: PreTrainedTokenizerBase,
    base: str,
    dtype: torch.dtype,
) -> None:
    # transformers refuses to save some generation configs that it loads; the base model's file is copied instead.
    model.generation_config = GenerationConfig()
    model._hf_peft_config_loaded = False  # else it would save the adapter alone
    model.save_pretrained(scratch, state_dict=weights)
    generation = Path(base, "generation_config.json")
    (scratch / generation.name).unlink(missing_ok=True)
    if generation.is_file():
        shutil.copy(generation, scratch)
    config = json.loads((scratch / _LAST).read_text())
    config["dtype"] = str(dtype).removeprefix("torch.")
    (scratch / _LAST).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tokenizer.save_pretrained(scratch)


def _move_in(store: Store, scratch: Path, name: str) -> None:
    target = store.path("checkpoints", name)
    if store.exists("checkpoints", name, _LAST):
        store.fs.rm(f"{target}/{_LAST}")
    new = sorted((path.name for path in scratch.iterdir()), key=lambda file: (file == _LAST, file))
    files = {path.name for path in scratch.iterdir() if path.is_file()}  # a folder cannot replace a folder
    for stale in store.names("checkpoints", name):
        if stale not in {*files, checkpoint.STATE, scratch.name}:
            store.fs.rm(f"{target}/{stale}", recursive=True)
    for file in new:
        if store.is_local:
            (scratch / file).replace(Path(target, file))
        else:
            store.fs.put(str(scratch / file), f"{target}/{file}", recursive=True)
