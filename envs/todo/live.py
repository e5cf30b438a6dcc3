"""The live backend: the actions on a Todoist account, through `todoist-api-python` (API v1).

Every episode deletes the account's projects (not its Inbox) and makes those of its start state, so it needs an account
of its own: an account with a project that no episode made is refused and left untouched. The key is read from
`TODOIST_API_TOKEN`. An account holds one episode at a time and cannot be restored from a snapshot.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable
from datetime import date
from typing import Any, TypeVar

import httpx

from atlas_ray.errors import ConfigError, EnvironmentError
from envs.todo.store import World, check_date, without_ids
from envs.tools.backend import Fault, Refused
from envs.tools.grammar import shorten
from envs.tools.live import answered, patiently, unreached
from envs.tools.tasks import Task

KEY = "TODOIST_API_TOKEN"

T = TypeVar("T")
_MARK = "made by atlas-ray"
"""The description of the projects that episodes make, and may delete."""
_ID = re.compile(r"[A-Za-z0-9_-]+")


class TodoistBackend:
    """The to-do list of a Todoist account.

    Args:
        world_of: The start state of a task.
        client: An HTTP client of one's own.

    Raises:
        ConfigError: The key is not set, or the package is not installed.
    """

    def __init__(self, world_of: Callable[[Task], World], client: httpx.Client | None = None) -> None:
        key = os.environ.get(KEY, "")
        if not key:
            raise ConfigError(f"todo: backend 'live' needs the environment variable {KEY}, a Todoist API token")
        try:
            from todoist_api_python.api import TodoistAPI
        except ImportError:
            raise ConfigError("todo: backend 'live' needs pip install 'atlas-ray[live]'") from None
        self._world_of = world_of
        self._request_id = ""
        self._api = TodoistAPI(key, request_id_fn=lambda: self._request_id, client=client)
        self._today = self._location = ""

    # -- the episode ----------------------------------------------------------------------------------------------

    def open(self, task: Task) -> None:
        """See `Backend`.

        Raises:
            EnvironmentError: The account holds projects that are not an episode's.
            Fault: Todoist failed.
        """
        world = self._world_of(task)
        self._today, self._location = world.today, world.location
        present = self._projects()
        foreign = [project.name for project in present if project.description != _MARK]
        if foreign:
            raise EnvironmentError(
                f"todo: the Todoist account holds the project {shorten(foreign[0])!r}; episodes delete projects, so "
                "backend 'live' takes an account that has none but its Inbox"
            )
        for project in present:
            self._call(self._api.delete_project, project.id)
        for start in world.projects:
            made = self._call(
                self._api.add_project, start.name, description=_MARK, is_favorite=start.is_favorite or None
            )
            for item in start.items:
                self._call(
                    self._api.add_task, item.content, project_id=made.id, description=item.description,
                    due_date=date.fromisoformat(item.due_date), priority=item.priority,
                    duration=item.duration, duration_unit=item.duration_unit,
                )  # fmt: skip

    def save(self) -> None:
        """See `Backend`: an account has no snapshot."""

    def load(self, task: Task, saved: None) -> None:
        """See `Backend`.

        Raises:
            EnvironmentError: Always.
        """
        raise EnvironmentError("todo: a Todoist account cannot be put back to a snapshot; use backend 'offline'")

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
        return [_project(project) for project in self._projects()]

    def update_project(self, project_id: str, is_favorite: bool) -> dict[str, Any]:
        project = self._call(self._api.update_project, _checked(project_id), is_favorite=is_favorite)
        return {"message": "Update the project successfully.", "project": _project(project)}

    def get_tasks(self, project_id: str) -> list[dict[str, Any]]:
        project_id = _checked(project_id)
        pages = self._call(lambda: list(self._api.get_tasks(project_id=project_id)))
        return [_task(task) for task in sorted((t for page in pages for t in page), key=lambda t: t.order)]

    def get_task_description(self, task_id: str) -> dict[str, Any]:
        task = self._task(task_id)
        return {"id": task.id, "content": task.content, "description": task.description}

    def get_task_duration(self, task_id: str) -> dict[str, Any]:
        task = self._task(task_id)
        if task.duration is None:
            raise Refused(f"Task {task.id} has no duration.")
        duration = f"{task.duration.amount}({task.duration.unit})"
        return {"id": task.id, "content": task.content, "duration": duration}

    def complete_task(self, task_id: str) -> dict[str, Any]:
        task = _task(self._task(task_id))
        self._call(self._api.complete_task, task["id"])
        del task["is_completed"]
        return {"message": "Complete task successfully.", "task": task}

    def update_task(self, task_id: str, due_date: str) -> dict[str, Any]:
        check_date(due_date)
        task = self._call(self._api.update_task, _checked(task_id), due_date=date.fromisoformat(due_date))
        return {"message": "Update the task successfully", "task": _task(task)}

    def delete_task(self, task_id: str) -> dict[str, Any]:
        task = _task(self._task(task_id))
        self._call(self._api.delete_task, task["id"])
        return {"message": "Delete the task successfully.", "task": task}

    # -- inside ---------------------------------------------------------------------------------------------------

    def _projects(self) -> list[Any]:
        """The projects in their order, without the Inbox."""
        pages = self._call(lambda: list(self._api.get_projects()))
        projects = [project for page in pages for project in page if not project.is_inbox_project]
        return sorted(projects, key=lambda project: project.order)

    def _task(self, task_id: str) -> Any:
        return self._call(self._api.get_task, _checked(task_id))

    def _call(self, method: Callable[..., T], *arguments: Any, **options: Any) -> T:
        # One id for all tries of a request: Todoist carries out a change that it has already made only once.
        self._request_id = str(uuid.uuid4())
        return patiently(lambda: _once(method, *arguments, **options))


def _once(method: Callable[..., T], *arguments: Any, **options: Any) -> T:
    try:
        return method(*arguments, **options)
    except httpx.HTTPStatusError as error:
        raise answered("Todoist", error.response, KEY) from None
    except httpx.TransportError as error:
        raise unreached("Todoist", error) from None
    except Exception as error:
        # No JSON, or JSON of another shape: the package's reader raises whatever it stumbles over.
        what = type(error).__name__
        raise Fault(f"Error: Todoist sent an answer that cannot be read ({what}); try again later") from error


def _checked(number: str) -> str:
    """An id, fit to be part of a URL."""
    if not _ID.fullmatch(number):
        raise Refused(f"{shorten(number)!r} is no id; get_projects and get_tasks list them.")
    return number


def _project(project: Any) -> dict[str, Any]:
    return {
        "id": project.id, "order": project.order, "color": project.color, "name": project.name,
        "is_favorite": project.is_favorite,
    }  # fmt: skip


def _task(task: Any) -> dict[str, Any]:
    return {
        "id": task.id, "order": task.order, "content": task.content, "is_completed": task.is_completed,
        "priority": task.priority, "due_date": task.due.date.isoformat()[:10] if task.due else None,
    }  # fmt: skip
