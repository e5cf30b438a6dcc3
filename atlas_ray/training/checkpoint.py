"""The state that a killed run resumes from: `checkpoints/<name>/training_state/`.

`run.json` holds the key of the run; `step-000050/` holds weights and optimizer state after 50 steps, in shards, as
torch's distributed checkpoint writes them. The file `.metadata` is written last, so a state without it is incomplete.
The data order is a function of (seed, step), so no more is stored.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load as load_sharded
from torch.distributed.checkpoint.state_dict_saver import async_save
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
    """Optimizer steps of the newest complete state; 0 when there is none."""
    steps = _steps(store, name)
    return max((step for step, is_complete in steps if is_complete), default=0)


def clean(store: Store, name: str, keep: int) -> None:
    """Delete every state but the one after `keep` steps: older states and incomplete ones."""
    for step, _ in _steps(store, name):
        if step != keep:
            store.fs.rm(store.path(*folder(name), step_folder(step)), recursive=True)


class Saver:
    """Writes the states of a run, each rank its own shard; every rank calls the same methods.

    Args:
        store: of the run.
        name: of the checkpoint.
        model: as trained.
        optimizer: of the model.
        in_background: copy a state and write it while training goes on, as on GPUs; else training waits.
    """

    def __init__(
        self, store: Store, name: str, model: PreTrainedModel, optimizer: torch.optim.Optimizer, *, in_background: bool
    ) -> None:
        self._store, self._name, self._model, self._optimizer, self._in_background = (
            store,
            name,
            model,
            optimizer,
            in_background,
        )
        self._pending: tuple[int, Any] | None = None

    def save(self, step: int) -> list[int]:
        """Write the state after `step` steps, or begin to; returns the steps whose states have been completed.

        Raises:
            CheckpointException: a rank could not write this state, or the one before (the disk is full); earlier
                states stay valid.
        """
        completed = self.finish()
        state, url = _state(self._model, self._optimizer), _url(self._store, self._name, step)
        if not self._in_background:
            save_sharded(state, checkpoint_id=url)
            return [*completed, step]
        self._pending = step, async_save(state, checkpoint_id=url)
        return completed

    def finish(self) -> list[int]:
        """Wait for the state that is being written; returns its step.

        Raises:
            CheckpointException: as `save`.
        """
        if self._pending is None:
            return []
        step, writing = self._pending
        self._pending = None
        writing.result()
        return [step]


def load(store: Store, name: str, step: int, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> None:
    """Load the state after `step` steps into model and optimizer, whatever the number of ranks that wrote it."""
    state = _state(model, optimizer)
    load_sharded(state, checkpoint_id=_url(store, name, step))  # into the tensors of `state`
    set_state_dict(
        model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"],
        options=StateDictOptions(strict=False),
    )  # fmt: skip


def _state(model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    # Frozen weights, those that an adapter leaves alone, come from the base model.
    weights, moments = get_state_dict(model, optimizer, options=StateDictOptions(ignore_frozen_params=True))
    return {"model": weights, "optimizer": moments}


def _url(store: Store, name: str, step: int) -> str:
    return posixpath.join(store.url, *folder(name), step_folder(step))


def _steps(store: Store, name: str) -> list[tuple[int, bool]]:
    """Every state as (step, whether it is complete)."""
    found = []
    store.fs.invalidate_cache()  # object stores' listings are cached, and other processes write here
    for entry in store.names(*folder(name)):
        match = _STEP.fullmatch(entry)
        if match:
            found.append((int(match[1]), store.exists(*folder(name), entry, ".metadata")))
    return found
