"""Templates of tasks that change the to-do list: complete, postpone, delete, mark as favourite, some under a condition.

The final state is computed from the world's records. Templates that only ask are in `questions.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from envs.todo.questions import (
    NUMBER,
    Difficulty,
    days_after,
    drawn,
    find_project,
    pick,
    quoted,
    read_minutes,
    read_project,
    read_today,
)  # fmt: skip
from envs.todo.worlds import final_state
from envs.tools.tasks import Play, Task, Template, finish, use

DONE = "done"


def _complete(rng: random.Random) -> Task:
    d = drawn(rng)
    goal = f'I have just finished "{d.item.content}" in the {d.project.name} project, please mark it as completed.'
    return d.task(goal, DONE, final_state(d.world, gone=[d.item]))


def _play_complete(task: Task) -> Play:
    name = task.parameters["item"]
    tasks = yield from read_project(task.parameters["project"], "To complete a task I need its id.")
    task_id = pick(tasks, name)["id"]
    yield use(f'"{name}" has the id {task_id}. I mark it as completed.', "complete_task", task_id=task_id)
    yield finish("The task is completed, nothing else was asked for.", DONE)


def _postpone(rng: random.Random) -> Task:
    d = drawn(rng)
    days = rng.choice((2, 3, 5, 7, 10))
    goal = f'Please move the due date of "{d.item.content}" in the {d.project.name} project {days} days later.'
    final = final_state(d.world, due={d.item.content: days_after(d.item.due_date, days)})
    return d.task(goal, DONE, final, days=days)


def _play_postpone(task: Task) -> Play:
    name, days = task.parameters["item"], task.parameters["days"]
    tasks = yield from read_project(task.parameters["project"], "I need the task's id and its present due date.")
    row = pick(tasks, name)
    new = days_after(row["due_date"], days)
    thought = f'"{name}" is due on {row["due_date"]}; {days} days later is {new}. I set that date.'
    yield use(thought, "update_task", task_id=row["id"], due_date=new)
    yield finish("The due date is moved as asked.", DONE)


def _delete(rng: random.Random) -> Task:
    d = drawn(rng, (3, 3, 3))
    goal = f'Please delete the task "{d.item.content}"; I do not remember which project it is in.'
    return d.task(goal, DONE, final_state(d.world, gone=[d.item]))


def _play_delete(task: Task) -> Play:
    name = task.parameters["item"]
    _, row = yield from find_project(name, "To delete a task I need its id.")
    yield use(f'Here is "{name}", id {row["id"]}. I delete it.', "delete_task", task_id=row["id"])
    yield finish("The task is deleted, as asked.", DONE)


def _clear_overdue(rng: random.Random) -> Task | None:
    d = drawn(rng)
    late = [item for item in d.project.items if item.due_date < d.world.today]
    goal = f"Please delete all tasks in the {d.project.name} project that were due before today."
    return d.task(goal, DONE, final_state(d.world, gone=late)) if 1 <= len(late) <= 2 else None


def _play_clear_overdue(task: Task) -> Play:
    today = yield from read_today("What was due before today depends on the date.")
    tasks = yield from read_project(task.parameters["project"], f"Today is {today}.")
    late = [row for row in tasks if row["due_date"] < today]
    names = quoted([row["content"] for row in late])
    for row in late:
        thought = f'Due before {today}: {names}. I delete "{row["content"]}", due on {row["due_date"]}.'
        yield use(thought, "delete_task", task_id=row["id"])
    yield finish(f"All {len(late)} overdue tasks of the project are deleted.", DONE)


def _tomorrow(rng: random.Random) -> Task | None:
    d = drawn(rng)
    level = rng.randint(1, 4)
    chosen = [item for item in d.project.items if item.priority == level]
    if not 1 <= len(chosen) <= 2:
        return None
    due = {item.content: days_after(d.world.today, 1) for item in chosen}
    goal = f"Please set the due date of all tasks with priority {level} in the {d.project.name} project to tomorrow."
    return d.task(goal, DONE, final_state(d.world, due=due), level=level)


def _play_tomorrow(task: Task) -> Play:
    level = task.parameters["level"]
    today = yield from read_today("Tomorrow depends on today.")
    new = days_after(today, 1)
    tasks = yield from read_project(task.parameters["project"], f"Today is {today}, so tomorrow is {new}.")
    for row in [row for row in tasks if row["priority"] == level]:
        thought = f'"{row["content"]}" has priority {level}, so I set its due date to {new}.'
        yield use(thought, "update_task", task_id=row["id"], due_date=new)
    yield finish(f"Every task with priority {level} is now due on {new}.", DONE)


def _favorite(rng: random.Random) -> Task:
    d = drawn(rng, (3, 4, 3))
    goal = f'Please mark the project that includes the task "{d.item.content}" as a favourite.'
    return d.task(goal, DONE, final_state(d.world, favorite=d.project.name))


def _play_favorite(task: Task) -> Play:
    name = task.parameters["item"]
    project, _ = yield from find_project(name, "I look for the project of a task.")
    thought = f'{project["name"]} includes "{name}". I mark it as a favourite.'
    yield use(thought, "update_project", project_id=project["id"], is_favorite="True")
    yield finish("The project is a favourite now.", DONE)


def _either(rng: random.Random) -> Task:
    d = drawn(rng)
    late = d.item.due_date < d.world.today
    goal = (
        f'Look at the task "{d.item.content}" in the {d.project.name} project: if it was due before today, delete it, '
        "otherwise move its due date one week later."
    )
    later = {d.item.content: days_after(d.item.due_date, 7)}
    return d.task(goal, DONE, final_state(d.world, gone=[d.item]) if late else final_state(d.world, due=later))


def _play_either(task: Task) -> Play:
    name = task.parameters["item"]
    today = yield from read_today("The condition depends on today.")
    tasks = yield from read_project(task.parameters["project"], f"Today is {today}.")
    row = pick(tasks, name)
    if row["due_date"] < today:
        thought = f'"{name}" was due on {row["due_date"]}, before {today}, so I delete it.'
        yield use(thought, "delete_task", task_id=row["id"])
    else:
        new = days_after(row["due_date"], 7)
        thought = f'"{name}" is due on {row["due_date"]}, not before {today}, so I move it a week later, to {new}.'
        yield use(thought, "update_task", task_id=row["id"], due_date=new)
    yield finish("The condition is followed, the task is done.", DONE)


def _short_ones(rng: random.Random) -> Task | None:
    d = drawn(rng, (2, 2, 2))
    limit = rng.choice((30, 45, 60))
    short = [item for item in d.project.items if item.duration < limit]
    if len(short) != 1:
        return None
    goal = (
        f"Please mark all tasks in the {d.project.name} project that take less than {limit} minutes as completed. "
        f"Then tell me how many minutes the other tasks of that project take together. {NUMBER}"
    )
    rest = sum(item.duration for item in d.project.items if item not in short)
    return d.task(goal, rest, final_state(d.world, gone=short), limit=limit)


def _play_short_ones(task: Task) -> Play:
    limit = task.parameters["limit"]
    tasks = yield from read_project(task.parameters["project"], "I need the durations of one project's tasks.")
    minutes = yield from read_minutes(tasks)
    for row in [row for row in tasks if minutes[row["content"]] < limit]:
        thought = f'"{row["content"]}" takes {minutes[row["content"]]} minutes, less than {limit}. I complete it.'
        yield use(thought, "complete_task", task_id=row["id"])
    rest = [m for m in minutes.values() if m >= limit]
    yield finish(f"The short tasks are completed; the rest takes {sum(rest)} minutes.", sum(rest))


_ROWS: tuple[tuple[str, Difficulty, Callable[[random.Random], Task | None], Callable[[Task], Play]], ...] = (
    ("complete", "easy", _complete, _play_complete),
    ("postpone", "easy", _postpone, _play_postpone),
    ("delete", "hard", _delete, _play_delete),
    ("clear_overdue", "hard", _clear_overdue, _play_clear_overdue),
    ("to_tomorrow", "hard", _tomorrow, _play_tomorrow),
    ("favorite", "hard", _favorite, _play_favorite),
    ("delete_or_postpone", "hard", _either, _play_either),
    ("complete_short", "hard", _short_ones, _play_short_ones),
)
CHANGES = tuple(Template(*row) for row in _ROWS)
