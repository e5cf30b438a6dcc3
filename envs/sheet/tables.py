"""Start tables of the generated tasks: stock, marks, work and expenses, drawn from our own word lists.

A table is plain values with a number format for each column. It becomes the sheet of an episode; changed by a template,
it gives the texts that the sheet must show in the end.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from envs.sheet.cells import Cell, Value, show
from envs.sheet.formula import sort_key
from envs.sheet.workbook import Workbook
from envs.sheet.worksheet import Sheet

GOODS = {
    "Bakery": ("rye bread", "croissant", "bagel", "plum cake", "pretzel"),
    "Dairy": ("butter", "yoghurt", "goat cheese", "cream", "kefir"),
    "Fruit": ("pears", "figs", "lemons", "melon", "cherries"),
    "Drinks": ("apple juice", "ginger ale", "green tea", "cold brew", "soda water"),
}
PEOPLE = (
    "Amara", "Bruno", "Chiara", "Dmitri", "Elif", "Farid", "Greta", "Hiro", "Ines", "Jonas", "Kavya", "Lars", "Maud",
    "Nils", "Oksana", "Pedro", "Rosa", "Samir", "Tove", "Ulrich", "Vera", "Wen", "Yara", "Zoltan",
)  # fmt: skip
JOBS = (
    "Repair the lift", "Answer the auditors", "Order paper", "Plan the fair", "Update the handbook", "Test the alarm",
    "Move the archive", "Train the new staff", "Renew the licences", "Clean the server room", "Print the badges",
    "Review the contracts", "Measure the hall", "Call the suppliers", "Count the stock", "Fix the printer",
)  # fmt: skip
AREAS = ("Facilities", "Finance", "Events", "IT")
STATES = ("Open", "Running", "Done", "Blocked")
COSTS = (
    "train tickets", "hotel", "poster print", "catering", "room rent", "microphones", "flowers", "taxi",
    "cloud storage", "stamps", "folding chairs", "first aid kit", "name tags", "translation", "batteries",
)  # fmt: skip
STORES = ("North", "South", "Harbour")
SHEETS = ("Stock", "Marks", "Work", "Costs", "Sheet1", "Sheet2", "Autumn", "Branch 7", "Draft", "Overview")


class Column(NamedTuple):
    """A column's title and number format."""

    title: str
    format: str = "General"


@dataclass(frozen=True)
class Table:
    """Titles in the first row, then rows of values of the same length; `notes` by row (from 0, titles apart)."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    notes: tuple[tuple[int, str], ...] = ()

    def at(self, title: str) -> int:
        """Index of a column, from 0."""
        return [column.title for column in self.columns].index(title)

    def column(self, title: str) -> list[Value]:
        """The values of a column."""
        return [row[self.at(title)] for row in self.rows]

    def numbers(self, title: str) -> list[float]:
        """The values of a column that has only numbers."""
        return [number(value) for value in self.column(title)]

    def with_rows(self, rows: Sequence[Sequence[Value]]) -> Table:
        """The table with other rows."""
        return replace(self, rows=tuple(map(tuple, rows)))

    def put(self, row: int, title: str, value: Value) -> Table:
        """With one value changed."""
        rows = [list(values) for values in self.rows]
        rows[row][self.at(title)] = value
        return self.with_rows(rows)

    def by(self, title: str, *, descending: bool) -> Table:
        """Sorted by a column."""
        index = self.at(title)
        return self.with_rows(sorted(self.rows, key=lambda row: sort_key(row[index]), reverse=descending))

    def texts(self) -> list[list[str]]:
        """What a sheet with this table shows."""
        titles = [column.title for column in self.columns]
        shown = [[show(value, column.format) for value, column in zip(row, self.columns)] for row in self.rows]
        return [titles, *shown]

    def sheet(self, name: str) -> Sheet:
        """A sheet with this table from A1 on."""
        notes = dict(self.notes)
        titles = tuple(Cell(column.title or None) for column in self.columns)
        rows = tuple(
            tuple(
                Cell(value, column.format, notes.get(number, "") if index == 0 else "")
                for index, (value, column) in enumerate(zip(row, self.columns))
            )
            for number, row in enumerate(self.rows)
        )
        return Sheet(name, (titles, *rows))


def number(value: Value) -> float:
    """A value that is known to be a number."""
    assert isinstance(value, float), value
    return value


def stock(rng: random.Random, n: int) -> Table:
    """Goods with prices, quantities, discounts and ratings, each different in its column."""
    chosen = rng.sample([(good, kind) for kind, goods in GOODS.items() for good in goods], n)
    prices = rng.sample(range(3, 60), n)
    counts = rng.sample(range(5, 140), n)
    ratings = rng.sample(range(20, 50), n)
    rows = [
        (good, kind, price / 4, float(count), rng.choice((0.0, 0.05, 0.1, 0.15)), rating / 10)
        for (good, kind), price, count, rating in zip(chosen, prices, counts, ratings)
    ]
    columns = (
        ("Product", "General"),
        ("Category", "General"),
        ("Price", "0.00"),
        ("Quantity", "0"),
        ("Discount", "0.00"),
    )
    return _table((*columns, ("Rating", "0.0")), rows)


def marks(rng: random.Random, n: int) -> Table:
    """Students with marks in three subjects, each mark different in its column."""
    subjects = [rng.sample(range(55, 100), n) for _ in range(3)]
    rows = [
        (name, rng.choice(("7a", "7b")), *map(float, points)) for name, *points in zip(rng.sample(PEOPLE, n), *subjects)
    ]
    columns = ("Name", "General"), ("Class", "General"), ("Math", "0"), ("Physics", "0"), ("Biology", "0")
    return _table(columns, rows)


def work(rng: random.Random, n: int) -> Table:
    """Jobs with a person, an area, a state and hours."""
    hours = rng.sample(range(1, 40), n)
    rows = [
        (job, person, rng.choice(AREAS), rng.choice(STATES), float(hour))
        for job, person, hour in zip(rng.sample(JOBS, n), rng.sample(PEOPLE, n), hours)
    ]
    columns = ("Job", "General"), ("Person", "General"), ("Area", "General"), ("State", "General"), ("Hours", "General")
    return _table(columns, rows)


def costs(rng: random.Random, n: int) -> Table:
    """Expenses with a payer, a store and an amount."""
    cents = rng.sample(range(150, 30_000, 25), n)
    rows = [
        (item, rng.choice(PEOPLE[:4]), rng.choice(STORES), cent / 100)
        for item, cent in zip(rng.sample(COSTS, n), cents)
    ]
    return _table((("Item", "General"), ("Payer", "General"), ("Store", "General"), ("Amount", "#,##0.00")), rows)


def _table(columns: Sequence[tuple[str, str]], rows: Sequence[tuple[Value, ...]]) -> Table:
    return Table(tuple(Column(*column) for column in columns), tuple(rows))


def workbook(rng: random.Random, table: Table) -> tuple[str, Workbook]:
    """A workbook of the table's sheet and another one, and the table's sheet's name."""
    name, other = rng.sample(SHEETS, 2)
    sheets = [table.sheet(name), rng.choice((stock, marks, work, costs))(rng, 4).sheet(other)]
    rng.shuffle(sheets)
    return name, Workbook(tuple(sheets))
