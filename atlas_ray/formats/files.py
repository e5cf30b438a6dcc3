"""Reading files of trajectories in any supported format, row by row; a bad row becomes a `BadRow`, not an exception.

A file is one JSON list or JSON Lines. The fields of a row decide its format: `conversations` with `loss` is
AgentTraj-L, other `conversations` are ShareGPT, `messages` are OpenAI, and `content` is the Agent Data Protocol.
"""

from __future__ import annotations

import glob
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from atlas_ray.errors import DataError
from atlas_ray.formats import adp, agenttraj, messages
from atlas_ray.trajectory import Trajectory


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read as a trajectory."""

    file: str
    row: int
    """Index in the list, or number of the line, from 0."""
    problem: str
    """Field, what was expected and what was found."""

    def __str__(self) -> str:
        return f"{self.file}: row {self.row}: {self.problem}"


def read(pattern: str) -> Iterator[Trajectory | BadRow]:
    """The rows of the files that a path or glob names, in the files' order; repeated ids are made distinct.

    Raises:
        DataError: no file matches, or a file cannot be read at all.
    """
    seen: Counter[str] = Counter()
    for path in _paths(pattern):
        for number, row in _rows(path):
            found = row if isinstance(row, BadRow) else _trajectory(path, number, row)
            if isinstance(found, Trajectory):
                seen[found.trajectory_id] += 1
                if seen[found.trajectory_id] > 1:  # Wordle's items repeat
                    distinct = f"{found.trajectory_id}#{seen[found.trajectory_id]}"
                    found = found.model_copy(update={"trajectory_id": distinct})
            yield found


def fingerprint(pattern: str) -> list[tuple[str, str]]:
    """Name and SHA-256 of every file, for a manifest's key.

    Raises:
        DataError: no file matches.
    """
    found = []
    for path in _paths(pattern):
        with open(path, "rb") as file:
            found.append((Path(path).name, hashlib.file_digest(file, "sha256").hexdigest()))
    return found


def _paths(pattern: str) -> list[str]:
    paths = sorted(glob.glob(pattern, recursive=True))
    if not paths:
        raise DataError(f"{pattern}: no such file; give a path or glob of JSON or JSON Lines files")
    return paths


def _rows(path: str) -> Iterator[tuple[int, Any]]:
    """Rows with their numbers; a line that is not JSON is a `BadRow`."""
    try:
        with open(path, encoding="utf-8") as file:
            if next((line for line in file if line.strip()), "").lstrip().startswith("["):
                file.seek(0)
                yield from enumerate(_list(path, file.read()))
                return
            file.seek(0)
            for number, line in enumerate(file):
                if not line.strip():
                    continue
                try:
                    yield number, json.loads(line)
                except (json.JSONDecodeError, RecursionError) as error:
                    yield number, BadRow(path, number, f"not JSON ({error})")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; check the path and its rights") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from error


def _list(path: str, text: str) -> list[Any]:
    try:
        rows: list[Any] = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}); expected one JSON list, or JSON Lines") from error
    return rows


def _trajectory(path: str, number: int, row: Any) -> Trajectory | BadRow:
    if not isinstance(row, dict):
        return BadRow(path, number, f"expected an object, found {json.dumps(row)[:80]}")
    turns = row.get("conversations")
    if isinstance(turns, list) and any(isinstance(turn, dict) and "loss" in turn for turn in turns):
        try:
            return agenttraj.trajectory(path, number, row)
        except DataError as error:
            return BadRow(path, number, str(error).removeprefix(f"{path}: row {number}: "))
    reader = next((known for field, known in _SHAPES.items() if field in row), None)
    if reader is None:
        return BadRow(path, number, f"expected one of the fields {', '.join(_SHAPES)}, found {sorted(row)[:8]}")
    try:
        said = reader(row)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return BadRow(path, number, f"field {where}: {first['msg']}, found {_shown(first['input'])}")
    n_steps = sum(message.step is not None for message in said)
    if not n_steps:
        return BadRow(path, number, "field messages: expected at least one assistant turn that is trained on")
    stem = re.sub(r"[_-](train|test)$", "", Path(path).stem)
    named = next((row[key] for key in ("item_id", "id") if isinstance(row.get(key), str) and row[key]), None)
    item_id = named or f"{stem}_{number}"
    env = agenttraj.environment_of(item_id if named and "item_id" in row else f"{stem}_{number}")
    return Trajectory(
        trajectory_id=item_id, env=env, item_id=item_id, source=Path(path).name, messages=tuple(said), n_steps=n_steps
    )


_SHAPES = {"messages": messages.from_chat, "conversations": messages.from_sharegpt, "content": adp.from_adp}


def _shown(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)[:80]
    except (TypeError, ValueError):
        return repr(value)[:80]
