"""The log of a training run: a row per optimizer step in `metrics/train.jsonl`, Ray metrics, and progress lines.

Rank 0 writes (`TrainingLog`). The driver reads the rows and prints (`follow`), because a worker's output stays on its
node. Left out: MLflow (`track.py`).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from atlas_ray import ray_metrics
from atlas_ray.progress import Progress
from atlas_ray.store import Store
from atlas_ray.training.examples import Example
from atlas_ray.training.pairs import Pair

FILE = ("metrics", "train.jsonl")
_POLL_S = 2.0


@contextmanager
def follow(
    store: Store, name: str, *, start: int, total: int, track: Callable[[dict[str, Any]], None] | None = None
) -> Iterator[None]:
    """Print the progress of a training run while the block lasts, and pass each new row of its log to `track`.

    Args:
        store: of the run.
        name: of the checkpoint.
        start: steps done before; rows of later steps that are there already are an earlier run's and are ignored.
        total: steps of the run.
        track: called on a thread of its own; must not raise.
    """
    stale = {json.dumps(row, sort_keys=True) for row in store.journal(*FILE)}
    progress = Progress(f"train {name}", total, "steps", done=start)
    stop = threading.Event()

    def watch() -> None:
        seen = start
        while True:
            last = stop.wait(_POLL_S)
            for row in store.journal(*FILE):
                new = row["checkpoint"] == name and row["step"] > seen and json.dumps(row, sort_keys=True) not in stale
                if new:
                    seen = row["step"]
                    progress.add(1, partial(_describe, row))
                    if track:
                        track(row)
            if last:
                return

    thread = threading.Thread(target=watch, name=f"follow-{name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _describe(row: dict[str, Any]) -> str:
    return (
        f"loss {row['loss']:.3f}, {row['tokens_per_second']:.0f} tokens/s, MFU {row['mfu']:.0%}, "
        f"{sum(row['skipped'].values()):.0%} skipped"
    )


@dataclass(frozen=True)
class Speed:
    """Speed and memory of an optimizer step, over all workers."""

    seconds: float
    flops: float
    """FLOPs that the step needed."""
    peak: float
    """FLOP/s that the workers can reach, the same for every step."""
    memory_gib: float
    """The most memory that any worker has held so far."""
    skipped: dict[str, float]
    """Share of the plain work that each optimization left out."""


class TrainingLog:
    """Logs the optimizer steps of one checkpoint's training; used by rank 0 alone.

    Args:
        store: of the run.
        name: of the checkpoint.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name

    def drop_after(self, start: int) -> None:
        """Delete this checkpoint's rows of steps after `start`, which a killed or another run has left.

        Raises:
            StoreError: the log cannot be written.
        """
        rows = list(self._store.journal(*FILE))
        kept = [row for row in rows if row["checkpoint"] != self._name or row["step"] <= start]
        if kept != rows:
            self._store.write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in kept), *FILE)

    def log(
        self,
        step: int,
        epoch: int,
        batch: Sequence[Example | Pair],
        loss: float,
        grad_norm: float,
        learning_rate: float,
        speed: Speed,
        preferred: float | None = None,
    ) -> None:
        """Log one optimizer step.

        Args:
            step: steps done, this one included.
            epoch: from 0.
            batch: its examples or pairs, of all ranks.
            loss: weighted mean over the labels, in nats; of pairs, their mean.
            grad_norm: before clipping.
            learning_rate: of this step.
            speed: of this step.
            preferred: share of the pairs whose better reply has gained on the worse one since training began.

        Raises:
            StoreError: the log cannot be written.
        """
        tokens = sum(example.length for example in batch)
        labelled = sum(example.labelled for example in batch)
        row: dict[str, Any] = {
            "checkpoint": self._name,
            "step": step,
            "epoch": epoch,
            "loss": loss,
            "labelled_tokens": labelled,
            "tokens": tokens,
            "grad_norm": grad_norm,
            "learning_rate": learning_rate,
            "tokens_per_second": tokens / speed.seconds,
            "labelled_tokens_per_second": labelled / speed.seconds,
            "flops": speed.flops,
            "mfu": speed.flops / speed.seconds / speed.peak,
            "memory_gib": speed.memory_gib,
            "skipped": speed.skipped,
            "seconds": speed.seconds,
        }
        if preferred is not None:
            row["preferred"] = preferred
        self._store.append([row], *FILE)
        for key, gauge in ray_metrics.TRAIN_GAUGES.items():
            gauge.set(sum(speed.skipped.values()) if key == "skipped_share" else row[key], checkpoint=self._name)
        for key, counter in ray_metrics.TRAIN_COUNTERS.items():
            counter.add(row[key], checkpoint=self._name)
