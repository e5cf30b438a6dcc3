"""Make one selection over the stored trajectories: the driver's part.

Only row numbers go out to the workers and selections come in. They are written as they come, in the order of the
trajectories' ids, so the driver's memory does not grow with the number of trajectories, and the bytes are the same
whatever the parallelism. What differs from run to run (time, retries, answers from the journal) goes to
`metrics/select.jsonl`. What runs on the cluster is the method's business (`batches.py`, `methods/`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pyarrow as pa
import ray.exceptions

from atlas_ray import models
from atlas_ray.cluster import GO_ON, said
from atlas_ray.config import FilterName, SelectionSpec
from atlas_ray.errors import AtlasError, BudgetError, EngineError, ModelError, SelectionError
from atlas_ray.progress import Progress, say
from atlas_ray.selection import batches, filters
from atlas_ray.selection.chunks import Plan, plan, read
from atlas_ray.selection.compare import FigureSums, SelectionFigures, shapes_of
from atlas_ray.selection.filters import Judgement
from atlas_ray.selection.method import Method, SelectionContext
from atlas_ray.selection.soft import soften
from atlas_ray.selection.summary import Calls, Tally, line
from atlas_ray.trajectory import (
    SELECTION_SCHEMA,
    TRAJECTORY_SCHEMA,
    selection_from_row,
    selections_to_table,
    trajectories_to_table,
)


def run(context: SelectionContext, method: Method, ids: Collection[str] | None = None) -> dict[str, Any]:
    """Write `selections/<name>/`, one row a trajectory, sorted by id.

    Args:
        context: of the run.
        method: of the selection; the selections that it is made from are read from the run directory.
        ids: the trajectories to judge; None: all of them.

    Returns:
        How many `trajectories`, and how many `error_rows` and (if any) `failed_trajectories` among them.

    Raises:
        SelectionError: a selection that the method is made from is missing.
        EndpointError: the selector endpoint refused for good; every answer so far is kept.
        BudgetError: the budget is spent; every answer is kept.
        EngineError: an engine or the local endpoint did not start, or died.
        ModelError: a model cannot be used.
    """
    start = time.monotonic()
    store, spec = context.store, method.spec
    for name in method.inputs():
        if not any(file.endswith(".parquet") for file in store.names("selections", name)):
            raise SelectionError(
                f"the selection {name!r} has not been made; run it over the same trajectories before {spec.name!r}"
            )
    tally = Tally(spec.method)
    with ExitStack() as stack:
        write = stack.enter_context(store.table_writer(SELECTION_SCHEMA, "selections", spec.name, "part-0.parquet"))
        work = _judged(context, method, plan(store, ids, method.rows_per_chunk))
        if work.chunks:
            judgements = filters.judge(context, spec.filters, work)
            tables = (_finished(table, spec, judgements) for table in method.tables(context, work, stack))
            _collect(tables, spec.name, tally, work.n_trajectories, write)
    figures, failed = _figures(context, method, work)
    summary = tally.summary(figures, failed, time.monotonic() - start) | method.facts()
    store.append([summary], "metrics", "select.jsonl")
    say(f"  select {spec.name}: {line(summary)}")
    among = {"failed_trajectories": failed} if failed else {}
    return {"trajectories": tally.rows, **among, "error_rows": tally.error_rows}


def _judged(context: SelectionContext, method: Method, work: Plan) -> Plan:
    """The trajectories to judge: those given, or those that the method makes of them, which are then stored."""
    store, name = context.store, method.spec.name
    if not method.own_trajectories:
        store.remove("selections", name, "trajectories")  # of another method that had this name
        return work
    made = sorted(method.prepare(context, work), key=lambda trajectory: trajectory.trajectory_id)
    with store.table_writer(TRAJECTORY_SCHEMA, "selections", name, "trajectories", "part-0.parquet") as write:
        write(trajectories_to_table(made))
    return plan(store, None, method.rows_per_chunk, name)


def _finished(
    table: pa.Table, spec: SelectionSpec, judgements: Mapping[FilterName, Mapping[str, Judgement]]
) -> pa.Table:
    """A stage's output with the weights that were asked for, and without the steps that filters remove."""
    if not (judgements or spec.soft_weights) or batches.stopped(table) is not None:
        return table
    rows = [selection_from_row(row) for row in table.drop_columns([batches.CALLS]).to_pylist()]
    if spec.soft_weights is not None:
        rows = [soften(row, spec.soft_weights) for row in rows]
    kept = selections_to_table([filters.apply(row, judgements) for row in rows])
    return kept.append_column(batches.CALLS, table[batches.CALLS])


def _collect(
    tables: Iterator[pa.Table], name: str, tally: Tally, total: int, write: Callable[[pa.Table], None]
) -> None:
    progress = Progress(f"select {name}", total, "trajectories")
    spent: AtlasError | None = None
    try:
        for table in tables:
            error = batches.stopped(table)
            if isinstance(error, BudgetError):
                spent = error  # questions under way are paid for: their answers are waited for
            elif error is not None:
                raise error
            if spent is not None:
                continue
            rows = table.drop_columns([batches.CALLS])
            for row, calls in zip(rows.to_pylist(), table[batches.CALLS].to_pylist(), strict=True):
                tally.add(selection_from_row(row), Calls(**json.loads(calls)))
            write(rows.select(SELECTION_SCHEMA.names).cast(SELECTION_SCHEMA))
            progress.add(table.num_rows, lambda: f"{tally.error_rows} error rows")
    except ray.exceptions.RayActorError as error:
        raise EngineError(f"a worker of `select {name}` died ({said(error)}); {GO_ON}") from error
    if spent is not None:
        raise spent


def _figures(context: SelectionContext, method: Method, work: Plan) -> tuple[SelectionFigures, int]:
    """The figures of the selection just made, and the number of failed trajectories among those that it judged.

    Reads the trajectories once more, chunk by chunk.
    """
    config, store, spec = context.config, context.store, method.spec
    count = None
    try:
        count = models.token_counter(models.resolve(config.model, trust_remote_code=config.trust_remote_code))
    except ModelError as error:
        say(f"  share of tokens is unknown: {error}")
    sums, rows, failed = FigureSums(spec.name, spec.method), store.iter_selections(spec.name), 0
    for chunk in work.chunks:
        trajectories = read(store, chunk)
        failed += sum(each.failed for each in trajectories)
        for shape in shapes_of(trajectories, count).values():
            sums.add(next(rows), shape)
    return sums.result(), failed
