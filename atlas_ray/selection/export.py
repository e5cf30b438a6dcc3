"""A selection as training data of other trainers: its trajectories with the chosen steps marked, or step preferences.

Trajectories without a chosen step (error rows among them) are left out, because a row without a label teaches nothing;
they are counted by reason. Only chat messages can hold a weight below 1; elsewhere such a step is written as fully
trained, and counted. Preferences are made in `rollout_preferences.py`.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from atlas_ray.config import TrainConfig
from atlas_ray.errors import DataError
from atlas_ray.formats import agenttraj, messages, preferences
from atlas_ray.selection.chunks import plan, read, read_beside
from atlas_ray.selection.rollout_preferences import Established
from atlas_ray.store import GROUP_ROWS, Store
from atlas_ray.training.examples import prepare
from atlas_ray.trajectory import Trajectory

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Format = Literal["agenttraj", "messages", "axolotl"]
FORMATS: tuple[Format, ...] = get_args(Format)
"""Of whole trajectories with the chosen steps marked."""
PreferenceFormat = Literal["dpo", "pivot", "llamafactory", "verl"]
PREFERENCE_FORMATS: tuple[PreferenceFormat, ...] = get_args(PreferenceFormat)
"""Of step preferences."""
TOKENS = "skyrl"
"""The format of token ids with a mask, which needs the model's tokenizer."""
SUFFIXES = {"agenttraj": "json", "llamafactory": "json", "verl": "parquet"}
"""Of files that are one JSON list, or Parquet; the others are JSON Lines."""
_ROWS: dict[Format, Callable[[Trajectory, Mapping[int, float]], dict[str, Any]]] = {
    "agenttraj": agenttraj.to_row, "messages": messages.to_chat, "axolotl": messages.to_axolotl
}  # fmt: skip
_HOLDS_WEIGHTS: tuple[Format, ...] = ("messages",)


@dataclass
class Exported:
    """What was written, and what a file could not hold."""

    rows: int = 0
    """Trajectories written."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Trajectories left out, by reason."""
    weights_lost: int = 0
    """Steps with a weight below 1 that were written as fully trained, because the format has only a flag."""


def export(store: Store, name: str, form: Format, path: str, ids: Collection[str] | None = None) -> Exported:
    """Write a stored selection to a file, atomically and in the order of the trajectories' ids.

    Args:
        store: the run directory.
        name: of the selection.
        form: of the file; `agenttraj` is one JSON list, the others are JSON Lines.
        path: of the file.
        ids: the trajectories to write; None: all.

    Raises:
        DataError: the file cannot be written, or nothing is left to write.
        SelectionError: the selection has not been made for these trajectories.
    """
    found = Exported()
    found.rows = write(path, _rows(store, name, form, ids, found), SUFFIXES.get(form, "jsonl"))
    if not found.rows:
        raise DataError(f"{path}: the selection {name!r} leaves nothing to write ({dict(found.left_out)})")
    return found


def export_preferences(found: Established, form: PreferenceFormat, path: str) -> int:
    """Write step preferences to a file, atomically; returns the number of rows.

    Args:
        found: the preferences.
        form: of the file; `pivot` and `verl` have one row a state, that of the worst action.
        path: of the file.

    Raises:
        DataError: the file cannot be written.
    """
    states = preferences.one_a_state(found.preferences)
    rows: dict[PreferenceFormat, Iterable[dict[str, Any]]] = {
        "dpo": map(preferences.to_trl, found.preferences),
        "llamafactory": map(preferences.to_llamafactory, found.preferences),
        "pivot": (preferences.to_pivot(each, found.rules[each.env]) for each in states),
        "verl": (preferences.to_verl(each, index) for index, each in enumerate(states)),
    }
    return write(path, rows[form], SUFFIXES.get(form, "jsonl"))


def export_tokens(
    trajectories: Sequence[Trajectory], labels: Mapping[str, Mapping[int, float]], tokenizer: PreTrainedTokenizerBase,
    options: TrainConfig, path: str, *, thinks: bool | None = None,
) -> Exported:  # fmt: skip
    """Write token ids and masks as SkyRL reads them (its SFT trainer's `pretokenized_dataset_paths`), atomically.

    The rows are those that training here would have, in full: see `training.examples.prepare` for the errors.
    """
    examples, report = prepare(trajectories, labels, tokenizer, options, truncate=False, thinks=thinks)
    rows = (
        {"input_ids": example.ids.tolist(), "loss_mask": (example.weights > 0).astype(int).tolist()}
        for example in examples
    )
    lost = sum(weight < 1 for weights in labels.values() for weight in weights.values())
    return Exported(write(path, rows, "jsonl"), Counter({"cannot be tokenised": len(report.refused)}), lost)


def write(path: str, rows: Iterable[dict[str, Any]], suffix: str) -> int:
    """Write rows to a file, atomically; returns how many there were. Without any no file is written.

    Args:
        path: of the file.
        rows: to write.
        suffix: `json` for one list, `jsonl` for a row a line, `parquet` for verl's columns.

    Raises:
        DataError: the file cannot be written.
    """
    scratch = Path(f"{path}.{os.getpid()}.tmp")
    try:
        scratch.parent.mkdir(parents=True, exist_ok=True)
        try:
            count = _write_parquet(scratch, rows) if suffix == "parquet" else _write_json(scratch, rows, suffix)
            if count:
                scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); choose another --output") from error
    return count


def _write_json(scratch: Path, rows: Iterable[dict[str, Any]], suffix: str) -> int:
    opening, between, closing = ("[\n", ",\n", "\n]\n") if suffix == "json" else ("", "\n", "\n")
    count = 0
    with scratch.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write((between if count else opening) + json.dumps(row, ensure_ascii=False))
            count += 1
        file.write(closing)
    return count


def _write_parquet(scratch: Path, rows: Iterable[dict[str, Any]]) -> int:
    table = pa.Table.from_pylist(list(rows), preferences.VERL_SCHEMA)
    pq.write_table(table, scratch)
    return int(table.num_rows)


def _rows(
    store: Store, name: str, form: Format, ids: Collection[str] | None, found: Exported
) -> Iterator[dict[str, Any]]:
    for chunk in plan(store, ids, GROUP_ROWS, name).chunks:
        trajectories = read(store, chunk)
        for trajectory, selection in zip(trajectories, read_beside(store, name, trajectories), strict=True):
            if selection.error is not None:
                found.left_out[f"error {selection.error.partition(':')[0]}"] += 1
            elif not selection.steps:
                found.left_out["no step chosen"] += 1
            else:
                weights = selection.weight_of()
                if form not in _HOLDS_WEIGHTS:
                    found.weights_lost += sum(weight < 1 for weight in weights.values())
                yield _ROWS[form](trajectory, weights)
