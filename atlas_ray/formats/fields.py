"""One row as a trajectory, by the names that its fields usually have: turns, ids, environment, reward, success.

Turns are read in `turns.py` and `adp.py`. What a row has besides is kept in the metadata where it is short, and noted
where it is not.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from atlas_ray.formats import adp, turns
from atlas_ray.formats.names import Names
from atlas_ray.formats.sources import stem
from atlas_ray.formats.turns import Malformed, malformed, parsed, shown
from atlas_ray.tool_calls import tools_text
from atlas_ray.trajectory import TRAJECTORY_SCHEMA, Trajectory

SHAPE = "shape: "
"""Begins the note that says how a row was told apart."""
KEPT = 1000
"""Characters of JSON that a field may have to be kept in the metadata."""
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
_SYSTEM = ("system", "system_prompt", "systemInstruction", "system_instruction")
_TOOLS = ("tools", "functions")
_OWN = frozenset(TRAJECTORY_SCHEMA.names)
_MEDIA = ("images", "videos", "audios", "image", "audio")


def trajectory(row: Any, path: str, number: int, names: Names, notes: set[str], reasoning: bool) -> Trajectory:
    """The row as a trajectory.

    Raises:
        Malformed: the row is no trajectory.
    """
    if isinstance(row, list):
        row = {"conversation": row}
    if not isinstance(row, dict):
        raise Malformed(f"expected an object, found {shown(row)}")
    if isinstance(row.get("row"), dict):  # as the Hugging Face datasets server writes rows
        row = row["row"]
    if row.keys() >= _OWN:
        notes.add(f"{SHAPE}a trajectory of this project")
        return _validated({name: row[name] for name in _OWN} | {"metadata": parsed(row["metadata"])})
    read: set[str] = set()
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
            "item_id": item_id, "source": visible(os.path.basename(path)), "messages": messages, "n_steps": n_steps,
            "reward": reward, "success": success, "metadata": {"row": metadata} if metadata else {},
        }
    )  # fmt: skip


def visible(path: str) -> str:
    """The path as Unicode text, which a file's name need not be."""
    return path.encode("utf-8", "replace").decode()


def _validated(values: dict[str, Any]) -> Trajectory:
    try:
        found = Trajectory.model_validate(values)
        said = [vars(message) for message in found.messages]  # several times as fast as the attributes
        "".join([turn["content"] for turn in said]).encode()
        "".join([turn["thinking"] for turn in said if turn["thinking"]]).encode()
        f"{found.trajectory_id}{found.item_id}{found.env}{found.source}".encode()
        if any(turn["tool_calls"] or turn["tool_results"] for turn in said):
            _call_ids(found).encode()
        if found.metadata:
            json.dumps(found.metadata, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise Malformed(_no_text(_texts(found))) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "messages"
        raise Malformed(f"field {where}: {first['msg']}, found {shown(first['input'])}") from error
    return found


def _call_ids(trajectory: Trajectory) -> str:
    """The ids of all calls and answers; their texts are in the contents too."""
    turns = [message for message in trajectory.messages if message.tool_calls or message.tool_results]
    calls = [call.id for message in turns for call in message.tool_calls]
    return " ".join([*calls, *(result.id for message in turns for result in message.tool_results)])


def _texts(trajectory: Trajectory) -> dict[str, str]:
    """All texts of a trajectory by their field."""
    texts = {f"messages.{index}.content": message.content for index, message in enumerate(trajectory.messages)}
    texts |= {f"messages.{index}.thinking": each.thinking or "" for index, each in enumerate(trajectory.messages)}
    texts |= {name: getattr(trajectory, name) for name in ("trajectory_id", "item_id", "env", "source")}
    texts["tool_calls"] = _call_ids(trajectory)
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
    opening: list[str] = []
    offered: dict[str, Any] = {}
    for name in _SYSTEM:
        if (text := turns.words(row.get(name))).strip():
            read.add(name)
            opening.append(text)
    own = messages[0]["content"] if messages and messages[0]["role"] == "system" else None
    if own is not None and own not in opening:
        opening.append(own)
    for name in _TOOLS:
        tools = row.get(name)
        if tools and isinstance(tools, str | list | dict):
            read.add(name)
            listed = tools if isinstance(tools, str) else json.dumps(tools, ensure_ascii=False)
            if parsed(listed):
                opening.append(tools_text(listed))
                offered = {"tools": listed} if isinstance(parsed(listed), list | dict) else {}
    if opening:
        first = {"role": "system", "content": "\n\n".join(opening), "step": None}
        messages[: own is not None] = [first | offered]


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
