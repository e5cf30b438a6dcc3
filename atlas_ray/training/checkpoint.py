"""What a killed run goes on from: `checkpoints/<name>/training_state/`.

`run.json` says which run the state is of; `step-000050/` holds weights and optimizer state after 50 steps, sharded,
written by torch's distributed checkpoint. Its `.metadata` is written last, so a checkpoint with it is whole and one
without it was cut off. The data order is a function of (seed, step); nothing else needs to be kept.
"""

from __future__ import annotations

import posixpath
import re

import torch
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load as load_sharded
from torch.distributed.checkpoint.state_dict_saver import save as save_sharded
from transformers import PreTrainedModel

from atlas_ray.store import Store

STATE = "training_state"
_STEP = re.compile(r"step-(\d{6,})")


def folder(name: str) -> tuple[str, str, str]:
    """Path parts of a checkpoint's training state in its store."""
    return "checkpoints", name, STATE


def step_folder(step: int) -> str:
    """Name of the state after `step` optimizer steps."""
    return f"step-{step:06d}"


def latest(store: Store, name: str) -> int:
    """Optimizer steps of the newest whole state; 0 when there is none."""
    steps = _steps(store, name)
    return max((step for step, whole in steps if whole), default=0)


def clean(store: Store, name: str, keep: int) -> None:
    """Delete every state but the one after `keep` steps: older ones, and those that were cut off."""
    for step, _ in _steps(store, name):
        if step != keep:
            store.fs.rm(store.path(*folder(name), step_folder(step)), recursive=True)


def save(store: Store, name: str, step: int, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> None:
    """Write the state after `step` steps; every rank calls it, and writes its own shard.

    Raises:
        CheckpointException: a rank could not write (the disk is full); states before stay valid.
    """
    weights, moments = get_state_dict(model, optimizer)
    save_sharded({"model": weights, "optimizer": moments}, checkpoint_id=_url(store, name, step))


def load(store: Store, name: str, step: int, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> None:
    """Read the state after `step` steps in place, whatever the number of ranks that wrote it."""
    weights, moments = get_state_dict(model, optimizer)
    load_sharded({"model": weights, "optimizer": moments}, checkpoint_id=_url(store, name, step))  # in place
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments)


def _url(store: Store, name: str, step: int) -> str:
    return posixpath.join(store.url, *folder(name), step_folder(step))


def _steps(store: Store, name: str) -> list[tuple[int, bool]]:
    """Every state as (step, whether it is whole)."""
    found = []
    store.fs.invalidate_cache()  # object stores' listings are cached, and other processes write here
    for entry in store.names(*folder(name)):
        match = _STEP.fullmatch(entry)
        if match:
            found.append((int(match[1]), store.exists(*folder(name), entry, ".metadata")))
    return found
