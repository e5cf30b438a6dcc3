"""The tables that selection methods exchange with Ray Data, and the rules' stage on it.

A stage takes chunks (row numbers, see `chunks.py`), reads the trajectories itself, and gives a table of selections
(`SELECTION_SCHEMA`, and the calls that it made). An error that ends the run travels in that table too,
because Ray Data would wrap an exception in its own. Stages with models are in the files of their methods; the driver's
part is in `run.py`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from math import ceil
from typing import TYPE_CHECKING

import pyarrow as pa

from atlas_ray import errors
from atlas_ray.errors import AtlasError, SelectionError
from atlas_ray.selection.chunks import Chunk, Plan, read, read_beside
from atlas_ray.selection.summary import Calls
from atlas_ray.store import Store
from atlas_ray.trajectory import Selection, Trajectory, selections_to_table

if TYPE_CHECKING:
    import ray.data

    from atlas_ray.selection.method import RuleMethod

CALLS = "calls"
"""The column of a stage's output beside those of `SELECTION_SCHEMA`."""
_MOST_CHUNKS_PER_TASK = 16


def chunk_table(chunks: Sequence[Chunk]) -> pa.Table:
    """Chunks as a stage takes them."""
    return pa.table({"chunk": [chunk.to_json() for chunk in chunks]})


def chunks_of(batch: pa.Table) -> list[Chunk]:
    """Inverse of `chunk_table`."""
    return [Chunk.from_json(text) for text in batch.column("chunk").to_pylist()]


def output_table(selections: Sequence[Selection], calls: Sequence[Calls] | None = None) -> pa.Table:
    """What a stage gives: a selection for every trajectory that it was given, and what its calls took."""
    taken = [json.dumps(vars(row)) for row in calls or [Calls()] * len(selections)]
    return selections_to_table(selections).append_column(CALLS, pa.array(taken, pa.string()))


def stop_table(error: AtlasError) -> pa.Table:
    """What a stage gives when no row will get a selection any more."""
    row = Selection(trajectory_id="", method="", ratio=1.0, error=str(error))
    stop = json.dumps({"stop": [type(error).__name__, str(error)]})
    return selections_to_table([row]).append_column(CALLS, pa.array([stop], pa.string()))


def stopped(table: pa.Table) -> AtlasError | None:
    """The error that ends the run, if the stage gave one instead of selections."""
    for row in table.column(CALLS).to_pylist():
        stop = json.loads(row).get("stop")
        if stop is not None:
            return error_from(*stop)
    return None


def error_from(kind: str, text: str) -> AtlasError:
    """An error that travelled by the name of its class; a class of another package becomes a `SelectionError`."""
    found: type[AtlasError] = getattr(errors, kind, SelectionError)
    return found(text)


def dataset(plan: Plan, chunks_per_task: int, name: str) -> ray.data.Dataset:
    """The chunks in blocks of so many, in order: Ray Data would make one block of a small input.

    Args:
        plan: with at least one chunk.
        chunks_per_task: chunks of a block.
        name: of the selection, for Ray's dashboard.
    """
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # its import sets it; our progress lines replace its own
    table = chunk_table(plan.chunks)
    blocks = [table.slice(start, chunks_per_task) for start in range(0, table.num_rows, chunks_per_task)]
    found = ray.data.from_arrow(blocks)
    found.context.execution_options.preserve_order = True
    found.context.enable_progress_bars = False  # `Progress` prints lines, which read better in a job's log
    found.context.print_on_execution_start = False
    found.set_name(f"select {name}")
    return found


def tables(dataset: ray.data.Dataset) -> Iterator[pa.Table]:
    """The blocks of a dataset, one after the other."""
    yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow")


def cluster_cpus() -> int:
    """CPUs of the cluster, at least 1."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def rule_tables(method: RuleMethod, store: Store, plan: Plan) -> Iterator[pa.Table]:
    """The selections of a rule over all chunks, in parallel and in the order of the plan."""
    per_task = max(1, min(_MOST_CHUNKS_PER_TASK, ceil(len(plan.chunks) / cluster_cpus())))
    options = {"method": method, "run_dir": store.url}
    return tables(
        dataset(plan, per_task, method.spec.name).map_batches(
            apply_rule, batch_format="pyarrow", batch_size=None, fn_kwargs=options, num_cpus=1
        )
    )


def apply_rule(batch: pa.Table, *, method: RuleMethod, run_dir: str) -> pa.Table:
    """The stage of a rule: every trajectory of the batch with its rows in the method's input selections."""
    store = Store(run_dir)
    trajectories = [trajectory for chunk in chunks_of(batch) for trajectory in read(store, chunk)]
    try:
        inputs = {name: read_beside(store, name, trajectories) for name in method.inputs()}
        selections = [
            _checked(method, trajectory, method.choose(trajectory, {name: rows[i] for name, rows in inputs.items()}))
            for i, trajectory in enumerate(trajectories)
        ]
    except AtlasError as error:
        return stop_table(error)
    return output_table(selections)


def _checked(method: RuleMethod, trajectory: Trajectory, found: Selection) -> Selection:
    if found.trajectory_id != trajectory.trajectory_id or (found.steps and found.steps[-1] >= trajectory.n_steps):
        raise SelectionError(
            f"selection method {method.spec.method!r}: for trajectory {trajectory.trajectory_id!r} of "
            f"{trajectory.n_steps} steps it chose {list(found.steps)} of {found.trajectory_id!r}; mend its `choose`"
        )
    return found
