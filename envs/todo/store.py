"""The offline backend: projects and tasks in an SQLite database in memory, one for each episode.

The actions and what they return follow upstream's toolkit on Todoist. Start states come from `Project` records, made
by `worlds.py` or read from upstream's projects file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from envs.tools.backend import Refused
from envs.tools.grammar import shorten
from envs.tools.tasks import Task

COLOR = "charcoal"
"""Todoist's default colour of a project."""

_SCHEMA = """
CREATE TABLE projects (id TEXT PRIMARY KEY, position INTEGER, name TEXT, color TEXT, is_favorite INTEGER);
CREATE TABLE tasks (
    id TEXT PRIMARY KEY, project_id TEXT REFERENCES projects (id), position INTEGER, content TEXT, description TEXT,
    is_completed INTEGER, priority INTEGER, due_date TEXT, duration INTEGER, duration_unit TEXT
);
"""
_PROJECTS = "SELECT id, position, color, name, is_favorite FROM projects ORDER BY position"
_PROJECT = "SELECT id, position, color, name, is_favorite FROM projects WHERE id = ?"
_OPEN_TASKS = (
    "SELECT id, position, content, is_completed, priority, due_date FROM tasks "
    "WHERE project_id = ? AND NOT is_completed ORDER BY position"
)
_OPEN_TASK = (
    "SELECT id, position, content, is_completed, priority, due_date FROM tasks WHERE id = ? AND NOT is_completed"
)


@dataclass(frozen=True)
class Item:
    """A task of a start state."""

    content: str
    description: str
    due_date: str
    """YYYY-MM-DD."""
    duration: int
    duration_unit: str
    """minute or day."""
    priority: int
    """1 (normal) to 4 (urgent), as Todoist counts."""


@dataclass(frozen=True)
class Project:
    """A project of a start state."""

    name: str
    items: tuple[Item, ...]
    is_favorite: bool = False


@dataclass(frozen=True)
class World:
    """A start state: projects in their order, and what the user tools tell."""

    projects: tuple[Project, ...]
    today: str
    location: str
    first_id: int = field(default=2_300_000_000)
    """Ids count up from here, so that they differ between tasks."""


class TodoStore:
    """One episode's to-do list.

    Args:
        world_of: The start state of a task.
    """

    def __init__(self, world_of: Callable[[Task], World]) -> None:
        self._world_of = world_of
        self._database = _database()
        self._today = self._location = ""

    def open(self, task: Task) -> None:
        """See `Backend`."""
        world = self._world_of(task)
        self._today, self._location = world.today, world.location
        self._database.close()
        self._database = _database()
        self._database.executescript(_SCHEMA)
        number = world.first_id
        for position, project in enumerate(world.projects, 1):
            project_id = str(number)
            row = (project_id, position, project.name, COLOR, project.is_favorite)
            self._database.execute("INSERT INTO projects VALUES (?, ?, ?, ?, ?)", row)
            for n, item in enumerate(project.items, 1):
                number += 7
                values = (
                    str(number), project_id, n, item.content, item.description,
                    False, item.priority, item.due_date, item.duration, item.duration_unit,
                )  # fmt: skip
                self._database.execute("INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
            number += 7

    def save(self) -> bytes:
        """See `Backend`: the whole database."""
        return self._database.serialize()

    def load(self, task: Task, saved: bytes) -> None:
        """See `Backend`."""
        world = self._world_of(task)
        self._today, self._location = world.today, world.location
        self._database.deserialize(saved)

    def state(self) -> dict[str, list[dict[str, Any]]]:
        """Projects and open tasks without their ids, as upstream compares them."""
        projects = self.get_projects()
        tasks = [task for project in projects for task in self.get_tasks(project["id"])]
        return {"projects": without_ids(projects), "tasks": without_ids(tasks)}

    # -- actions --------------------------------------------------------------------------------------------------

    def get_user_current_date(self) -> str:
        return self._today

    def get_user_current_location(self) -> str:
        return self._location

    def get_projects(self) -> list[dict[str, Any]]:
        return [_project(row) for row in self._all(_PROJECTS)]

    def update_project(self, project_id: str, is_favorite: bool) -> dict[str, Any]:
        self._project(project_id)
        self._database.execute("UPDATE projects SET is_favorite = ? WHERE id = ?", (is_favorite, project_id))
        return {"message": "Update the project successfully.", "project": self._project(project_id)}

    def get_tasks(self, project_id: str) -> list[dict[str, Any]]:
        self._project(project_id)
        return [_task(row) for row in self._all(_OPEN_TASKS, project_id)]

    def get_task_description(self, task_id: str) -> dict[str, Any]:
        self._task(task_id)
        ((content, description),) = self._all("SELECT content, description FROM tasks WHERE id = ?", task_id)
        return {"id": task_id, "content": content, "description": description}

    def get_task_duration(self, task_id: str) -> dict[str, Any]:
        self._task(task_id)
        ((content, amount, unit),) = self._all(
            "SELECT content, duration, duration_unit FROM tasks WHERE id = ?", task_id
        )
        return {"id": task_id, "content": content, "duration": f"{amount}({unit})"}

    def complete_task(self, task_id: str) -> dict[str, Any]:
        task = self._task(task_id)
        self._database.execute("UPDATE tasks SET is_completed = 1 WHERE id = ?", (task_id,))
        del task["is_completed"]
        return {"message": "Complete task successfully.", "task": task}

    def update_task(self, task_id: str, due_date: str) -> dict[str, Any]:
        self._task(task_id)
        check_date(due_date)
        self._database.execute("UPDATE tasks SET due_date = ? WHERE id = ?", (due_date, task_id))
        return {"message": "Update the task successfully", "task": self._task(task_id)}

    def delete_task(self, task_id: str) -> dict[str, Any]:
        task = self._task(task_id)
        self._database.execute("DELETE FROM tasks WHERE id = ?", (task_id,))
        return {"message": "Delete the task successfully.", "task": task}

    # -- inside ---------------------------------------------------------------------------------------------------

    def _all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(self._database.execute(query, values)) as cursor:
            return cursor.fetchall()

    def _project(self, project_id: str) -> dict[str, Any]:
        rows = self._all(_PROJECT, project_id)
        if not rows:
            raise Refused(f"Project {shorten(project_id)} does not exist; get_projects lists the ids.")
        return _project(rows[0])

    def _task(self, task_id: str) -> dict[str, Any]:
        rows = self._all(_OPEN_TASK, task_id)
        if not rows:
            raise Refused(f"Task {shorten(task_id)} does not exist; get_tasks lists the ids of a project's open tasks.")
        return _task(rows[0])


def check_date(text: str) -> None:
    """Refuse what is not a date as YYYY-MM-DD.

    Raises:
        Refused: It is none.
    """
    try:
        if date.fromisoformat(text).isoformat() == text:
            return
    except ValueError:
        pass
    raise Refused(f"due_date {shorten(text)!r} is no date; give one as YYYY-MM-DD.")


def _database() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)


def _project(row: Sequence[Any]) -> dict[str, Any]:
    project_id, position, color, name, is_favorite = row
    return {"id": project_id, "order": position, "color": color, "name": name, "is_favorite": bool(is_favorite)}


def _task(row: Sequence[Any]) -> dict[str, Any]:
    task_id, position, content, is_completed, priority, due_date = row
    return {
        "id": task_id, "order": position, "content": content, "is_completed": bool(is_completed),
        "priority": priority, "due_date": due_date,
    }  # fmt: skip


def without_ids(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Projects or tasks as they are compared: ids differ from account to account."""
    return [{name: value for name, value in row.items() if name != "id"} for row in rows]
