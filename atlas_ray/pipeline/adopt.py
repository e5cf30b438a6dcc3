"""Take over a finished unit of another run directory that has the same key, instead of doing the work again.

Files are hard-linked on a local file system and copied elsewhere. Everything in a run directory is written beside its
target and moved over it, so a link never changes under its owner's feet; only journals are appended to in place, and
they are copied. The manifest's entry is not written here: it comes last (`run.py`).
"""

from __future__ import annotations

import json
import os
import posixpath
import shutil
from collections.abc import Callable

from atlas_ray.errors import StoreError
from atlas_ray.store import Store

_RESUMING = "training_state"
"""Of a checkpoint: what a killed training resumes from, which a finished one does not need."""

_FOLDERS: dict[str, Callable[[str], tuple[str, ...]]] = {
    "collect": lambda _: ("trajectories",),
    "select": lambda name: ("selections", name),
    "train": lambda name: ("checkpoints", name),
    "evaluate": lambda name: ("evaluation", name),
    "looks": lambda _: (),
}
"""By stage: the folder that holds a unit's files, by the unit's name; none where the manifest holds everything."""
_ROWS = {"select": ("select.jsonl", "selection"), "train": ("train.jsonl", "checkpoint")}
"""By stage: the journal in `metrics/` with rows of a unit, and the field that names the unit."""


def can_adopt(stage: str) -> bool:
    """Whether the units of a stage can be taken over."""
    return stage in _FOLDERS


def adopt(store: Store, sibling: Store, stage: str, unit: str) -> None:
    """Bring the files and the logged rows of a unit here; what was here of it is replaced.

    Raises:
        StoreError: something cannot be read or written.
    """
    folder = _FOLDERS[stage](unit)
    try:
        if folder:
            _take(store, sibling, folder)
    except OSError as error:
        raise StoreError(
            f"cannot take {sibling.path(*folder)} over to {store.path(*folder)}: {error.strerror or error}; free space "
            "or fix the rights"
        ) from error
    if stage in _ROWS:
        file, field = _ROWS[stage]
        theirs = [row for row in sibling.journal("metrics", file) if row[field] == unit]
        ours = [row for row in store.journal("metrics", file) if row[field] != unit]
        text = "".join(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in [*ours, *theirs])
        store.write_text(text, "metrics", file)


def _take(store: Store, sibling: Store, folder: tuple[str, ...]) -> None:
    source, target = sibling.path(*folder), store.path(*folder)
    if not store.is_local:
        if store.fs.exists(target):
            store.fs.rm(target, recursive=True)
        for file in sibling.fs.find(source):
            below = posixpath.relpath(file, source)
            if not below.startswith(_RESUMING):
                store.fs.makedirs(posixpath.dirname(posixpath.join(target, below)), exist_ok=True)
                store.fs.copy(file, posixpath.join(target, below))
        return
    scratch = store.path(f".adopting-{'-'.join(folder)}")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(source, scratch, copy_function=_link, ignore=shutil.ignore_patterns(_RESUMING, ".*"))
    if os.path.isdir(target):
        shutil.rmtree(target)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.rename(scratch, target)


def _link(source: str, target: str) -> None:
    """A hard link; a copy of a journal, and where the file system has no links."""
    if not source.endswith(".jsonl"):
        try:
            os.link(source, target)
            return
        except OSError:  # another file system, or one without hard links: the copy below raises what is really wrong
            pass
    shutil.copy2(source, target)
