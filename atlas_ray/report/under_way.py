"""How far unfinished work of a run is: the last loss of a training, the episodes so far of an evaluation.

The terminal's overview and the live view say it. Reads the ends of journals only, so it can be asked every second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from atlas_ray.store import Store


@dataclass
class Tail:
    """What has been counted of a journal, up to the byte that was read last."""

    end: int = 0
    rows: int = 0
    solved: int = 0
    errors: int = 0


class UnderWay:
    """What a run directory says of unfinished work, and what was read of it already.

    Args:
        store: the run directory.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tails: dict[tuple[str, ...], Tail] = {}

    def lines(self) -> Iterator[str]:
        """A line for every checkpoint that is being trained, and for every journal of an unfinished evaluation."""
        done = self._store.facts("train")
        last: dict[str, dict[str, Any]] = {}
        for row in self._store.journal("metrics", "train.jsonl"):
            last[str(row["checkpoint"])] = row
        for name, row in last.items():
            if name not in done:
                yield f"train {name}: step {row['step']}, loss {row['loss']:.3f}"
        done = self._store.facts("evaluate")
        for model in self._store.names("evaluation"):
            for file in self._store.names("evaluation", model) if model not in done else ():
                if file.endswith(".jsonl"):
                    tail = self._tail("evaluation", model, file)
                    yield (
                        f"evaluate {model} {file.removesuffix('.jsonl')}: {tail.rows} episodes, {tail.solved} solved, "
                        f"{tail.errors} errors"
                    )

    def _tail(self, *parts: str) -> Tail:
        """A journal of episodes counted; only what was appended since the last time is read."""
        tail = self._tails.setdefault(parts, Tail())
        for row, _, end in self._store.journal_from(tail.end, *parts):
            tail.end = end
            tail.rows += 1
            tail.solved += bool(row["success"])
            tail.errors += row["error"] is not None
        return tail
