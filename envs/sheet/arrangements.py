"""Templates of tasks that rearrange or complete a whole sheet: sorting, ranking, columns of formulas, merged cells.

Final tables are computed from the start table's values; experts see only what the actions return.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from envs.sheet.cells import address, column_letters
from envs.sheet.tables import Column, Table, marks, number, stock, work
from envs.sheet.ways import col_of, end, listed, make, read, sort
from envs.tools.tasks import Difficulty, Play, Task, Template, use


def _draw_sold(rng: random.Random) -> Task | None:
    start = stock(rng, rng.randint(4, 6))
    sold = [rng.randint(1, 40) for _ in start.rows]
    final = start
    for n, (row, count) in enumerate(zip(start.rows, sold)):
        final = final.put(n, "Quantity", number(row[start.at("Quantity")]) - count)
    listed = [[row[0], str(count)] for row, count in zip(start.rows, sold)]
    goal = (
        f"{{sheet}} holds our stock. Today we sold {[['Product', 'Sold'], *listed]}. Please bring the quantities up to "
        'date, then sort the table by "Quantity" in descending order.'
    )
    return make(rng, start, goal, final.by("Quantity", descending=True), sold=dict(zip(start.column("Product"), sold)))


def _play_sold(task: Task) -> Play:
    sold = task.parameters["sold"]
    shown = yield from read(task, "the present quantities")
    col = col_of(shown, "Quantity")
    new = [[int(row[col - 1]) - sold[row[0]]] for row in shown[1:]]
    sums = listed([f"{row[0]} {row[col - 1]} - {sold[row[0]]} = {n[0]}" for row, n in zip(shown[1:], new)])
    first, last = address(2, col), address(len(shown), col)
    yield use(
        f"The new quantities are: {sums}. They go into {first} to {last}.", "update_range",
        start_position=first, end_position=last, values_list=new,
    )  # fmt: skip
    yield from sort(shown, "Quantity", "des")
    yield end("Quantities are up to date and sorted.")


def _draw_sort(rng: random.Random) -> Task | None:
    start = stock(rng, rng.randint(6, 9))
    title, descending = rng.choice(("Price", "Quantity", "Rating", "Product")), rng.random() < 0.5
    way = "descending" if descending else "ascending"
    goal = f'Please sort {{sheet}} by "{title}" in {way} order; the titles stay in the first row.'
    order = "des" if descending else "asc"
    return make(rng, start, goal, start.by(title, descending=descending), title=title, order=order)


def _play_sort(task: Task) -> Play:
    shown = yield from read(task, f'the number of the column "{task.parameters["title"]}"')
    yield from sort(shown, task.parameters["title"], task.parameters["order"])
    yield end("The table is sorted.")


def _draw_products(rng: random.Random) -> Task | None:
    columns = (Column("Product"), Column("Price", "0.00"), Column("Sold", "0"), Column("Revenue"))
    rows = [(row[0], row[2], float(rng.randint(2, 40)), None) for row in stock(rng, rng.randint(3, 4)).rows]
    start = Table(columns, tuple(rows))
    final = start
    for n, (_, price, sold, _) in enumerate(rows):
        final = final.put(n, "Revenue", number(price) * sold)
    goal = 'In {sheet}, please fill in "Revenue" for each product: its Price times what was Sold, by formulas.'
    return make(rng, start, goal, final)


def _play_products(task: Task) -> Play:
    shown = yield from read(task, "the columns Price, Sold and Revenue")
    price, sold, target = (column_letters(col_of(shown, title)) for title in ("Price", "Sold", "Revenue"))
    for n, row in enumerate(shown[1:], 2):
        yield use(
            f"Revenue of {row[0]} is {price}{n} times {sold}{n}; I put the product into {target}{n}.",
            "update_cell_by_formula",
            position_list=[f"{price}{n}", f"{sold}{n}"], result_position=f"{target}{n}", operator="PRODUCT",
        )  # fmt: skip
    yield end("Every product has its revenue.")


def _draw_rank(rng: random.Random) -> Task | None:
    start = marks(rng, rng.randint(4, 7))
    title = rng.choice(("Math", "Physics", "Biology"))
    ordered = start.by(title, descending=True)
    columns = (*start.columns[:2], Column("Rank", "0"), *start.columns[2:])
    rows = tuple((*row[:2], float(n), *row[2:]) for n, row in enumerate(ordered.rows, 1))
    goal = (
        f'Please sort {{sheet}} by "{title}" in descending order, then insert a column "Rank" before "Math" that '
        "numbers the students from 1."
    )
    return make(rng, start, goal, Table(columns, rows), title=title)


def _play_rank(task: Task) -> Play:
    shown = yield from read(task, f'the columns "{task.parameters["title"]}" and "Math"')
    shown = yield from sort(shown, task.parameters["title"], "des")
    at, n = col_of(shown, "Math"), len(shown) - 1
    column = ["Rank", *range(1, n + 1)]
    thought = f"Math is column {at}, so Rank becomes column {at}, with 1 to {n} below its title."
    yield use(thought, "insert_cols", values_list=[column], col_idx=at)
    yield end("The students are ranked.")


def _draw_merge(rng: random.Random) -> Task | None:
    full = work(rng, rng.randint(4, 6)).by("Area", descending=False)
    areas = full.column("Area")
    counts = {area: areas.count(area) for area in areas}
    if not 2 <= len(counts) <= 3 or max(counts.values()) == 1:
        return None
    columns = (Column("Job"), Column("Area"), Column("Hours"), Column("Area Hours"))
    rows = [(row[0], row[2], row[4]) for row in full.rows]
    sums = {area: sum(number(row[2]) for row in rows if row[1] == area) for area in counts}
    start = Table(columns, tuple((*row, None) for row in rows))
    final = Table(columns, tuple((*row, sums[row[1]]) for row in rows))
    goal = (
        '{sheet} is sorted by "Area". For each area, please merge its cells in "Area Hours" into one (where it has '
        "more than one job) and put the sum of its hours there, by a formula."
    )
    return make(rng, start, goal, final)


def _play_merge(task: Task) -> Play:
    shown = yield from read(task, "where each area begins and ends")
    area, hours, target = (column_letters(col_of(shown, title)) for title in ("Area", "Hours", "Area Hours"))
    rows_of: dict[str, list[int]] = {}
    for n, row in enumerate(shown[1:], 2):
        rows_of.setdefault(row[col_of(shown, "Area") - 1], []).append(n)
    for name, rows in rows_of.items():
        first, last = rows[0], rows[-1]
        where = f"{name} takes the cells {area}{first} to {area}{last}."
        if first != last:
            yield use(
                f"{where} I merge {target}{first} to {target}{last}.", "merge_cells",
                start_position=f"{target}{first}", end_position=f"{target}{last}",
            )  # fmt: skip
        yield use(
            f"The hours of {name} are {hours}{first} to {hours}{last}; their sum goes into {target}{first}.",
            "update_cell_by_formula",
            start_position=f"{hours}{first}", end_position=f"{hours}{last}",
            result_position=f"{target}{first}", operator="SUM",
        )  # fmt: skip
    yield end("Every area has its sum.")


def _draw_discount(rng: random.Random) -> Task | None:
    start = stock(rng, rng.randint(5, 7))
    n = rng.randint(2, 3)
    ordered = start.by("Rating", descending=True)
    final = ordered
    for row in range(len(ordered.rows) - n, len(ordered.rows)):
        old = number(ordered.rows[row][ordered.at("Discount")])
        final = final.put(row, "Discount", round(old + 0.05, 2))
    goal = (
        f'Please sort {{sheet}} by "Rating" in descending order, then raise the Discount of the {n} products with the '
        "lowest ratings by 0.05."
    )
    return make(rng, start, goal, final, n=n)


def _play_discount(task: Task) -> Play:
    n = task.parameters["n"]
    shown = yield from read(task, "the columns Rating and Discount")
    shown = yield from sort(shown, "Rating", "des")
    col = col_of(shown, "Discount")
    new = [[round(float(row[col - 1]) + 0.05, 2)] for row in shown[-n:]]
    first, last = address(len(shown) - n + 1, col), address(len(shown), col)
    yield use(
        f"The {n} lowest are {listed([row[0] for row in shown[-n:]])}. Their discounts, {first} to {last}, become "
        f"{listed([str(value[0]) for value in new])}.",
        "update_range", start_position=first, end_position=last, values_list=new,
    )  # fmt: skip
    yield end("Sorted, and the lowest have more discount.")


def _draw_average(rng: random.Random) -> Task | None:
    full = marks(rng, rng.randint(3, 4))
    rows = [(*row, sum(map(number, row[2:])) / 3) for row in full.rows]
    columns = (*full.columns, Column("Average", "0.00"))
    start = Table(columns, tuple((*row[:-1], None) for row in rows))
    goal = 'In {sheet}, please fill in the "Average" of the three subjects for each student, by formulas.'
    return make(rng, start, goal, Table(columns, tuple(rows)))


def _play_average(task: Task) -> Play:
    shown = yield from read(task, "the subjects and the column Average")
    first, last, target = (column_letters(col_of(shown, title)) for title in ("Math", "Biology", "Average"))
    for n, row in enumerate(shown[1:], 2):
        yield use(
            f"The marks of {row[0]} are {first}{n} to {last}{n}; their average goes into {target}{n}.",
            "update_cell_by_formula",
            start_position=f"{first}{n}", end_position=f"{last}{n}", result_position=f"{target}{n}",
            operator="AVERAGE",
        )  # fmt: skip
    yield end("Every student has an average.")


_ROWS: tuple[tuple[str, Difficulty, Callable[[random.Random], Task | None], Callable[[Task], Play]], ...] = (
    ("sold_today", "hard", _draw_sold, _play_sold),
    ("sort", "hard", _draw_sort, _play_sort),
    ("revenue", "hard", _draw_products, _play_products),
    ("rank", "hard", _draw_rank, _play_rank),
    ("merge_areas", "hard", _draw_merge, _play_merge),
    ("discount", "hard", _draw_discount, _play_discount),
    ("average", "hard", _draw_average, _play_average),
)
ARRANGEMENTS = tuple(Template(*row) for row in _ROWS)
