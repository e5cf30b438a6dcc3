"""Templates of tasks that ask about the to-do list without changing it, and the drawing of all templates' tasks.

Answers are computed from the world's records; experts see only what the tools return. Templates that change the list
are in `changes.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Sequence
from datetime import date, timedelta
from typing import Any, Literal, NamedTuple

from envs.todo.store import Item, Project, World
from envs.todo.worlds import final_state, world
from envs.tools.tasks import Answer, Play, Step, Task, Template, finish, use

Row = dict[str, Any]
"""A project or task as the tools show it."""
Way = Generator[Step, Any, Any]
"""Steps that plays share; it returns what they found out."""

NAMES = "Please answer with a list of task names."
NUMBER = "Please answer with a number."


class Draw(NamedTuple):
    """A world, and one project and task of it that a question is about."""

    rng: random.Random
    seed: int
    sizes: tuple[int, ...]
    world: World
    project: Project
    item: Item

    def task(self, goal: str, answer: Any, final: Any = None, **parameters: Any) -> Task:
        """The task; unless told otherwise, the list must end as it began."""
        return Task(
            goal=goal,
            answer=Answer(answer),
            setting={"world": self.seed, "sizes": self.sizes},
            parameters={"project": self.project.name, "item": self.item.content, **parameters},
            final=final or final_state(self.world),
        )

    @property
    def items(self) -> list[Item]:
        """The tasks of all projects."""
        return [item for project in self.world.projects for item in project.items]


def drawn(rng: random.Random, sizes: Sequence[int] = (4, 3, 4)) -> Draw:
    """A world with its projects in a random order of sizes."""
    order = tuple(rng.sample(list(sizes), len(sizes)))
    seed = rng.randrange(10**9)
    state = world(seed, order)
    project = rng.choice(state.projects)
    return Draw(rng, seed, order, state, project, rng.choice(project.items))


def place_of(item: Item) -> str:
    """What an item's description names as its place."""
    return item.description.split("\n")[0].removeprefix("- Place: ")


def days_after(day: str, days: int) -> str:
    """Another date, in the same form."""
    return (date.fromisoformat(day) + timedelta(days=days)).isoformat()


def quoted(names: Sequence[str]) -> str:
    """Names for a thought: "A", "B" and "C"; none for no name."""
    marked = [f'"{name}"' for name in names]
    return " and ".join([", ".join(marked[:-1]), marked[-1]] if len(marked) > 2 else marked) or "none"


# -- ways that plays share --------------------------------------------------------------------------------------------


def read_project(name: str, why: str) -> Way:
    """List the projects, then the tasks of one; gives the tasks."""
    projects = yield use(f"{why} First I list the projects to get the id of {name}.", "get_projects")
    project_id = next(row["id"] for row in projects if row["name"] == name)
    tasks = yield use(f"{name} has the id {project_id}. Now I read its tasks.", "get_tasks", project_id=project_id)
    return tasks


def read_all(why: str) -> Way:
    """List the projects, then the tasks of each; gives (project, tasks) pairs."""
    projects = yield use(f"{why} I begin with the list of projects.", "get_projects")
    found = []
    for n, row in enumerate(projects):
        left = len(projects) - n
        rest = "This is the last project." if left == 1 else f"{left} projects are to be read."
        thought = f"{rest} I read the tasks of {row['name']}, id {row['id']}."
        found.append((row, (yield use(thought, "get_tasks", project_id=row["id"]))))
    return found


def read_today(why: str) -> Way:
    """Ask for the date."""
    today = yield use(f"{why} So I need today's date first.", "get_user_current_date")
    return today


def pick(tasks: Sequence[Row], content: str) -> Row:
    """The task of that name."""
    return next(row for row in tasks if row["content"] == content)


# -- templates --------------------------------------------------------------------------------------------------------


def _due(rng: random.Random) -> Task:
    d = drawn(rng)
    goal = f'When is the task "{d.item.content}" in the {d.project.name} project due? Please answer as YYYY-MM-DD.'
    return d.task(goal, d.item.due_date)


def _play_due(task: Task) -> Play:
    name = task.parameters["item"]
    tasks = yield from read_project(task.parameters["project"], "The due date stands in the list of tasks.")
    due = pick(tasks, name)["due_date"]
    yield finish(f'"{name}" is due on {due}, which answers the question.', due)


def _count_priority(rng: random.Random) -> Task:
    d = drawn(rng)
    level = rng.randint(1, 4)
    count = sum(item.priority == level for item in d.project.items)
    return d.task(f"How many tasks in the {d.project.name} project have priority {level}? {NUMBER}", count, level=level)


def _play_count_priority(task: Task) -> Play:
    level = task.parameters["level"]
    tasks = yield from read_project(task.parameters["project"], "I count the tasks of one priority.")
    names = [row["content"] for row in tasks if row["priority"] == level]
    yield finish(f"With priority {level} I see {quoted(names)}, so the number is {len(names)}.", len(names))


def _before(rng: random.Random) -> Task | None:
    d = drawn(rng)
    limit = days_after(d.world.today, rng.randint(2, 14))
    names = [item.content for item in d.project.items if item.due_date < limit]
    if not 1 <= len(names) < len(d.project.items):
        return None
    return d.task(f"Which tasks in the {d.project.name} project are due before {limit}? {NAMES}", names, limit=limit)


def _play_before(task: Task) -> Play:
    limit = task.parameters["limit"]
    tasks = yield from read_project(task.parameters["project"], "I compare the due dates of one project.")
    names = sorted(row["content"] for row in tasks if row["due_date"] < limit)
    yield finish(f"Due before {limit}: {quoted(names)}. That is the answer.", names)


def _place(rng: random.Random) -> Task:
    d = drawn(rng)
    goal = f'Where does the task "{d.item.content}" in the {d.project.name} project take place?'
    return d.task(f"{goal} Please answer with the name of the place.", place_of(d.item))


def _play_place(task: Task) -> Play:
    name = task.parameters["item"]
    tasks = yield from read_project(task.parameters["project"], "Places stand in the descriptions of tasks.")
    place = yield from _read_place(pick(tasks, name))
    yield finish(f"The description names the place: {place}.", place)


def _read_place(row: Row) -> Way:
    thought = f'I read the description of "{row["content"]}" (id {row["id"]}) to find its place.'
    text = (yield use(thought, "get_task_description", task_id=row["id"]))["description"]
    return text.split("\n")[0].removeprefix("- Place: ")


def _duration(rng: random.Random) -> Task:
    d = drawn(rng)
    goal = f'How long will the task "{d.item.content}" in the {d.project.name} project take?'
    return d.task(f"{goal} Please answer in the form number(unit).", f"{d.item.duration}({d.item.duration_unit})")


def _play_duration(task: Task) -> Play:
    name = task.parameters["item"]
    tasks = yield from read_project(task.parameters["project"], "To ask for a duration I need the task's id.")
    duration = yield from _read_duration(pick(tasks, name))
    yield finish(f'"{name}" takes {duration}, in the form that is asked for.', duration)


def _read_duration(row: Row) -> Way:
    thought = f'I look up how long "{row["content"]}" (id {row["id"]}) takes.'
    return (yield use(thought, "get_task_duration", task_id=row["id"]))["duration"]


def read_minutes(tasks: Sequence[Row]) -> Way:
    """Ask for the duration of each task; gives minutes by name."""
    minutes = {}
    for row in tasks:
        minutes[row["content"]] = int((yield from _read_duration(row)).split("(")[0])
    return minutes


def _total(rng: random.Random) -> Task:
    d = drawn(rng, (3, 2, 3))
    goal = f"How many minutes do all tasks in the {d.project.name} project take together? {NUMBER}"
    return d.task(goal, sum(item.duration for item in d.project.items))


def _play_total(task: Task) -> Play:
    tasks = yield from read_project(task.parameters["project"], "I add up the durations of one project's tasks.")
    minutes = yield from read_minutes(tasks)
    total = sum(minutes.values())
    terms = " + ".join(map(str, minutes.values()))
    yield finish(f"{terms} = {total} minutes in all.", total)


def _longest(rng: random.Random) -> Task | None:
    d = drawn(rng, (3, 3, 2))
    longest = max(item.duration for item in d.project.items)
    names = [item.content for item in d.project.items if item.duration == longest]
    goal = f"Which task in the {d.project.name} project takes the longest time? Please answer with the task's name."
    return d.task(goal, names[0]) if len(names) == 1 else None


def _play_longest(task: Task) -> Play:
    tasks = yield from read_project(task.parameters["project"], "I compare the durations of one project's tasks.")
    minutes = yield from read_minutes(tasks)
    name = max(minutes, key=lambda name: minutes[name])
    yield finish(f'"{name}" takes longest, {minutes[name]} minutes.', name)


def _which_project(rng: random.Random) -> Task:
    d = drawn(rng, (3, 4, 3))
    return d.task(
        f'To which project does the task "{d.item.content}" belong? Please answer with its name.', d.project.name
    )


def find_project(name: str, why: str) -> Way:
    """Read the projects' tasks until one has the task; gives that project and the task."""
    projects = yield use(f"{why} I do not know its project, so I list all projects.", "get_projects")
    for row in projects:
        tasks = yield use(
            f'I look for "{name}" among the tasks of {row["name"]}, id {row["id"]}.',
            "get_tasks",
            project_id=row["id"],
        )
        if any(task["content"] == name for task in tasks):
            return row, pick(tasks, name)
    raise AssertionError(f"no project has {name!r}")


def _play_which_project(task: Task) -> Play:
    name = task.parameters["item"]
    project, _ = yield from find_project(name, "The question asks where a task belongs.")
    yield finish(f'"{name}" is in the list of {project["name"]}.', project["name"])


def _same_place(rng: random.Random) -> Task | None:
    d = drawn(rng, (3, 3))
    first, second = d.world.projects
    pairs = [(a, b) for a in first.items for b in second.items]
    want = rng.random() < 0.5
    pairs = [(a, b) for a, b in pairs if (place_of(a) == place_of(b)) == want]
    if not pairs:
        return None
    a, b = rng.choice(pairs)
    goal = (
        f'Does the task "{a.content}" ({first.name}) take place where "{b.content}" ({second.name}) does? '
        "Please answer Yes or No."
    )
    return d.task(goal, "Yes" if want else "No", items=(a.content, b.content))


def _play_same_place(task: Task) -> Play:
    both = yield from read_all("I compare the places of two tasks of two projects.")
    rows = [pick(tasks, name) for (_, tasks), name in zip(both, task.parameters["items"])]
    first = yield from _read_place(rows[0])
    second = yield from _read_place(rows[1])
    same = "Yes" if first == second else "No"
    yield finish(f"One takes place at {first}, the other at {second}. So the answer is {same}.", same)


def _urgent(rng: random.Random) -> Task | None:
    d = drawn(rng, (3, 3, 3))
    last = days_after(d.world.today, 7)
    soon = [item for item in d.items if d.world.today <= item.due_date <= last]
    top = max((item.priority for item in soon), default=0)
    names = [item.content for item in soon if item.priority == top]
    goal = (
        f"Which of my tasks due between today and {last} has the highest priority (4 is the highest)? "
        "Please answer with the task's name."
    )
    return d.task(goal, names[0], last=last) if len(names) == 1 and len(soon) > 1 else None


def _play_urgent(task: Task) -> Play:
    last = task.parameters["last"]
    today = yield from read_today("The question depends on today.")
    lists = yield from read_all(f"Today is {today}, so due dates from {today} to {last} count.")
    soon = [row for _, tasks in lists for row in tasks if today <= row["due_date"] <= last]
    top = max(soon, key=lambda row: row["priority"])
    names = quoted([row["content"] for row in soon])
    yield finish(f'Due in that time: {names}. "{top["content"]}" has priority {top["priority"]}.', top["content"])


def _overdue(rng: random.Random) -> Task:
    d = drawn(rng, (3, 4, 3))
    count = sum(item.due_date < d.world.today for item in d.items)
    goal = f"How many of my tasks are overdue, that is, were due before today? {NUMBER}"
    return d.task(goal, count)


def _play_overdue(task: Task) -> Play:
    today = yield from read_today("Whether a task is overdue depends on today.")
    lists = yield from read_all(f"Today is {today}; I look for due dates before it.")
    late = [row["content"] for _, tasks in lists for row in tasks if row["due_date"] < today]
    yield finish(f"Due before {today}: {quoted(late)}. That makes {len(late)}.", len(late))


def _earliest(rng: random.Random) -> Task | None:
    d = drawn(rng, (4, 3, 3))
    first = min(item.due_date for item in d.items)
    names = [item.content for item in d.items if item.due_date == first]
    goal = "Which task of all my projects is due first? Please answer with the task's name."
    return d.task(goal, names[0]) if len(names) == 1 else None


def _play_earliest(task: Task) -> Play:
    lists = yield from read_all("I compare the due dates of all tasks.")
    row = min((row for _, tasks in lists for row in tasks), key=lambda row: row["due_date"])
    yield finish(f'The earliest due date is {row["due_date"]}, that of "{row["content"]}".', row["content"])


Difficulty = Literal["easy", "hard"]
_ROWS: tuple[tuple[str, Difficulty, Callable[[random.Random], Task | None], Callable[[Task], Play]], ...] = (
    ("due_date", "easy", _due, _play_due),
    ("count_priority", "easy", _count_priority, _play_count_priority),
    ("due_before", "easy", _before, _play_before),
    ("place", "easy", _place, _play_place),
    ("duration", "easy", _duration, _play_duration),
    ("total_duration", "hard", _total, _play_total),
    ("longest", "hard", _longest, _play_longest),
    ("which_project", "hard", _which_project, _play_which_project),
    ("same_place", "hard", _same_place, _play_same_place),
    ("urgent", "hard", _urgent, _play_urgent),
    ("overdue", "hard", _overdue, _play_overdue),
    ("earliest", "hard", _earliest, _play_earliest),
)
QUESTIONS = tuple(Template(*row) for row in _ROWS)
