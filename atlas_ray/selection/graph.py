"""What runs on the cluster for the methods that ask nobody, and the tables that every stage takes and gives.

A stage takes chunks (row numbers, see `source.py`), reads the trajectories itself, and gives a table of selections
(`SELECTION_SCHEMA`, and what they took). An error that ends the run travels in that table too: Ray Data would wrap it
in its own. The stages' names are the operators' names in Ray's dashboard. The rules themselves are in the files of
their methods, the stages with models in `scorer.py` and `selector.py`, the driver's part in `run.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from atlas_ray import errors
from atlas_ray.errors import AtlasError
from atlas_ray.selection import all as every
from atlas_ray.selection import hybrid, non_critical, perplexity, random
from atlas_ray.selection.source import Chunk, read, read_beside
from atlas_ray.selection.summary import Calls
from atlas_ray.store import Store
from atlas_ray.trajectory import Selection, Trajectory, selections_to_table

EXTRA = ("calls", "n_steps")
"""Columns of a stage's output beside those of `SELECTION_SCHEMA`."""


def chunk_table(chunks: Sequence[Chunk]) -> pa.Table:
    """Chunks as a stage takes them."""
    return pa.table({"chunk": [chunk.to_json() for chunk in chunks]})


def chunks_of(batch: pa.Table) -> list[Chunk]:
    """Inverse of `chunk_table`."""
    return [Chunk.from_json(text) for text in batch.column("chunk").to_pylist()]


def read_chunks(store: Store, batch: pa.Table) -> list[Trajectory]:
    """The trajectories of a batch of chunks."""
    return [trajectory for chunk in chunks_of(batch) for trajectory in read(store, chunk)]


def output_table(
    trajectories: Sequence[Trajectory], selections: Sequence[Selection], calls: Sequence[Calls] | None = None
) -> pa.Table:
    """What a stage gives: a selection for each trajectory, its number of steps, and what its calls took."""
    taken = [json.dumps(vars(row)) for row in calls or [Calls()] * len(selections)]
    table = selections_to_table(selections).append_column("calls", pa.array(taken, pa.string()))
    return table.append_column("n_steps", pa.array([each.n_steps for each in trajectories], pa.int64()))


def stop_table(error: AtlasError) -> pa.Table:
    """What a stage gives when no row will get a selection any more."""
    row = Selection(trajectory_id="", method="", ratio=1.0, error=str(error))
    stop = json.dumps({"stop": [type(error).__name__, str(error)]})
    table = selections_to_table([row]).append_column("calls", pa.array([stop], pa.string()))
    return table.append_column("n_steps", pa.array([0], pa.int64()))


def stopped(table: pa.Table) -> AtlasError | None:
    """The error that ends the run, if the stage gave one instead of selections."""
    for row in table.column("calls").to_pylist():
        stop = json.loads(row).get("stop")
        if stop is not None:
            return getattr(errors, stop[0])(stop[1])  # type: ignore[no-any-return]
    return None


def select_all(batch: pa.Table, *, run_dir: str, ratio: float, seed: int) -> pa.Table:
    """Stage of method `all`."""
    trajectories = read_chunks(Store(run_dir), batch)
    return output_table(trajectories, [every.select(trajectory, ratio, seed) for trajectory in trajectories])


def select_random(batch: pa.Table, *, run_dir: str, ratio: float, seed: int) -> pa.Table:
    """Stage of method `random`."""
    trajectories = read_chunks(Store(run_dir), batch)
    return output_table(trajectories, [random.select(trajectory, ratio, seed) for trajectory in trajectories])


def select_non_critical(batch: pa.Table, *, run_dir: str, ratio: float, seed: int, complement_of: str) -> pa.Table:
    """Stage of method `non_critical`."""
    store = Store(run_dir)
    trajectories = read_chunks(store, batch)
    try:
        critical = read_beside(store, complement_of, trajectories)
    except AtlasError as error:
        return stop_table(error)
    pairs = zip(trajectories, critical, strict=True)
    return output_table(trajectories, [non_critical.select(each, ratio, seed, other) for each, other in pairs])


def select_hybrid(batch: pa.Table, *, run_dir: str, ratio: float, seed: int, weights: Mapping[str, float]) -> pa.Table:
    """Stage of method `hybrid`."""
    store = Store(run_dir)
    trajectories = read_chunks(store, batch)
    try:
        beside = {name: read_beside(store, name, trajectories) for name in weights}
    except AtlasError as error:
        return stop_table(error)
    selections = [
        hybrid.select(each, ratio, seed, {name: rows[place] for name, rows in beside.items()}, weights)
        for place, each in enumerate(trajectories)
    ]
    return output_table(trajectories, selections)


def select_perplexity(batch: pa.Table, *, run_dir: str, ratio: float, seed: int) -> pa.Table:
    """Last stage of method `perplexity`: from scores (`scorer.py`) to selections."""
    store = Store(run_dir)
    trajectories, selections = [], []
    for row in batch.to_pylist():
        if row["stop"] is not None:
            kind, text = json.loads(row["stop"])
            return stop_table(getattr(errors, kind)(text))
        chunk = read(store, Chunk.from_json(row["chunk"]))
        scores: list[dict[str, Any]] = json.loads(row["scores"])
        trajectories += chunk
        selections += [
            perplexity.select(each, ratio, seed, scored["scores"], scored["provenance"])
            for each, scored in zip(chunk, scores, strict=True)
        ]
    return output_table(trajectories, selections)
