"""The run directory: paths, atomic writes, Parquet tables, append-only journals and stage manifests.

A run directory is any URL that fsspec knows (a plain path, `s3://...`, `gs://...`, `memory://...`). Nothing is ever
half-written: a file is written beside its target and moved over it. A journal is only appended to; a torn last line is
left out when it is read, so its work is done again.
"""

from __future__ import annotations

import json
import os
import posixpath
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from atlas_ray.errors import StoreError
from atlas_ray.trajectory import (
    SELECTION_SCHEMA,
    TRAJECTORY_SCHEMA,
    Selection,
    Trajectory,
    has_failed,
    selection_from_row,
    selections_to_table,
    trajectories_to_table,
    trajectory_from_row,
)

EDITION = "# atlas-ray run directory, second edition"
"""First line of `config.yaml`; a run directory without it is refused."""
IDENTITY = ("seed", "model", "environments")
"""Top-level config fields that make two run directories different experiments."""
GROUP_ROWS = 64
"""Trajectories of a Parquet row group: what a worker reads at a time."""
SELECTION_GROUP_ROWS = 512
"""Selections of a row group: they are small, and a footer grows with the number of groups."""


class Store:
    """One run directory.

    Args:
        url: a path or a URL that fsspec knows.

    Raises:
        StoreError: the protocol is unknown or its package is missing.
    """

    def __init__(self, url: str) -> None:
        try:
            # Other processes write here too, and cached listings would hide their files.
            self.fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ValueError, ImportError) as error:
            raise StoreError(f"run_dir {url!r}: {error}; use a path or a URL that fsspec knows") from error
        self.is_local = "file" in (self.fs.protocol if isinstance(self.fs.protocol, tuple) else (self.fs.protocol,))
        self.root = os.path.abspath(root) if self.is_local else root.rstrip("/")
        self.url = self.root if self.is_local else url.rstrip("/")

    def path(self, *parts: str) -> str:
        """The path of a file inside the run directory, as `self.fs` takes it."""
        return posixpath.join(self.root, *parts)

    def address(self, *parts: str) -> str:
        """The path or URL of a file inside the run directory, as others take it."""
        return posixpath.join(self.url, *parts)

    def exists(self, *parts: str) -> bool:
        """Whether a file or folder is there."""
        return bool(self.fs.exists(self.path(*parts)))

    def names(self, *parts: str) -> list[str]:
        """Names in a folder, sorted; empty when it is not there."""
        if not self.exists(*parts):
            return []
        return sorted(posixpath.basename(str(name).rstrip("/")) for name in self.fs.ls(self.path(*parts), detail=False))

    # --- whole files ---------------------------------------------------------------------------------------------
    def write_bytes(self, data: bytes, *parts: str) -> str:
        """Write a file atomically; returns its path.

        Raises:
            StoreError: the disk is full, or the path cannot be written.
        """
        target = self.path(*parts)
        scratch = posixpath.join(posixpath.dirname(target), f".{posixpath.basename(target)}.{os.getpid()}.tmp")
        try:
            self.fs.makedirs(posixpath.dirname(target), exist_ok=True)
            try:
                with self.fs.open(scratch, "wb") as file:
                    file.write(data)
                self.fs.mv(scratch, target) if not self.is_local else os.replace(scratch, target)
            except BaseException:
                if self.fs.exists(scratch):
                    self.fs.rm(scratch)
                raise
        except OSError as error:
            raise StoreError(
                f"cannot write {target}: {error.strerror or error}; free space or fix the rights"
            ) from error
        return target

    def write_text(self, text: str, *parts: str) -> str:
        """Write UTF-8 text atomically."""
        return self.write_bytes(text.encode(), *parts)

    def write_json(self, value: Any, *parts: str) -> str:
        """Write indented JSON with sorted keys atomically."""
        return self.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", *parts)

    def read_text(self, *parts: str) -> str:
        """The text of a file."""
        return str(self.fs.cat_file(self.path(*parts)).decode())

    def read_json(self, *parts: str) -> Any:
        """A JSON file.

        Raises:
            StoreError: the file is missing or no JSON.
        """
        try:
            return json.loads(self.read_text(*parts))
        except FileNotFoundError as error:
            raise StoreError(f"{self.path(*parts)} is missing; run the stage that writes it first") from error
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{self.path(*parts)} is not JSON ({error}); delete it and run its stage again") from error

    def remove(self, *parts: str) -> None:
        """Delete a file or folder, if it is there."""
        if self.exists(*parts):
            self.fs.rm(self.path(*parts), recursive=True)

    # --- tables --------------------------------------------------------------------------------------------------
    @contextmanager
    def table_writer(self, schema: pa.Schema, *parts: str) -> Iterator[Callable[[pa.Table], None]]:
        """Write one Parquet file of trajectories or selections piece by piece, atomically: it is there when the block
        ends without an error.

        The bytes depend on the rows alone, not on how they were cut into pieces.

        Raises:
            StoreError: the disk is full, or the path cannot be written.
        """
        target = self.path(*parts)
        scratch = self.path(f".{'-'.join(parts)}.{os.getpid()}.tmp")
        try:
            self.fs.makedirs(self.root, exist_ok=True)
            try:
                group_rows = GROUP_ROWS if schema == TRAJECTORY_SCHEMA else SELECTION_GROUP_ROWS
                ids = [schema.names[0]]  # least and greatest of a long text would only swell the footer
                with (
                    self.fs.open(scratch, "wb") as file,
                    pq.ParquetWriter(file, schema, write_statistics=ids) as writer,
                ):
                    waiting = schema.empty_table()

                    def write(piece: pa.Table) -> None:
                        nonlocal waiting
                        waiting = pa.concat_tables([waiting, piece])
                        whole = waiting.num_rows // group_rows * group_rows
                        if whole:
                            writer.write_table(waiting.slice(0, whole).combine_chunks(), group_rows)
                            waiting = waiting.slice(whole)

                    yield write
                    if waiting.num_rows:
                        writer.write_table(waiting.combine_chunks())
                self.fs.makedirs(posixpath.dirname(target), exist_ok=True)
                self.fs.mv(scratch, target) if not self.is_local else os.replace(scratch, target)
            finally:
                if self.fs.exists(scratch):
                    self.fs.rm(scratch)
        except OSError as error:
            raise StoreError(
                f"cannot write {target}: {error.strerror or error}; free space or fix the rights"
            ) from error

    def read_table(self, schema: pa.Schema, *parts: str) -> pa.Table:
        """The schema's columns of all Parquet files of a folder, in the order of their names.

        Raises:
            StoreError: the folder holds none, or one lacks a column.
        """
        names = [name for name in self.names(*parts) if name.endswith(".parquet")]
        if not names:
            raise StoreError(f"{self.path(*parts)} holds no Parquet files; run the stage that writes it first")
        tables = []
        for name in names:
            with self.fs.open(self.path(*parts, name), "rb") as file:
                found = pq.read_schema(file).names
                if not set(schema.names) <= set(found):
                    raise StoreError(
                        f"{self.path(*parts, name)}: columns {sorted(found)}, expected {sorted(schema.names)}"
                    )
                table = pq.read_table(file, columns=schema.names)
            tables.append(table.select(schema.names).cast(schema))
        return pa.concat_tables(tables)

    def write_trajectories(self, trajectories: Sequence[Trajectory]) -> str:
        """Replace `trajectories/`; all rows in one file, sorted by id."""
        rows = sorted(trajectories, key=lambda trajectory: trajectory.trajectory_id)
        with self.table_writer(TRAJECTORY_SCHEMA, "trajectories", "part-0.parquet") as write:
            write(trajectories_to_table(rows))
        return self.path("trajectories", "part-0.parquet")

    def trajectory_folder(self, selection: str | None = None) -> str:
        """The folder of the trajectories that a selection is of: its own, where its method made some; else the run's.

        Args:
            selection: by name; None: the run's.
        """
        own = posixpath.join("selections", selection or "", "trajectories")
        return own if selection is not None and self.exists(own) else "trajectories"

    def read_trajectories(self, selection: str | None = None) -> list[Trajectory]:
        """All trajectories of the run, or all that a selection is of (`trajectory_folder`), sorted by id."""
        return self._trajectories_in(self.trajectory_folder(selection))

    def every_trajectory(self) -> list[Trajectory]:
        """The run's trajectories, then those that the methods of its selections made; sorted by id in each folder."""
        folders = dict.fromkeys(self.trajectory_folder(name) for name in (None, *self.names("selections")))
        return [trajectory for folder in folders for trajectory in self._trajectories_in(folder)]

    def _trajectories_in(self, folder: str) -> list[Trajectory]:
        rows = self.read_table(TRAJECTORY_SCHEMA, folder).to_pylist()
        return sorted((trajectory_from_row(row) for row in rows), key=lambda trajectory: trajectory.trajectory_id)

    def trajectory_ids(self) -> list[tuple[str, str]]:
        """Environment and id of every stored trajectory, sorted by id; reads nothing else of them.

        Raises:
            StoreError: there are none.
        """
        table = self.read_table(
            pa.schema([TRAJECTORY_SCHEMA.field(n) for n in ("env", "trajectory_id")]), "trajectories"
        )
        pairs = zip(table["env"].to_pylist(), table["trajectory_id"].to_pylist(), strict=True)
        return sorted(pairs, key=lambda pair: pair[1])

    def trajectory_parts(self, *, with_failures: bool = True) -> list[tuple[str, str, str | None]]:
        """Environment, id and part (`warmup`, `tuning`; None for an import) of every trajectory, sorted by id.

        Args:
            with_failures: of those too that are known to have failed.

        Raises:
            StoreError: there are none.
        """
        names = ("env", "trajectory_id", "metadata", "success", "reward")
        fields = [TRAJECTORY_SCHEMA.field(name) for name in names]
        columns = self.read_table(pa.schema(fields), "trajectories").to_pydict()
        return sorted(
            (
                (env, identity, json.loads(text or "{}").get("part"))
                for env, identity, text, success, reward in zip(*(columns[name] for name in names), strict=True)
                if with_failures or not has_failed(success, reward)
            ),
            key=lambda row: row[1],
        )

    def write_selections(self, name: str, selections: Sequence[Selection]) -> str:
        """Replace the selection of that name, `selections/<name>/`; all rows in one file, sorted by trajectory id."""
        rows = sorted(selections, key=lambda selection: selection.trajectory_id)
        with self.table_writer(SELECTION_SCHEMA, "selections", name, "part-0.parquet") as write:
            write(selections_to_table(rows))
        return self.path("selections", name, "part-0.parquet")

    def read_selections(self, name: str) -> list[Selection]:
        """All rows of a selection, sorted by trajectory id."""
        rows = self.read_table(SELECTION_SCHEMA, "selections", name).to_pylist()
        return sorted((selection_from_row(row) for row in rows), key=lambda selection: selection.trajectory_id)

    def iter_selections(self, name: str) -> Iterator[Selection]:
        """All rows of a selection in the files' order, a row group at a time."""
        for file_name in self.names("selections", name):
            if not file_name.endswith(".parquet"):
                continue
            with self.fs.open(self.path("selections", name, file_name), "rb") as file:
                for batch in pq.ParquetFile(file).iter_batches(SELECTION_GROUP_ROWS):
                    yield from (selection_from_row(row) for row in batch.to_pylist())

    # --- journals ------------------------------------------------------------------------------------------------
    def append(self, rows: Iterable[dict[str, Any]], *parts: str) -> None:
        """Append rows to a JSON Lines journal and flush them to the disk.

        Raises:
            StoreError: the disk is full; the rows before stay valid.
        """
        target = self.path(*parts)
        data = "".join(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows).encode()
        try:
            if self.is_local:
                _append_here(data, target)
            else:
                self.fs.makedirs(posixpath.dirname(target), exist_ok=True)
                torn = self.fs.exists(target) and self._is_torn(target)
                with self.fs.open(target, "ab") as file:
                    file.write(b"\n" + data if torn else data)
        except OSError as error:
            raise StoreError(
                f"cannot append to {target}: {error.strerror or error}; free space and run again"
            ) from error

    def _is_torn(self, target: str) -> bool:
        size = self.fs.size(target)
        return bool(size) and self.fs.cat_file(target, start=size - 1, end=size) != b"\n"

    def journal(self, *parts: str) -> Iterator[dict[str, Any]]:
        """The whole rows of a JSON Lines journal; a torn line is left out."""
        return (row for row, _, _ in self.journal_from(0, *parts))

    def journal_from(self, start: int, *parts: str) -> Iterator[tuple[dict[str, Any], int, int]]:
        """The whole rows from byte `start` on, where a line begins; each with the bytes `[begin, end)` it takes."""
        if not self.exists(*parts) or self.fs.size(self.path(*parts)) <= start:
            return
        end = start
        for line in self.fs.cat_file(self.path(*parts), start=start).split(b"\n"):
            begin, end = end, end + len(line) + 1
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):  # torn, nested without end, or the nothing after the last line
                continue
            if isinstance(row, dict):
                yield row, begin, end

    def journal_row(self, begin: int, end: int, *parts: str) -> dict[str, Any]:
        """The row that `journal_from` found there."""
        row: dict[str, Any] = json.loads(self.fs.cat_file(self.path(*parts), start=begin, end=end))
        return row

    # --- manifests -----------------------------------------------------------------------------------------------
    def is_current(self, stage: str, unit: str, key: str) -> bool:
        """Whether `unit` of a stage was finished with the same `key` (hash of its config and inputs)."""
        entry = self._manifest(stage).get(unit)
        return entry is not None and entry["key"] == key

    def key_of(self, stage: str, unit: str) -> str | None:
        """The key that `unit` of a stage was finished with; None when it was not."""
        entry = self._manifest(stage).get(unit)
        return None if entry is None else str(entry["key"])

    def finish(self, stage: str, unit: str, key: str, **facts: Any) -> None:
        """Record in `<stage>/manifest.json` that `unit` is finished; written last, after all of its files."""
        manifest = self._manifest(stage)
        manifest[unit] = {"key": key, "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **facts}
        self.write_json(manifest, stage, "manifest.json")

    def facts(self, stage: str) -> dict[str, dict[str, Any]]:
        """The manifest entries of a stage's finished units, by unit."""
        return self._manifest(stage)

    def _manifest(self, stage: str) -> dict[str, dict[str, Any]]:
        if not self.exists(stage, "manifest.json"):
            return {}
        manifest: dict[str, dict[str, Any]] = self.read_json(stage, "manifest.json")
        return manifest

    # --- config --------------------------------------------------------------------------------------------------
    def claim(self, config: dict[str, Any]) -> None:
        """Write `config.yaml`, or check that the one there is of the same experiment.

        Stages rerun when their own settings change; but another seed, model or set of environments is another
        experiment and needs a run directory of its own.

        Raises:
            StoreError: the directory belongs to another experiment, or to the first edition.
        """
        if self.exists("config.yaml"):
            text = self.read_text("config.yaml")
            if not text.startswith(EDITION):
                raise StoreError(
                    f"{self.root}: this run directory is of the first edition of atlas-ray, whose selections and keys "
                    "are of another form; choose another run_dir or delete this one"
                )
            before = yaml.safe_load(text) or {}
            for name in IDENTITY:
                if before.get(name) != config.get(name):
                    raise StoreError(
                        f"{self.path('config.yaml')}: this run directory is of another experiment ({name} was "
                        f"{before.get(name)!r}, is {config.get(name)!r}); choose another run_dir or delete this one"
                    )
        self.write_text(f"{EDITION}\n{yaml.safe_dump(config, sort_keys=False)}", "config.yaml")


def _append_here(data: bytes, target: str) -> None:
    """What `Store.append` does with a local file: opened once, where fsspec opens it twice and looks three times."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                data = b"\n" + data
        file.write(data)
