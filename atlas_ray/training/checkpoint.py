"""The state that a killed run resumes from: `checkpoints/<name>/training_state/`.

`run.json` holds the key of the run; `step-000050/` holds weights and optimizer state after 50 steps, in shards, as
torch's distributed checkpoint writes them. The file `.metadata` is written last, so a state without it is incomplete.
The data order is a function of (seed, step), so no more is stored.

torch keeps the list of shards, and numbers such as betas, as pickles, which can call any function when they are read.
A run directory may come from elsewhere; so nothing is read from them but the types that torch writes itself.
"""

from __future__ import annotations

import io
import pickle
import posixpath
import re
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load as load_sharded
from torch.distributed.checkpoint.state_dict_saver import async_save
from torch.distributed.checkpoint.state_dict_saver import save as save_sharded
from transformers import PreTrainedModel

from atlas_ray.errors import TrainingError
from atlas_ray.store import Store

STATE = "training_state"
_STEP = re.compile(r"step-(\d{6,})")
_IN_METADATA = {
    "torch.distributed.checkpoint.metadata": {
        "BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta", "TensorProperties",
        "TensorStorageMetadata", "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size", *(name for name, value in vars(torch).items() if isinstance(value, torch.dtype))},
    "pathlib": {"PosixPath"},
}  # fmt: skip
"""What `.metadata` is made of, by module."""


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
    """Load the state after `step` steps into model and optimizer, whatever the number of ranks that wrote it.

    Raises:
        TrainingError: it holds something else than states do.
    """
    state = _state(model, optimizer)
    path = (*folder(name), step_folder(step))
    try:
        _Metadata(io.BytesIO(store.fs.cat_file(store.path(*path, ".metadata")))).load()
        load_sharded(state, checkpoint_id=_url(store, name, step), planner=_Planner())  # into the tensors of `state`
    except (pickle.UnpicklingError, CheckpointException) as error:
        causes = [error] if isinstance(error, pickle.UnpicklingError) else [e for e, _ in error.failures.values()]
        if not any(isinstance(cause, pickle.UnpicklingError) for cause in causes):
            raise
        raise TrainingError(
            f"checkpoint {name}: {store.path(*path)} was not written by atlas-ray, or was changed "
            f"({str(causes[0]).splitlines()[0]}); delete {store.path(*folder(name))} and run again"
        ) from error
    set_state_dict(
        model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"],
        options=StateDictOptions(strict=False),
    )  # fmt: skip


class _Metadata(pickle.Unpickler):
    """Reads `.metadata`; refuses what torch does not write there."""

    def find_class(self, module: str, name: str) -> Any:
        if name not in _IN_METADATA.get(module, ()):
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)


class _Planner(DefaultLoadPlanner):
    """torch's planner, for which the values that are no tensors are plain ones."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        torch.load(value, weights_only=True)
        value.seek(0)
        super().load_bytes(read_item, value)


def _state(model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    # Frozen weights, those that an adapter leaves alone, come from the base model.
    weights, moments = get_state_dict(model, optimizer, options=StateDictOptions(ignore_frozen_params=True))
    return {"model": weights, "optimizer": moments}


def _url(store: Store, name: str, step: int) -> str:
    return posixpath.join(store.url, *folder(name), step_folder(step))


def _steps(store: Store, name: str) -> list[tuple[int, bool]]:
    """Every state as (step, whether it is complete)."""
    found = []
    for entry in store.names(*folder(name)):
        match = _STEP.fullmatch(entry)
        if match:
            found.append((int(match[1]), store.exists(*folder(name), entry, ".metadata")))
    return found
