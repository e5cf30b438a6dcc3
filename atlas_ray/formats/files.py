"""Trajectories from files in the shapes that people have; a bad row becomes a `BadRow`, not an exception.

The content of a row decides how it is read, row by row: a list of turns under any of its usual names (`turns.py`), or
actions and observations (`adp.py`). Environment, ids, reward and success are read under their usual names. What a row
has besides is kept in the metadata where it is short, and counted where it is not. Files are found in `sources.py` and
cut into rows in `rows.py`.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from atlas_ray.formats import adp, turns
from atlas_ray.formats.names import Names
from atlas_ray.formats.rows import SKIPPED, Problem, rows
from atlas_ray.formats.sources import files, fingerprint, stem
from atlas_ray.formats.turns import Malformed, malformed, parsed, shown
from atlas_ray.trajectory import TRAJECTORY_SCHEMA, Trajectory, trajectories_to_table

__all__ = ["BadRow", "DistinctIds", "Options", "Tally", "blocks", "fingerprint", "read"]

_CONVERSATIONS = (
    "messages", "conversations", "conversation", "content", "trajectory", "dialog", "dialogue", "history", "turns",
    "chat", "input", "events",
)  # fmt: skip
_IDS = ("item_id", "id", "task_id", "instance_id", "trajectory_id", "traj_id", "uuid", "conversation_id", "game_file")
_ENVIRONMENTS = (
    "env", "environment", "env_name", "environment_name", "task_name", "env_id", "task_type", "data_source", "dataset",
    "domain", "benchmark", "source", "task",
)  # fmt: skip
_REWARDS = ("reward", "final_reward", "total_reward", "score", "final_score")
_SUCCESSES = (
    "success", "is_success", "successful", "succeeded", "task_success", "solved", "is_solved", "resolved", "won",
    "passed", "is_correct", "correct", "outcome", "status", "result",
)  # fmt: skip
_WORDS = {
    "true": True, "yes": True, "1": True, "1.0": True, "success": True, "successful": True, "succeeded": True,
    "solved": True, "won": True, "passed": True, "pass": True,
    "false": False, "no": False, "0": False, "0.0": False, "failure": False, "failed": False, "fail": False,
    "unsuccessful": False, "lost": False,
}  # fmt: skip
_NESTED = ("metadata", "meta", "info", "extra_info", "details", "extra")
"""Objects of a row that may hold its reward, success or environment."""
_TOOLS = ("tools", "functions")
_OWN = frozenset(TRAJECTORY_SCHEMA.names)
_MEDIA = ("images", "videos", "audios", "image", "audio")
SHAPE = "shape: "
"""Begins the note that says how a row was told apart."""
BLOCK_ROWS = 256
"""Rows of a file that are read, sent to another process and stored together."""
KEPT = 1000
"""Characters of JSON that a field may have to be kept in the metadata."""
MAX_NOTES = 100
"""Different notes of an import; what comes after them is counted together as `MORE`."""
MORE = "more of the same kind"


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


@dataclass
class Tally:
    """What reading met, counted in rows."""

    rows: int = 0
    bad: list[BadRow] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    """What was read in another way than it was written, or not at all: a line for each."""

    def note(self, text: str, count: int = 1) -> None:
        """Count rows that have shown something."""
        if text not in self.notes and len(self.notes) >= MAX_NOTES:
            text = MORE
        self.notes[text] += count


@dataclass(frozen=True)
class Options:
    """How rows are read."""

    environments: Mapping[str, str] = field(default_factory=dict)
    """Our names of environments by theirs."""
    reasoning: bool = False
    """Keep an assistant's reasoning as `<think>...</think>` before its text."""


def read(source: str, options: Options | None = None) -> Iterator[Trajectory | BadRow]:
    """The rows of the files that a path, a folder or a glob names, in the files' order; every id is distinct.

    Raises:
        DataError: no file matches, or a file cannot be opened.
    """
    ids = DistinctIds()
    for _, found, _ in _rows(source, options or Options(), (0, 1)):
        if isinstance(found, Trajectory):
            identity = ids.take(found.trajectory_id)
            yield found if identity == found.trajectory_id else found.model_copy(update={"trajectory_id": identity})
        elif found is not None:
            yield found


def blocks(source: str, options: Options, share: tuple[int, int] = (0, 1)) -> Iterator[tuple[pa.Table, Tally]]:
    """As `read`, but blocks of at most `BLOCK_ROWS` rows as tables in `TRAJECTORY_SCHEMA`, whose ids may repeat.

    Args:
        source: see `sources.files`.
        options: how rows are read.
        share: `(k, n)`: the blocks whose number leaves k when it is divided by n. So n processes read a source, and
            taking their blocks in turn gives the rows in order.

    Raises:
        DataError: no file matches, or a file cannot be opened.
    """
    number, count = share
    for block, group in groupby(_rows(source, options, share), key=lambda row: row[0]):
        if block % count != number:
            continue
        trajectories, tally = [], Tally()
        for _, found, notes in group:
            tally.rows += 1
            if isinstance(found, Trajectory):
                trajectories.append(found)
                for note in notes:
                    tally.note(note)
            elif found is not None:
                tally.bad.append(found)
        yield trajectories_to_table(trajectories), tally


def _rows(
    source: str, options: Options, share: tuple[int, int]
) -> Iterator[tuple[int, Trajectory | BadRow | None, set[str]]]:
    """Number of the block, what was read (None: another process reads it) and notes of every row."""
    names, first = Names(options.environments), 0
    for path in files(source):
        block = first

        def wanted(position: int, first: int = first) -> bool:
            return (first + position // BLOCK_ROWS) % share[1] == share[0]

        for position, row in rows(path, wanted):
            block = max(block, first + position // BLOCK_ROWS)
            notes: set[str] = set()
            found: Trajectory | BadRow | None = None
            if row is not SKIPPED:
                try:
                    found = _trajectory(row, path, position, names, notes, options.reasoning)
                except Malformed as error:
                    found = BadRow(_visible(path), position, str(error))
            yield first + position // BLOCK_ROWS, found, notes
        first = block + 1


def _visible(path: str) -> str:
    """The path as Unicode text, which a file's name need not be."""
    return path.encode("utf-8", "replace").decode()


class DistinctIds:
    """Makes ids distinct: `a`, `a#2`, `a#3`."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._repeats: Counter[str] = Counter()

    def take(self, identity: str) -> str:
        """The id, or the first of its numbered forms that is not taken."""
        found = identity
        while found in self._taken:
            self._repeats[identity] = max(self._repeats[identity], 1) + 1
            found = f"{identity}#{self._repeats[identity]}"
        self._taken.add(found)
        return found


def _validated(values: dict[str, Any]) -> Trajectory:
    try:
        found = Trajectory.model_validate(values)
        "".join(_texts(found).values()).encode()
    except UnicodeEncodeError as error:
        raise Malformed(_no_text(_texts(found))) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "messages"
        raise Malformed(f"field {where}: {first['msg']}, found {shown(first['input'])}") from error
    return found


def _texts(trajectory: Trajectory) -> dict[str, str]:
    """All texts of a trajectory by their field."""
    texts = {f"messages.{index}.content": message.content for index, message in enumerate(trajectory.messages)}
    texts |= {name: getattr(trajectory, name) for name in ("trajectory_id", "item_id", "env", "source")}
    if trajectory.metadata:
        texts["metadata"] = json.dumps(trajectory.metadata, ensure_ascii=False)
    return texts


def _no_text(texts: Mapping[str, str]) -> str:
    """Names the field that is no Unicode text: half of a character, or a byte that is no UTF-8."""
    where, code = next(
        (where, ord(char)) for where, text in texts.items() for char in text if 0xD800 <= ord(char) <= 0xDFFF
    )
    what = f"the lone surrogate U+{code:04X}"
    if 0xDC80 <= code <= 0xDCFF:
        what = f"the byte 0x{code - 0xDC00:02x}, which is no UTF-8"
    return f"field {where}: expected Unicode text, found {what}"


def _trajectory(row: Any, path: str, number: int, names: Names, notes: set[str], reasoning: bool) -> Trajectory:
    """The row as a trajectory.

    Raises:
        Malformed: the row is no trajectory.
    """
    if isinstance(row, Problem):
        raise Malformed(row.text)
    if isinstance(row, list):
        row = {"conversation": row}
    if not isinstance(row, dict):
        raise Malformed(f"expected an object, found {shown(row)}")
    if isinstance(row.get("row"), dict):  # as the Hugging Face datasets server writes rows
        row = row["row"]
    if row.keys() >= _OWN:
        notes.add(f"{SHAPE}a trajectory of this project")
        return _validated({name: row[name] for name in _OWN} | {"metadata": parsed(row["metadata"])})
    read: set[str] = {"split"}
    key, items = _turns_of(row, read)
    if isinstance(items[0], dict) and "class_" in items[0]:
        messages = adp.from_adp(items, key, notes)
        notes.add(f"{SHAPE}{key} of the Agent Data Protocol")
    else:
        messages = turns.conversation(items, key, notes, reasoning=reasoning)
        notes.add(f"{SHAPE}{_shape(key, items)}")
    _open_with(row, messages, read)
    n_steps = turns.count_steps(messages)
    if not n_steps:
        raise malformed(key, "at least one turn of the assistant that is trained on", None)
    facts, metadata = _facts(row), {}
    env, item_id = _identity(row, facts, path, number, names, notes, read)
    reward, success = _outcome(facts, notes, read)
    for name in row.keys() - read - {key}:
        if row[name] in (None, "", [], {}):
            continue
        if _is_short(name, row[name]):
            metadata[name] = row[name]
        else:
            notes.add(f"field {name[:40]!r} of a row: no place for it")
    identity = row.get("trajectory_id")
    return _validated(
        {
            "trajectory_id": identity if isinstance(identity, str) and identity else item_id, "env": env,
            "item_id": item_id, "source": _visible(os.path.basename(path)), "messages": messages, "n_steps": n_steps,
            "reward": reward, "success": success, "metadata": {"row": metadata} if metadata else {},
        }
    )  # fmt: skip


def _turns_of(row: dict[str, Any], read: set[str]) -> tuple[str, list[Any]]:
    """The row's list of turns and its name."""
    if "chosen" in row and "rejected" in row:
        raise Malformed("fields chosen and rejected: expected one conversation, found a pair of a preference")
    for name in _MEDIA:
        if isinstance(row.get(name), list | dict) and row[name]:
            raise Malformed(f"field {name}: expected none (agents here read no images or audio)")
    prompt, completion = parsed(row.get("prompt")), parsed(row.get("completion"))
    if _is_conversation(prompt) and _is_conversation(completion):
        read |= {"prompt", "completion"}
        context = [turn | {"train": False} if _speaks(turn) in turns.ROLES else turn for turn in prompt]
        return "prompt", [*context, *completion]
    for key in (*_CONVERSATIONS, *row):
        items = parsed(row.get(key))
        if isinstance(items, list) and (key in _CONVERSATIONS[:3] or _is_conversation(items)):
            read.add(key)
            if not items:
                raise malformed(key, "a non-empty list of turns", items)
            return key, items
    known = next((key for key in _CONVERSATIONS if key in row), None)
    if known is not None:
        raise malformed(known, "a list of turns", row[known])
    raise Malformed(
        f"expected a list of turns under one of {', '.join(_CONVERSATIONS[:4])}, "
        f"found the fields {shown(sorted(map(str, row))[:8])}"
    )


def _is_conversation(items: Any) -> bool:
    if not isinstance(items, list) or not items or not isinstance(items[0], dict):
        return False
    return _speaks(items[0]) is not None or "class_" in items[0]


def _speaks(turn: Any) -> str | None:
    if not isinstance(turn, dict):
        return None
    return next((turn[key] for key in turns.ROLE_KEYS if isinstance(turn.get(key), str)), None)


def _shape(key: str, items: list[Any]) -> str:
    first = next((item for item in items if isinstance(item, dict)), {})
    fields = [next((name for name in known if name in first), "?") for known in (turns.ROLE_KEYS, turns.TEXT_KEYS)]
    present: set[str] = set().union(*items)
    flags = [name for name in turns.FLAGS if name in present]
    return f"{key} of {'/'.join(fields)}{' with ' if flags else ''}{' and '.join(flags)}"


def _open_with(row: dict[str, Any], messages: list[dict[str, Any]], read: set[str]) -> None:
    """Put the row's system text and tools in front, as the model that played was told them."""
    opening = []
    for name in ("system", "system_prompt"):
        if isinstance(row.get(name), str) and row[name].strip():
            read.add(name)
            opening.append(row[name])
    own = messages[0]["content"] if messages and messages[0]["role"] == "system" else None
    if own is not None and own not in opening:
        opening.append(own)
    for name in _TOOLS:
        tools = row.get(name)
        if tools and isinstance(tools, str | list | dict):
            read.add(name)
            listed = tools if isinstance(tools, str) else json.dumps(tools, ensure_ascii=False)
            if parsed(listed):
                opening.append(f"Tools:\n{listed}")
    if opening:
        messages[: own is not None] = [{"role": "system", "content": "\n\n".join(opening), "step": None}]


def _facts(row: dict[str, Any]) -> dict[str, Any]:
    """The row's fields, and those of the objects in it that describe it; the row's own count first."""
    facts: dict[str, Any] = {}
    for name in _NESTED:
        inner = parsed(row.get(name))
        if isinstance(inner, dict):
            facts |= inner
    return facts | row if facts else row


def _identity(
    row: dict[str, Any], facts: dict[str, Any], path: str, number: int, names: Names, notes: set[str], read: set[str]
) -> tuple[str, str]:
    """The environment's name and the item's id."""
    key = next((name for name in _IDS if _is_id(row.get(name))), None)
    read.update(name for name in _IDS[:2] if name == key)
    identity = None if key is None else str(row[key])
    said = {name: facts[name] for name in _ENVIRONMENTS if isinstance(facts.get(name), str) and facts[name]}
    named = names.of_row(said, identity, path)
    if named.disagrees:
        notes.add(f"{named.disagrees}: the latter counts")
    if named.env != named.theirs:
        notes.add(f"environment {named.theirs[:60]!r} is {named.env!r} here")
    return named.env, identity or f"{stem(path)}:{number}"


def _is_id(value: Any) -> bool:
    return bool(value) if isinstance(value, str) else isinstance(value, int) and not isinstance(value, bool)


def _outcome(facts: dict[str, Any], notes: set[str], read: set[str]) -> tuple[float | None, bool | None]:
    """Reward and success, where the row tells them."""
    reward = success = None
    for name in _REWARDS:
        value = _number(facts.get(name))
        if value is None:
            continue
        read.add(name)
        if value > 1:
            notes.add(f"{name} above 1: not read, because rewards are from 0 to 1")
        else:
            if value < 0:
                notes.add(f"{name} below 0: read as 0")
            reward = max(value, 0.0)
        break
    for name in _SUCCESSES:
        value = facts.get(name)
        found = _WORDS.get(value.strip().lower()) if isinstance(value, str) else value
        if isinstance(found, bool) or (isinstance(found, int | float) and found in (0, 1)):
            read.add(name)
            success = bool(found)
            break
    return reward, success


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def _is_short(name: Any, value: Any) -> bool:
    """Whether a field can be kept in the metadata."""
    try:
        text = json.dumps([name, value], ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError):  # no JSON, or no Unicode text
        return False
    return len(text) <= KEPT
