"""Upstream's start state: a JSON list of projects with their tasks, beside the task file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from atlas_ray.errors import DataError
from envs.todo.store import Item, Project

NAMES = ("todo_projects.json", "projects.json")
"""What the file is called if it is not named: as here, as upstream."""


class _Task(BaseModel):
    model_config = ConfigDict(extra="ignore")

    content: str
    description: str
    due_date: str
    duration: int
    duration_unit: Literal["minute", "day"]
    priority: Literal[1, 2, 3, 4]


class _Project(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: str
    is_favorite: bool = False
    tasks: list[_Task]


def read_projects(path: str | Path) -> tuple[Project, ...]:
    """The projects of a file.

    Raises:
        DataError: The file cannot be read, or has not the form; with the field.
    """
    try:
        rows = TypeAdapter(list[_Project]).validate_json(Path(path).read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}); give the start state as projects=PATH") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise DataError(f"{path}: field {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return tuple(
        Project(row.name, tuple(Item(**task.model_dump()) for task in row.tasks), row.is_favorite) for row in rows
    )


def beside(data: str | Path) -> Path:
    """The start state's file in the folder of a task file.

    Raises:
        DataError: There is none.
    """
    folder = Path(data).parent
    for name in NAMES:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder}: holds neither {NAMES[0]} nor {NAMES[1]}; give the start state as projects=PATH")
