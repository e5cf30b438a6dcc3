"""Writing `trajectories/` in the order of the ids while they come in any order: sorted runs on disk, then a merge.

Memory holds one run, then a batch of every run; besides that the ids alone, whatever the number of trajectories.
"""

from __future__ import annotations

import heapq
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from atlas_ray.store import Store
from atlas_ray.trajectory import TRAJECTORY_SCHEMA, Trajectory

RUN_BYTES = 32 << 20
"""Size of a sorted run, in memory and on disk."""
BATCH_ROWS = 64
"""Rows of a run that are in memory at a time while the runs are merged."""
MERGED_ROWS = 512
"""Rows that are merged and written together."""


@contextmanager
def sorted_trajectories(store: Store, *, run_bytes: int = RUN_BYTES) -> Iterator[Callable[[pa.Table], None]]:
    """Replace `trajectories/` by the rows of the tables that are added, when the block ends without an error.

    Args:
        store: the run directory. Runs lie in it until they are merged, or in the system's temporary folder where it is
            no local directory.
        run_bytes: size of a run.
    """
    if store.is_local:
        os.makedirs(store.root, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".sorting-", dir=store.root if store.is_local else None) as folder:
        waiting: list[pa.Table] = []
        runs: list[tuple[str, list[str]]] = []

        def add(table: pa.Table) -> None:
            waiting.append(table)
            if sum(piece.nbytes for piece in waiting) >= run_bytes:
                path = os.path.join(folder, str(len(runs)))
                runs.append((path, _spill(_sorted(waiting), path)))
                waiting.clear()

        yield add
        last = _sorted(waiting)
        with store.table_writer(TRAJECTORY_SCHEMA, "trajectories", "part-0.parquet") as write:
            if not runs:
                write(last)
                return
            path = os.path.join(folder, str(len(runs)))
            runs.append((path, _spill(last, path)))
            del last
            for table in _merged(runs):
                write(table)


def batched(trajectories: Iterable[Trajectory]) -> Iterator[list[Trajectory]]:
    """The trajectories in lists of at most `MERGED_ROWS`."""
    following = iter(trajectories)
    while batch := list(islice(following, MERGED_ROWS)):
        yield batch


def _sorted(tables: list[pa.Table]) -> pa.Table:
    table = pa.concat_tables([TRAJECTORY_SCHEMA.empty_table(), *tables]).combine_chunks()
    return table.take(pc.sort_indices(table["trajectory_id"]))


def _spill(table: pa.Table, path: str) -> list[str]:
    """Write a sorted run; returns its ids."""
    with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, BATCH_ROWS)
    return table["trajectory_id"].to_pylist()  # type: ignore[no-any-return]


def _merged(runs: list[tuple[str, list[str]]]) -> Iterator[pa.Table]:
    """The rows of all runs, ascending by id. The ids alone say which run the next row is in."""

    def owners(number: int, ids: list[str]) -> Iterator[tuple[str, int]]:
        return ((identity, number) for identity in ids)

    order = (number for _, number in heapq.merge(*(owners(number, ids) for number, (_, ids) in enumerate(runs))))
    with ExitStack() as stack:
        readers = [_Run(stack.enter_context(pa.OSFile(path, "rb"))) for path, _ in runs]
        while numbers := list(islice(order, MERGED_ROWS)):
            counts = Counter(numbers)
            present = sorted(counts)
            following: dict[int, int] = {}
            start = 0
            for number in present:
                following[number], start = start, start + counts[number]
            indices = []
            for number in numbers:  # the rows of a run stand together and in order
                indices.append(following[number])
                following[number] += 1
            table = pa.concat_tables([readers[number].take(counts[number]) for number in present])
            yield table.combine_chunks().take(pa.array(indices, pa.int64()))


class _Run:
    """The rows of a run, one after another."""

    def __init__(self, file: pa.NativeFile) -> None:
        self._batches = iter(pa.ipc.open_stream(file))
        self._held = TRAJECTORY_SCHEMA.empty_table()

    def take(self, count: int) -> pa.Table:
        """The next `count` rows."""
        while self._held.num_rows < count:
            self._held = pa.concat_tables([self._held, pa.Table.from_batches([next(self._batches)])])
        taken, self._held = self._held.slice(0, count), self._held.slice(count)
        return taken
