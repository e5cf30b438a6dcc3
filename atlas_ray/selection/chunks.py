"""Which trajectories a run reads, chunk by chunk. Row numbers travel to the workers, which read the rows themselves.

Neither the driver nor Ray's object store ever holds the trajectories, however many there are.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from atlas_ray.errors import DataError, SelectionError, StoreError
from atlas_ray.store import Store
from atlas_ray.trajectory import SELECTION_SCHEMA, Selection, Trajectory, selection_from_row, trajectory_from_row


@dataclass(frozen=True)
class Chunk:
    """Rows of one row group of a folder of trajectories."""

    file: str
    group: int
    rows: list[int]
    folder: str = "trajectories"

    @classmethod
    def from_json(cls, text: str) -> Chunk:
        """Inverse of `to_json`."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """The chunk as a cell of a table."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Plan:
    """All that a run reads, in the order of the trajectories' ids."""

    chunks: list[Chunk]
    n_trajectories: int


def plan(store: Store, ids: Collection[str] | None, rows: int, selection: str | None = None) -> Plan:
    """Cut the stored trajectories into chunks of at most `rows`; reads their ids alone.

    Args:
        store: the run directory.
        ids: the trajectories of the run that are wanted; None takes all.
        rows: per chunk.
        selection: whose trajectories; where its method made trajectories of its own, all of them. None: the run's.

    Raises:
        StoreError: there are none.
        DataError: ids are not ascending, or repeat.
    """
    folder = store.trajectory_folder(selection)
    wanted = None if ids is None or folder != "trajectories" else set(ids)
    chunks: list[Chunk] = []
    count, before = 0, ""
    for name, group, found in _ids(store, folder):
        for identity in found:
            if identity <= before:
                raise DataError(
                    f"{store.path(folder, name)}: trajectory_id {identity!r} follows {before!r}; ids must be "
                    "distinct and ascending: collect again, or write the rows with Store.write_trajectories"
                )
            before = identity
        kept = [row for row, identity in enumerate(found) if wanted is None or identity in wanted]
        count += len(kept)
        chunks += [Chunk(name, group, kept[start : start + rows], folder) for start in range(0, len(kept), rows)]
    return Plan(chunks, count)


def _ids(store: Store, folder: str) -> Iterator[tuple[str, int, list[str]]]:
    names = [name for name in store.names(folder) if name.endswith(".parquet")]
    if not names:
        raise StoreError(f"{store.path(folder)} holds no Parquet files; run the stage that writes it first")
    for name in names:
        with store.fs.open(store.path(folder, name), "rb") as file:
            parquet = pq.ParquetFile(file)
            for group in range(parquet.num_row_groups):
                yield name, group, parquet.read_row_group(group, ["trajectory_id"])["trajectory_id"].to_pylist()


def read(store: Store, chunk: Chunk) -> list[Trajectory]:
    """The trajectories of a chunk."""
    return [trajectory_from_row(row) for row in read_rows(store, chunk)]


def read_rows(store: Store, chunk: Chunk) -> list[dict[str, Any]]:
    """The rows of a chunk as they are stored: `trajectory_from_row` takes most of the time of reading them."""
    with _parquet(store, chunk.folder, chunk.file) as (file, _):
        table = file.read_row_group(chunk.group).take(pa.array(chunk.rows, pa.int64()))
    return table.to_pylist()  # type: ignore[no-any-return]


def read_beside(store: Store, name: str, trajectories: Sequence[Trajectory]) -> list[Selection]:
    """The rows of a stored selection for trajectories that are in the order of their ids.

    Args:
        store: the run directory.
        name: of the selection.
        trajectories: whose rows.

    Raises:
        SelectionError: there is no row for one of them.
    """
    if not trajectories:
        return []
    found: dict[str, Selection] = {}
    first, last = trajectories[0].trajectory_id, trajectories[-1].trajectory_id
    for part in store.names("selections", name):
        if not part.endswith(".parquet"):
            continue
        with _parquet(store, "selections", name, part) as (file, bounds):
            groups = [group for group, (low, high) in enumerate(bounds) if low <= last and first <= high]
            table = file.read_row_groups(groups, SELECTION_SCHEMA.names)
        ids = table["trajectory_id"]
        rows = table.filter(pc.and_(pc.greater_equal(ids, first), pc.less_equal(ids, last))).to_pylist()
        found |= {row["trajectory_id"]: selection_from_row(row) for row in rows}
    missing = next((each.trajectory_id for each in trajectories if each.trajectory_id not in found), None)
    if missing is not None:
        raise SelectionError(
            f"the selection {name!r} has no row for trajectory {missing!r}; run {name} over the same trajectories"
        )
    return [found[each.trajectory_id] for each in trajectories]


@contextmanager
def _parquet(store: Store, *parts: str) -> Iterator[tuple[pq.ParquetFile, list[tuple[str, str]]]]:
    """A Parquet file, and the first and the last id of each of its row groups."""
    path = store.path(*parts)
    metadata, ids = _footer(store.fs, path, store.fs.ukey(path))
    with store.fs.open(path, "rb") as file:
        yield pq.ParquetFile(file, metadata=metadata), ids


@lru_cache(maxsize=8)
def _footer(fs: Any, path: str, version: str) -> tuple[pq.FileMetaData, list[tuple[str, str]]]:
    """Read once for all chunks, because a large file has many row groups; `version` tells the file from later ones."""
    del version
    with fs.open(path, "rb") as file:
        metadata = pq.read_metadata(file)
    known = [metadata.row_group(group).column(0).statistics for group in range(metadata.num_row_groups)]
    return metadata, [
        (each.min, each.max) if each is not None and each.has_min_max else ("", "\U0010ffff") for each in known
    ]
