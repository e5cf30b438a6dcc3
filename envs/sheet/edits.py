"""Templates of tasks that change parts of a sheet: a cell, a row, a missing or empty value, what a note says.

Final tables are computed from the start table's values; experts see only what the actions return.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from envs.sheet.cells import address, column_letters
from envs.sheet.tables import PEOPLE, STATES, Column, Table, costs, marks, stock, work
from envs.sheet.ways import col_of, end, listed, make, read, row_of
from envs.tools.tasks import Difficulty, Play, Task, Template, use


def _draw_set(rng: random.Random) -> Task | None:
    start = stock(rng, rng.randint(5, 8))
    row, title = rng.randrange(len(start.rows)), rng.choice(("Price", "Quantity"))
    new = rng.randint(4, 80) / 4 if title == "Price" else float(rng.randint(150, 300))
    name = start.rows[row][0]
    goal = f"In {{sheet}}, please set the {title} of {name} to {new:g}."
    return make(rng, start, goal, start.put(row, title, new), name=name, title=title, new=new)


def _play_set(task: Task) -> Play:
    p = task.parameters
    shown = yield from read(task, f"{p['name']} and the column {p['title']}")
    cell = address(row_of(shown, p["name"]), col_of(shown, p["title"]))
    thought = f"The {p['title']} of {p['name']} is in {cell}; I set it to {p['new']:g}."
    yield use(thought, "update_cell", position=cell, value=p["new"])
    yield end(f"{cell} has the new value.")


def _draw_drop(rng: random.Random) -> Task | None:
    start = work(rng, rng.randint(6, 9))
    state = rng.choice(STATES)
    kept = [row for row in start.rows if row[start.at("State")] != state]
    if not 2 < len(kept) < len(start.rows):
        return None
    goal = f'In {{sheet}}, please delete all jobs whose State is "{state}".'
    return make(rng, start, goal, start.with_rows(kept), state=state)


def _play_drop(task: Task) -> Play:
    state = task.parameters["state"]
    shown = yield from read(task, f'the jobs whose State is "{state}"')
    col = col_of(shown, "State") - 1
    numbers = [n for n, row in enumerate(shown, 1) if row[col] == state]
    thought = f'"{state}" stands in the rows {listed(list(map(str, numbers)))}; I delete them at once.'
    yield use(thought, "delete_batch_data", dimension="row", index_list=numbers)
    yield end("No such job is left.")


def _draw_total(rng: random.Random) -> Task | None:
    start = costs(rng, rng.randint(5, 8))
    operator, word = rng.choice((("SUM", "total"), ("AVERAGE", "average"), ("MAX", "largest"), ("MIN", "smallest")))
    amounts = start.numbers("Amount")
    if operator == "AVERAGE":
        value = sum(round(amount * 100) for amount in amounts) / 100 / len(amounts)
    else:
        value = sum(amounts) if operator == "SUM" else max(amounts) if operator == "MAX" else min(amounts)
    label = word.capitalize()
    final = start.with_rows([*start.rows, (label, None, None, value)])
    goal = f'In {{sheet}}, please put the {word} of all amounts into the row "{label}", by a formula.'
    return make(rng, final.put(len(start.rows), "Amount", None), goal, final, operator=operator, label=label)


def _play_total(task: Task) -> Play:
    label = task.parameters["label"]
    shown = yield from read(task, f'the amounts and the row "{label}"')
    letter = column_letters(col_of(shown, "Amount"))
    row = row_of(shown, label)
    first, last, target = f"{letter}2", f"{letter}{row - 1}", f"{letter}{row}"
    thought = f'The amounts are {first} to {last}; "{label}" is row {row}, so the formula goes into {target}.'
    yield use(
        thought, "update_cell_by_formula",
        start_position=first, end_position=last, result_position=target, operator=task.parameters["operator"],
    )  # fmt: skip
    yield end(f'"{label}" is filled in.')


def _draw_add(rng: random.Random) -> Task | None:
    start = marks(rng, rng.randint(5, 8))
    name = rng.choice([person for person in PEOPLE if person not in start.column("Name")])
    points = [float(rng.randint(55, 99)) for _ in range(3)]
    row = (name, rng.choice(("7a", "7b")), *points)
    texts = [str(int(value)) if isinstance(value, float) else str(value) for value in row]
    goal = f"Please add a record to {{sheet}}, right below the titles: {listed(texts)}."
    return make(rng, start, goal, start.with_rows([row, *start.rows]), row=[*row[:2], *map(int, points)])


def _play_add(task: Task) -> Play:
    row = task.parameters["row"]
    shown = yield from read(task, "the order of its columns")
    thought = f"The columns are {listed(shown[0])}, as in the record. It becomes row 2, below the titles."
    yield use(thought, "insert_rows", values_list=[row], row_idx=2)
    yield end(f"{row[0]} is the first record.")


def _draw_note(rng: random.Random) -> Task | None:
    start = marks(rng, rng.randint(5, 8))
    row, title = rng.randrange(len(start.rows)), rng.choice(("Math", "Physics", "Biology"))
    new = float(rng.randint(50, 99))
    name = start.rows[row][0]
    final = start.put(row, title, new)
    start = replace(start, notes=((row, f"{title} corrected to {new:g}"),))
    goal = f"In {{sheet}}, there is a note on the cell with the name {name}. Please make the change that it asks for."
    return make(rng, start, goal, final, name=name)


def _play_note(task: Task) -> Play:
    name = task.parameters["name"]
    shown = yield from read(task, f"the cell of {name}")
    cell = address(row_of(shown, name), 1)
    note = yield use(f"{name} is in {cell}; I read its note.", "get_note", position=cell)
    title, new = note.split(" corrected to ")
    cell = address(row_of(shown, name), col_of(shown, title))
    thought = f'The note says "{note}". {title} of {name} is {cell}.'
    yield use(thought, "update_cell", position=cell, value=int(new))
    yield end("The note is followed.")


def _draw_empty(rng: random.Random) -> Task | None:
    full = stock(rng, rng.randint(4, 6))
    row, col = rng.randint(1, len(full.rows) - 1), rng.randint(1, len(full.columns) - 1)
    rows = [(*values[:col], None, *values[col:]) for values in full.rows]
    rows.insert(row, (None,) * (len(full.columns) + 1))
    start = Table((*full.columns[:col], Column(""), *full.columns[col:]), tuple(rows))
    return make(rng, start, "Please delete the empty row and the empty column of {sheet}.", full)


def _play_empty(task: Task) -> Play:
    shown = yield from read(task, "what is empty")
    row = next(n for n, values in enumerate(shown, 1) if not any(values))
    col = next(n for n, values in enumerate(zip(*shown), 1) if not any(values))
    yield use(f"Row {row} has no values; I delete it.", "delete_batch_data", dimension="row", index_list=[row])
    yield use(f"Column {col} has none either; I delete it.", "delete_batch_data", dimension="col", index_list=[col])
    yield end("Nothing empty is left.")


def _draw_best(rng: random.Random) -> Task | None:
    start = marks(rng, rng.randint(5, 8))
    title = rng.choice(("Math", "Physics", "Biology"))
    column = start.at(title)
    top = max(start.numbers(title))
    kept = [row for row in start.rows if row[column] != top]
    goal = f'In {{sheet}}, please delete the record of the student with the highest mark in "{title}".'
    return make(rng, start, goal, start.with_rows(kept), title=title)


def _play_best(task: Task) -> Play:
    title = task.parameters["title"]
    shown = yield from read(task, f'the marks in "{title}"')
    col = col_of(shown, title)
    first, last = address(2, col), address(len(shown), col)
    top = yield use(
        f"The marks are {first} to {last}; I compute the highest.", "get_value_by_formula",
        start_position=first, end_position=last, operator="MAX",
    )  # fmt: skip
    cells = yield use(f"The highest mark is {top}; I look where it stands.", "filter_cells", query=top, in_column=col)
    number = int(cells[0].lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    thought = f"It is in {cells[0]}, the row of {shown[number - 1][0]}. I delete row {number}."
    yield use(thought, "delete_batch_data", dimension="row", index_list=[number])
    yield end("The best record is gone.")


def _draw_missing(rng: random.Random) -> Task | None:
    full = work(rng, rng.randint(5, 7))
    rows = sorted(rng.sample(range(len(full.rows)), 2))
    start = full
    for row in rows:
        start = start.put(row, "Person", "n/a")
    given = [[full.rows[row][0], full.rows[row][1]] for row in rows]
    goal = f'In {{sheet}}, two persons are missing, marked "n/a". Please fill them in: {[["Job", "Person"], *given]}.'
    return make(rng, start, goal, full, given={job: person for job, person in given})


def _play_missing(task: Task) -> Play:
    given = task.parameters["given"]
    shown = yield from read(task, "the jobs without a person")
    col = col_of(shown, "Person")
    thought = f"Persons are in column {col}; I look for the cells marked n/a."
    cells = yield use(thought, "filter_cells", query="^n/a$", in_column=col)
    for cell in cells:
        job = shown[int(cell.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")) - 1][0]
        yield use(
            f'{cell} belongs to "{job}", so {given[job]} goes there.', "update_cell", position=cell, value=given[job]
        )
    yield end("Nobody is missing any more.")


_ROWS: tuple[tuple[str, Difficulty, Callable[[random.Random], Task | None], Callable[[Task], Play]], ...] = (
    ("set_cell", "easy", _draw_set, _play_set),
    ("delete_state", "easy", _draw_drop, _play_drop),
    ("total", "easy", _draw_total, _play_total),
    ("add_row", "easy", _draw_add, _play_add),
    ("follow_note", "hard", _draw_note, _play_note),
    ("delete_empty", "hard", _draw_empty, _play_empty),
    ("delete_best", "hard", _draw_best, _play_best),
    ("fill_missing", "hard", _draw_missing, _play_missing),
)
EDITS = tuple(Template(*row) for row in _ROWS)
