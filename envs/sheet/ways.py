"""Helpers that the templates share: making a task from a start and a final table, and the first steps of many plays."""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from typing import Any

from envs.sheet.tables import Table, workbook
from envs.sheet.worksheet import agreement
from envs.tools.tasks import Step, Task, use

Shown = list[list[str]]
Way = Generator[Step, Any, Any]


def make(rng: random.Random, start: Table, goal: str, final: Table, **parameters: Any) -> Task | None:
    """The task of turning one table into another; {sheet} in the goal becomes the sheet's name.

    None if upstream's score would be full from the start, because it compares only what both tables have.
    """
    if agreement(start.texts(), final.texts()) == 1.0:
        return None
    name, book = workbook(rng, start)
    return Task(
        goal=goal.replace("{sheet}", f'"{name}"'),
        answer=None,
        setting={"workbook": book},
        parameters={"sheet": name, **parameters},
        final=final.texts(),
    )


def read(task: Task, what: str) -> Way:
    """Open the sheet and read it; gives the table as shown."""
    name = task.parameters["sheet"]
    yield use(f'The goal is about the sheet "{name}", so I open it first.', "open_sheet", name=name)
    return (yield use(f"I read the whole table to find {what}.", "get_all_values"))


def end(why: str) -> Step:
    """The last step."""
    return use(f"{why} The table is as asked for, so I finish.", "finish")


def row_of(shown: Shown, name: str) -> int:
    """The number of the row that begins with a name."""
    return next(n for n, row in enumerate(shown, 1) if row[0] == name)


def col_of(shown: Shown, title: str) -> int:
    """The number of the column with a title."""
    return shown[0].index(title) + 1


def sort(shown: Shown, title: str, order: str) -> Way:
    """Freeze the titles and sort; gives the sorted table."""
    col = col_of(shown, title)
    yield use("The titles must stay on top, so I freeze the first row.", "freeze_data", dimension="rows", num=1)
    way = "ascending" if order == "asc" else "descending"
    thought = f'"{title}" is column {col}; I sort by it in {way} order.'
    return (yield use(thought, "sort_sheet_by_col", col_num=col, order=order))


def listed(names: Sequence[str]) -> str:
    """Names with commas between them."""
    return ", ".join(names)
