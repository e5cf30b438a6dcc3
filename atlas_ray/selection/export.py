"""A selection as training data of other trainers: AgentTraj-L, OpenAI-style chat messages, axolotl.

Trajectories without a chosen step (error rows among them) are left out, because a row without a label teaches nothing;
how many, and why, is told. Every row has passed the schema that reading uses.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

from atlas_ray import agenttraj
from atlas_ray.errors import DataError
from atlas_ray.formats import messages
from atlas_ray.selection.source import plan, read, read_beside
from atlas_ray.store import GROUP_ROWS, Store
from atlas_ray.trajectory import Trajectory

Format = Literal["agenttraj", "messages", "axolotl"]
FORMATS: tuple[Format, ...] = get_args(Format)
_ROWS: dict[Format, Callable[[Trajectory, Collection[int]], dict[str, Any]]] = {
    "agenttraj": agenttraj.to_row, "messages": messages.to_chat, "axolotl": messages.to_axolotl
}  # fmt: skip


def export(
    store: Store, method: str, form: Format, path: str, ids: Collection[str] | None = None
) -> tuple[int, Counter[str]]:
    """Write a stored selection to a file, atomically and in the order of the trajectories' ids.

    Args:
        store: the run directory.
        method: the selection.
        form: of the file; `agenttraj` is one JSON list, the others are JSON Lines.
        path: of the file.
        ids: the trajectories to write; None: all.

    Returns:
        Rows written, and rows left out by reason.

    Raises:
        DataError: the file cannot be written, or nothing is left to write.
        SelectionError: the selection has not been made for these trajectories.
    """
    left_out: Counter[str] = Counter()
    scratch = Path(f"{path}.{os.getpid()}.tmp")
    written = 0
    opening, between, closing = ("[\n", ",\n", "\n]\n") if form == "agenttraj" else ("", "\n", "\n")
    try:
        scratch.parent.mkdir(parents=True, exist_ok=True)
        try:
            with scratch.open("w", encoding="utf-8") as file:
                for row in _rows(store, method, form, ids, left_out):
                    file.write((between if written else opening) + json.dumps(row, ensure_ascii=False))
                    written += 1
                file.write(closing)
            if not written:
                raise DataError(f"{path}: the selection {method!r} leaves nothing to write ({dict(left_out)})")
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); choose another --output") from error
    return written, left_out


def _rows(
    store: Store, method: str, form: Format, ids: Collection[str] | None, left_out: Counter[str]
) -> Iterator[dict[str, Any]]:
    for chunk in plan(store, ids, GROUP_ROWS).chunks:
        trajectories = read(store, chunk)
        for trajectory, selection in zip(trajectories, read_beside(store, method, trajectories), strict=True):
            if selection.error is not None:
                left_out[f"error {selection.error.partition(':')[0]}"] += 1
            elif not selection.steps:
                left_out["no step chosen"] += 1
            else:
                yield _ROWS[form](trajectory, selection.steps)
