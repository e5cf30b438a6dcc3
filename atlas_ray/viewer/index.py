"""The trajectories, selections and episodes of a run as rows in memory, and whole ones read from the disk on demand.

What is held is what filters and lists need, texts included; messages, scores and reasons stay in the files.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from atlas_ray.errors import StoreError
from atlas_ray.report.view import spread
from atlas_ray.store import Store
from atlas_ray.trajectory import (
    SELECTION_SCHEMA,
    TRAJECTORY_SCHEMA,
    Episode,
    Selection,
    Trajectory,
    has_failed,
    selection_from_row,
    trajectory_from_row,
)
from atlas_ray.viewer.rows import TEXT, Rows

_BATCH = 4096
_LIGHT = ("trajectory_id", "env", "item_id", "split", "source", "n_steps", "reward", "success", "metadata")
_CONTENT = "messages.list.element.content"
_EPISODE = pa.schema(
    [
        ("model", pa.string()), ("env", pa.string()), ("split", pa.string()), ("task", pa.int64()),
        ("seed", pa.int64()), ("score", pa.float64()), ("outcome", pa.string()), ("stop", pa.string()),
        ("error", pa.string()), ("rounds", pa.int64()), ("key", pa.string()), (TEXT, pa.string()),
        ("file", pa.string()), ("begin", pa.int64()), ("end", pa.int64()),
    ]
)  # fmt: skip
_PLACE = ("model", "file", "begin", "end")
"""Where an episode is: the folder and name of its journal, and its bytes."""
STYLE, OUTCOME = "style", "outcome"


class Folder:
    """The Parquet files of a folder as one list of rows.

    Args:
        store: the run directory.
        schema: of the rows.
        parts: the folder.
    """

    def __init__(self, store: Store, schema: pa.Schema, *parts: str) -> None:
        self._store, self._schema = store, schema
        self._files = [[*parts, name] for name in store.names(*parts) if name.endswith(".parquet")]
        counts = []
        for file in self._files:
            with store.fs.open(store.path(*file), "rb") as stream:
                counts.append(pq.ParquetFile(stream).metadata.num_rows)
        self._starts = [0, *accumulate(counts)]

    def batches(self, columns: Collection[str]) -> Iterator[pa.RecordBatch]:
        """Some columns of all rows, in pieces."""
        for file in self._files:
            with self._store.fs.open(self._store.path(*file), "rb") as stream:
                yield from pq.ParquetFile(stream).iter_batches(_BATCH, columns=list(columns))

    def row(self, number: int) -> dict[str, Any]:
        """A whole row, by its number in the folder.

        Raises:
            StoreError: the folder has changed since it was looked at.
        """
        at = next((i for i, start in enumerate(self._starts[1:]) if number < start), None)
        if at is None:
            raise StoreError(f"{self._store.url}: row {number} is gone; the run goes on, ask again")
        left = number - self._starts[at]
        with self._store.fs.open(self._store.path(*self._files[at]), "rb") as stream:
            file = pq.ParquetFile(stream)
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if left < rows:
                    table = file.read_row_group(group).slice(left, 1).select(self._schema.names).cast(self._schema)
                    return dict(table.to_pylist()[0])
                left -= rows
        raise StoreError(f"{self._store.path(*self._files[at])} has changed; the run goes on, ask again")


class SelectionIndex:
    """The rows of one selection by trajectory.

    Args:
        store: the run directory.
        name: of the selection.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self._folder = Folder(store, SELECTION_SCHEMA, "selections", name)
        names = ("trajectory_id", "method")
        schema = pa.schema([SELECTION_SCHEMA.field(name) for name in names])
        table = pa.Table.from_batches(self._folder.batches(names), schema)
        self.ids: pa.Array = table["trajectory_id"].combine_chunks()
        methods = table["method"].unique().to_pylist()
        self.method: str = methods[0] if methods else name

    def of(self, trajectory_id: str) -> Selection | None:
        """The row of a trajectory; None without one.

        Raises:
            StoreError: the file has changed since.
        """
        at = pc.index(self.ids, trajectory_id).as_py()
        if at < 0:
            return None
        row = selection_from_row(self._folder.row(at))
        if row.trajectory_id != trajectory_id:
            raise StoreError(f"selection {self._name} has changed; the run goes on, ask again")
        return row

    def among(self, ids: Sequence[str]) -> list[Selection]:
        """The rows of some trajectories."""
        wanted = pa.array(ids, pa.string())
        columns = [name for name in SELECTION_SCHEMA.names if name not in ("scores", "plan", "reason")]
        rows: list[Selection] = []
        for batch in self._folder.batches(columns):
            for row in batch.filter(pc.is_in(batch.column("trajectory_id"), value_set=wanted)).to_pylist():
                rows.append(selection_from_row(row))
        return rows


class TrajectoryIndex:
    """The trajectories of a run, those that methods made included.

    A selection is a column of booleans: whether it has a row for a trajectory.

    Args:
        store: the run directory.
        selections: by name.
    """

    def __init__(self, store: Store, selections: Mapping[str, SelectionIndex]) -> None:
        folders = dict.fromkeys(store.trajectory_folder(name) for name in (None, *selections))
        self._folders = [Folder(store, TRAJECTORY_SCHEMA, *folder.split("/")) for folder in folders]
        self._selections = selections
        tables, self._starts = [], [0]
        for folder in self._folders:
            tables += [_light(batch) for batch in folder.batches((*_LIGHT, _CONTENT))]
            self._starts.append(sum(table.num_rows for table in tables))
        if not tables:
            raise StoreError(f"{store.url}: no trajectories yet")
        table = pa.concat_tables(tables)
        ids = table["trajectory_id"]
        methods: dict[str, pa.ChunkedArray] = {}
        for name, index in selections.items():
            judged = pc.is_in(ids, value_set=index.ids)
            table = table.append_column(selection_column(name), judged)
            methods[index.method] = pc.or_(methods[index.method], judged) if index.method in methods else judged
        for method, judged in methods.items():
            table = table.append_column(method_column(method), judged)
        self.methods = sorted(methods)
        self.rows = Rows(table)

    def whole(self, trajectory_id: str) -> Trajectory | None:
        """A trajectory with its messages; None without one.

        Raises:
            StoreError: the file has changed since.
        """
        number = self.rows.where("trajectory_id", trajectory_id)
        if number is None:
            return None
        at = max(i for i, start in enumerate(self._starts[:-1]) if start <= number)
        found = trajectory_from_row(self._folders[at].row(number - self._starts[at]))
        if found.trajectory_id != trajectory_id:
            raise StoreError("the trajectories have changed; the run goes on, ask again")
        return found

    def sample(self, count: int) -> list[Trajectory]:
        """At most so many at even distances, without their messages: enough for figures about steps."""
        numbers = spread(range(self.rows.total), count)
        return [
            Trajectory.model_construct(**{**row, "messages": (), "metadata": json.loads(row["metadata"] or "{}")})
            for row in self.rows.taken(numbers, _LIGHT)
        ]


def selection_column(name: str) -> str:
    """The column that is true where a selection has a row."""
    return f"selection {name}"


def method_column(name: str) -> str:
    """The column that is true where a selection by this method has a row."""
    return f"method {name}"


def _light(batch: pa.RecordBatch) -> pa.Table:
    """What is held of some trajectories."""
    messages = batch.column("messages")
    contents = pa.ListArray.from_arrays(messages.offsets, pc.struct_field(messages.values, "content"))
    texts = pc.binary_join_element_wise(
        batch.column("trajectory_id"), batch.column("item_id"), batch.column("source"),
        pc.binary_join(contents, "\n"), "\n", null_handling="replace",
    )  # fmt: skip
    outcomes, styles = [], []
    for success, reward, source, metadata in zip(
        *(batch.column(name).to_pylist() for name in ("success", "reward", "source", "metadata")), strict=True
    ):
        known = success is not None or reward is not None
        outcomes.append(("failed" if has_failed(success, reward) else "solved") if known else None)
        style = json.loads(metadata or "{}").get("style") if source == "expert" else None
        styles.append(style["style"] if isinstance(style, dict) and isinstance(style.get("style"), str) else None)
    columns = {name: batch.column(name) for name in _LIGHT}
    columns |= {OUTCOME: pa.array(outcomes, pa.string()), STYLE: pa.array(styles, pa.string()), TEXT: texts}
    return pa.table(columns)


class EpisodeIndex:
    """The episodes of all models of a run; what was appended to the journals is read on.

    Args:
        store: the run directory.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._ends: dict[tuple[str, str], tuple[int, int]] = {}
        """Of each journal the bytes `[begin, end)` of the row that was read last."""
        self._last_rows: dict[tuple[str, str], dict[str, Any]] = {}
        self._episodes: list[Episode] = []
        """Without their messages."""
        self._chunks: list[pa.Table] = []
        self._last: dict[str, dict[str, int]] = {}
        """By model and key: the number of the row that counts, as `ledger.journaled` has it."""
        self._wrong: list[str] = []

    def read_on(self) -> list[str]:
        """Read what is new.

        Returns:
            A line for each row so far that is no episode.
        """
        journals = [
            (model, name)
            for model in self._store.names("evaluation")
            for name in self._store.names("evaluation", model)
            if name.endswith(".jsonl")
        ]
        if not all(map(self._goes_on, self._ends)):
            self._begin_anew()
        for journal in journals:
            self._read_journal(journal)
        return self._wrong

    def _goes_on(self, journal: tuple[str, str]) -> bool:
        """Whether the row that was read last is still where it was; it is not where a journal was begun anew."""
        parts = ("evaluation", *journal)
        begin, end = self._ends[journal]
        if not self._store.exists(*parts) or self._store.fs.size(self._store.path(*parts)) < end - 1:
            return False
        try:
            return self._store.journal_row(begin, end, *parts) == self._last_rows[journal]
        except ValueError:  # other bytes lie there
            return False

    def _read_journal(self, journal: tuple[str, str]) -> None:
        rows: list[dict[str, Any]] = []
        for row, begin, end in self._store.journal_from(self._ends.get(journal, (0, 0))[1], "evaluation", *journal):
            self._ends[journal], self._last_rows[journal] = (begin, end), row
            texts = [message.get("content", "") for message in row.get("messages", ())]
            try:
                episode = Episode.model_validate(row | {"messages": ()})
            except ValidationError as error:
                path = self._store.path("evaluation", *journal)
                self._wrong.append(f"{path}, byte {begin}: no episode ({error.errors()[0]['msg']})")
                continue
            last = self._last.setdefault(journal[0], {})
            before = last.get(episode.key)
            if before is None or episode.error is None or self._episodes[before].error is not None:
                last[episode.key] = len(self._episodes)
            self._episodes.append(episode)
            rows.append(_episode_row(episode, texts) | dict(zip(_PLACE, (*journal, begin, end), strict=True)))
        if rows:
            self._chunks.append(pa.Table.from_pylist(rows, _EPISODE))

    def rows(self, keys: Mapping[str, Collection[str]]) -> Rows:
        """The episodes as rows: of a model in `keys` those that its results count, of another the last of each key.

        Args:
            keys: `episode_keys` of every `results.json`, by model.
        """
        live = [False] * len(self._episodes)
        for model, last in self._last.items():
            wanted = keys.get(model)
            for key, number in last.items():
                live[number] = wanted is None or key in wanted
        return Rows(pa.concat_tables(self._chunks or [_EPISODE.empty_table()]), pa.array(live, pa.bool_()))

    def counted(self, model: str, keys: Collection[str]) -> list[Episode]:
        """The episodes that a model's results count, without their messages, in the order of `ledger.counted`.

        Raises:
            StoreError: the journal lacks one.
        """
        last = self._last.get(model, {})
        lacking = next((key for key in keys if key not in last), None)
        if lacking is not None:
            path = self._store.path("evaluation", model, "results.json")
            raise StoreError(f"{path} counts episode {lacking}, which no journal has")
        found = [self._episodes[last[key]] for key in keys]
        return sorted(found, key=lambda episode: (episode.env, episode.split_task, episode.seed))

    def whole(self, rows: Rows, number: int) -> Episode:
        """An episode with its messages.

        Args:
            rows: that this index has made.
            number: of the episode in them.
        """
        (place,) = rows.taken([number], _PLACE)
        model, file, begin, end = (place[name] for name in _PLACE)
        return Episode.model_validate(self._store.journal_row(begin, end, "evaluation", model, file))


def _episode_row(episode: Episode, texts: list[str]) -> dict[str, Any]:
    """What is held of an episode, but for its place."""
    outcome = "error" if episode.error is not None else "solved" if episode.success else "failed"
    texts = [f"{episode.env} {episode.split} task {episode.task}", *texts, episode.error or ""]
    names = ("env", "split", "task", "seed", "score", "stop", "error", "rounds", "key")
    return {name: getattr(episode, name) for name in names} | {OUTCOME: outcome, TEXT: "\n".join(texts)}


def keys_in(results: Mapping[str, Any]) -> set[str]:
    """The keys of the episodes that a `results.json` counts."""
    return {str(key) for keys in results.get("episode_keys", {}).values() for key in keys}
