"""A selection as training data of other trainers: AgentTraj-L, OpenAI-style chat messages, axolotl.

Trajectories without a chosen step (error rows among them) are left out, because a row without a label teaches nothing;
they are counted by reason. Only chat messages can hold a weight below 1; elsewhere such a step is written as fully
trained, and counted.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from atlas_ray.errors import DataError
from atlas_ray.formats import agenttraj, messages
from atlas_ray.selection.chunks import plan, read, read_beside
from atlas_ray.store import GROUP_ROWS, Store
from atlas_ray.trajectory import Trajectory

Format = Literal["agenttraj", "messages", "axolotl"]
FORMATS: tuple[Format, ...] = get_args(Format)
_ROWS: dict[Format, Callable[[Trajectory, Mapping[int, float]], dict[str, Any]]] = {
    "agenttraj": agenttraj.to_row, "messages": messages.to_chat, "axolotl": messages.to_axolotl
}  # fmt: skip
_HOLDS_WEIGHTS: tuple[Format, ...] = ("messages",)


@dataclass
class Exported:
    """What was written, and what a file could not hold."""

    rows: int = 0
    """Trajectories written."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Trajectories left out, by reason."""
    weights_lost: int = 0
    """Steps with a weight below 1 that were written as fully trained, because the format has only a flag."""


def export(store: Store, name: str, form: Format, path: str, ids: Collection[str] | None = None) -> Exported:
    """Write a stored selection to a file, atomically and in the order of the trajectories' ids.

    Args:
        store: the run directory.
        name: of the selection.
        form: of the file; `agenttraj` is one JSON list, the others are JSON Lines.
        path: of the file.
        ids: the trajectories to write; None: all.

    Raises:
        DataError: the file cannot be written, or nothing is left to write.
        SelectionError: the selection has not been made for these trajectories.
    """
    found = Exported()
    scratch = Path(f"{path}.{os.getpid()}.tmp")
    opening, between, closing = ("[\n", ",\n", "\n]\n") if form == "agenttraj" else ("", "\n", "\n")
    try:
        scratch.parent.mkdir(parents=True, exist_ok=True)
        try:
            with scratch.open("w", encoding="utf-8") as file:
                for row in _rows(store, name, form, ids, found):
                    file.write((between if found.rows else opening) + json.dumps(row, ensure_ascii=False))
                    found.rows += 1
                file.write(closing)
            if not found.rows:
                raise DataError(f"{path}: the selection {name!r} leaves nothing to write ({dict(found.left_out)})")
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); choose another --output") from error
    return found


def _rows(
    store: Store, name: str, form: Format, ids: Collection[str] | None, found: Exported
) -> Iterator[dict[str, Any]]:
    for chunk in plan(store, ids, GROUP_ROWS).chunks:
        trajectories = read(store, chunk)
        for trajectory, selection in zip(trajectories, read_beside(store, name, trajectories), strict=True):
            if selection.error is not None:
                found.left_out[f"error {selection.error.partition(':')[0]}"] += 1
            elif not selection.steps:
                found.left_out["no step chosen"] += 1
            else:
                weights = selection.weight_of()
                if form not in _HOLDS_WEIGHTS:
                    found.weights_lost += sum(weight < 1 for weight in weights.values())
                yield _ROWS[form](trajectory, weights)
