"""Upstream's task files: one JSON object per line with goal, subgoals, additional_info and difficulty (AgentBoard).

Only the form is read here; each environment interprets its final states.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atlas_ray.errors import DataError
from envs.tools.tasks import Answer, Task, TaskSet


class _Info(BaseModel):
    model_config = ConfigDict(extra="ignore")

    tool: str
    answer: Any
    init_config: dict[str, Any] | None = None


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore")

    goal: str = Field(min_length=1)
    subgoals: list[Any] | str
    """The right answers; Sheet has a reference solution in words instead."""
    additional_info: _Info
    difficulty: Literal["easy", "hard"] = "hard"


def read_tasks(path: str | Path, tool: str) -> TaskSet:
    """The tasks of a file, all in the test split, numbered as their lines.

    `subgoals` become the answer (more than one: alternatives), `init_config` the setting, `additional_info.answer`
    the final state, and a reference solution given as a text the parameter "reference".

    Raises:
        DataError: The file cannot be read, or a row has not the form; with row and field.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); give a file of {tool} tasks, one a line") from None
    tasks = tuple(_read(line, f"{path}, line {number}", tool) for number, line in enumerate(lines, 1) if line.strip())
    if not tasks:
        raise DataError(f"{path}: holds no task")
    return TaskSet((), tasks)


def _read(line: str, origin: str, tool: str) -> Task:
    try:
        row = _Row.model_validate(json.loads(line))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise DataError(f"{origin}: field {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{origin}: is no JSON ({error})") from None
    info = row.additional_info
    if info.tool != tool:
        raise DataError(f"{origin}: field additional_info.tool is {info.tool!r}; this is a file for {tool!r} tasks")
    reference = row.subgoals if isinstance(row.subgoals, str) else None
    answers = [] if isinstance(row.subgoals, str) else row.subgoals
    return Task(
        goal=row.goal,
        answer=Answer(answers[0], alternatives=tuple(answers[1:])) if answers else None,
        setting=info.init_config or {},
        parameters={} if reference is None else {"reference": reference},
        difficulty=row.difficulty,
        final=info.answer,
        origin=origin,
    )
