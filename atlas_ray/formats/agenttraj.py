"""Reading and writing AgentTraj-L, AgentGym's JSON files of trajectories.

A file is one JSON list of `{"conversations": [{"from", "loss", "value"}, ...], "item_id"}` (AgentGym README). `loss` is
null for a human turn, false for an acknowledgement and true for a step. A written file has `loss` true only at the
chosen steps, so that any trainer that honours the flag trains on them alone. The flag cannot hold the weight of a
step.
"""

from __future__ import annotations

import glob
import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from atlas_ray.errors import DataError
from atlas_ray.trajectory import Message, Trajectory

_PREFIXES = {
    "sciworld": "scienceworld",
    "lmrlgym_maze": "maze",
    "lmrlgym_wordle": "wordle",
    "BabyAI": "babyai",
}
_ALFWORLD = re.compile(r"^(look_at_obj_in_light|pick_\w+|alfworld)[-_]", re.IGNORECASE)


def environment_of(item_id: str) -> str:
    """This project's name of the environment of an AgentTraj-L `item_id`. ALFWorld's ids are paths of games."""
    if _ALFWORLD.match(item_id):
        return "alfworld"
    prefix = re.split(r"[_-]\d+$", item_id)[0] if re.search(r"[_-]\d+$", item_id) else item_id
    prefix = next((known for known in _PREFIXES if prefix.startswith(known)), prefix)
    return _PREFIXES.get(prefix, prefix)


def read(pattern: str) -> list[Trajectory]:
    """All trajectories of the files that a path or glob names, in the files' order.

    Raises:
        DataError: no file matches, or a row is malformed; the text names file, row and field.
    """
    paths = sorted(glob.glob(pattern, recursive=True))
    if not paths:
        raise DataError(f"{pattern}: no such file; give a path or glob of AgentTraj-L JSON files")
    rows = [(path, number, row) for path in paths for number, row in enumerate(_load(path))]
    seen: Counter[str] = Counter()
    trajectories = []
    for path, number, row in rows:
        found = trajectory(path, number, row)
        seen[found.item_id] += 1
        if seen[found.item_id] > 1:  # Wordle's items repeat
            found = found.model_copy(update={"trajectory_id": f"{found.trajectory_id}#{seen[found.item_id]}"})
        trajectories.append(found)
    return trajectories


def write(path: str, trajectories: Sequence[Trajectory], steps: Mapping[str, Sequence[int]]) -> None:
    """Write trajectories with `loss` true at the given steps.

    Args:
        path: of the new file.
        trajectories: in the order of the file.
        steps: chosen steps by trajectory id; without an entry, no step of the trajectory is chosen.
    """
    rows = [to_row(trajectory, set(steps.get(trajectory.trajectory_id, ()))) for trajectory in trajectories]
    scratch = Path(f"{path}.tmp")
    scratch.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    scratch.replace(path)


def to_row(trajectory: Trajectory, chosen: Collection[int]) -> dict[str, Any]:
    """One item of a file, with `loss` true at the chosen steps."""
    turns = []
    for message in trajectory.messages:
        human = message.role != "assistant"
        loss = None if human else message.step is not None and message.step in chosen
        turns.append({"from": "human" if human else "gpt", "loss": loss, "value": message.content})
    return {"conversations": turns, "item_id": trajectory.item_id}


def _load(path: str) -> list[Any]:
    try:
        rows = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: line {error.lineno}: not JSON ({error.msg}); expected one JSON list") from error
    if not isinstance(rows, list):
        raise DataError(f"{path}: expected one JSON list of trajectories, found {type(rows).__name__}")
    return rows


def trajectory(path: str, number: int, row: Any) -> Trajectory:
    """One item of a file.

    Args:
        path: the file, named in `source` and in errors.
        number: index of the item in the file.
        row: the item as parsed JSON.

    Raises:
        DataError: it is malformed; the text names file, row and field.
    """

    def bad(field: str, expected: str, found: Any) -> DataError:
        return DataError(f"{path}: row {number}: field {field}: expected {expected}, found {json.dumps(found)[:80]}")

    if not isinstance(row, dict):
        raise bad("(row)", "an object", row)
    item_id, turns = row.get("item_id"), row.get("conversations")
    if not isinstance(item_id, str) or not item_id:
        raise bad("item_id", "a non-empty string", item_id)
    if not isinstance(turns, list) or not turns:
        raise bad("conversations", "a non-empty list of turns", turns)
    messages: list[Message] = []
    n_steps = 0
    for index, turn in enumerate(turns):
        where = f"conversations[{index}]"
        if not isinstance(turn, dict):
            raise bad(where, "an object", turn)
        speaker, loss, value = turn.get("from"), turn.get("loss"), turn.get("value")
        if speaker not in ("human", "gpt"):
            raise bad(f"{where}.from", "'human' or 'gpt'", speaker)
        if not isinstance(value, str):
            raise bad(f"{where}.value", "a string", value)
        if speaker == "human" and loss is not None:
            raise bad(f"{where}.loss", "null for a human turn", loss)
        if speaker == "gpt" and not isinstance(loss, bool):
            raise bad(f"{where}.loss", "true or false for a gpt turn", loss)
        step = n_steps if loss else None
        n_steps += bool(loss)
        messages.append(Message(role="user" if speaker == "human" else "assistant", content=value, step=step))
    if not n_steps:
        raise bad("conversations", "at least one gpt turn with loss true", None)
    return Trajectory(
        trajectory_id=item_id, env=environment_of(item_id), item_id=item_id, source=Path(path).name,
        messages=tuple(messages), n_steps=n_steps,
    )  # fmt: skip
