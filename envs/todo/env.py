"""Todo: read and change a to-do list by actions (AgentGym's todo, on Todoist upstream).

As upstream, an episode is solved if `finish` gives the right answer and the list ends in the required state. The list
is in `store.py`. Tasks come from `questions.py` and `changes.py`, or from upstream's files.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from atlas_ray.errors import ConfigError
from envs.todo.actions import EXAMPLE, HINT, TOOLBOX
from envs.todo.changes import CHANGES
from envs.todo.files import beside, read_projects
from envs.todo.live import TodoistBackend
from envs.todo.questions import QUESTIONS
from envs.todo.store import TodoStore, World
from envs.todo.worlds import world
from envs.tools.backend import choose
from envs.tools.env import ToolEnv
from envs.tools.files import read_tasks
from envs.tools.grammar import refused_by
from envs.tools.tasks import Task, TaskSet, generate

TEMPLATES = (*QUESTIONS, *CHANGES)


class TodoEnv(ToolEnv):
    """Tasks about a to-do list; `info["score"]` becomes 1 when answer and final state are right.

    Args:
        data: A task file in upstream's format instead of the generated tasks.
        projects: The start state of those tasks; the file beside `data` unless given.
        backend: "offline", or "live" for the Todoist account of `TODOIST_API_TOKEN`; see `live.py` before that.
        max_rounds: Rounds before truncation, the paper's 15 unless given.
    """

    refusals: ClassVar[str] = refused_by(
        r"(?:Project|Task) .{0,70} does not exist", "Task .{0,70} has no duration", ".{0,70} is no id;",
        "due_date .{0,70} is no date",
    )  # fmt: skip

    def __init__(
        self,
        *,
        data: str | Path | None = None,
        projects: str | Path | None = None,
        backend: str = "offline",
        max_rounds: int | None = None,
    ) -> None:
        if projects is not None and data is None:
            raise ConfigError("todo: projects=PATH is the start state of data=PATH; give both")
        world_of = _generated_world if data is None else _file_world(projects or beside(data))
        self._list = choose("todo", backend, lambda: TodoStore(world_of), lambda: TodoistBackend(world_of))
        tasks = None if data is None else read_tasks(data, "todo")
        super().__init__(
            "todo",
            held_in=True,
            rounds=15,
            source="AgentGym agentenv-todo (AgentBoard heritage); own to-do lists and tasks",
            instruction=TOOLBOX.instruction(HINT, EXAMPLE),
            toolbox=TOOLBOX,
            backend=self._list,
            templates=TEMPLATES,
            generated=generated,
            given=tasks,
            max_rounds=max_rounds,
        )

    def _judge(self, finished: bool, given: Any) -> float:
        right = super()._judge(finished, given)
        return float(right == 1.0 and self._list.state() == self.task.final)


@cache
def generated() -> TaskSet:
    """The generated tasks, 200 for training and 20 for tests."""
    return generate("todo", TEMPLATES)


def _generated_world(task: Task) -> World:
    return world(task.setting["world"], task.setting["sizes"])


def _file_world(path: str | Path) -> Callable[[Task], World]:
    projects = read_projects(path)
    return lambda task: World(projects, task.setting["current_date"], task.setting["current_location"])
