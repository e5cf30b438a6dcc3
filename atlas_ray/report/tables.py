"""The one writer of tables: the same cells as Markdown, for a terminal, and for the page.

The page renders a `Table` with `templates/table.html.j2`. What the cells say is decided elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.table import Table as RichTable
from rich.text import Text

_SPECIAL = re.compile(r"[\\`*|#]|\[(?=[^][]*\]\()|<(?=\S)|(?<!\w)_|_(?!\w)")
_WIDEST = 7
"""Columns that a terminal of 110 characters has room for."""
NONE = "–"
"""The text of a cell that has no value."""


@dataclass(frozen=True)
class Cell:
    """A cell: its text, and how the page draws it."""

    text: str
    tone: Literal["good", "bad", "soft"] | None = None
    """Colour of the text."""
    shade: float | None = None
    """Strength of the background, in [0, 1]."""
    key: str | None = None
    """Class of the coloured square before the text."""
    wide: bool = False
    """Whether long text is broken into lines."""


@dataclass(frozen=True)
class Table:
    """A header and rows of as many cells; made by `table`."""

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    words: frozenset[int]
    """Columns of words, aligned left. The other columns are numbers, aligned right."""
    strong: frozenset[int]
    """Rows that the page writes in bold type."""
    caption: str | None = None
    """Below the table in a terminal."""


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str | Cell]],
    *,
    words: Collection[int] = (0,),
    strong: Collection[int] = (),
    caption: str | None = None,
) -> Table:
    """Make a table.

    Args:
        header: the title of each column.
        rows: plain text, or cells.
        words: numbers of the columns that hold words.
        strong: numbers of the rows to write in bold type.
        caption: what a terminal shows below it.

    Raises:
        ValueError: a row has more or fewer cells than the header.
    """
    cells = tuple(tuple(Cell(cell) if isinstance(cell, str) else cell for cell in row) for row in rows)
    for row in cells:
        if len(row) != len(header):
            raise ValueError(f"a row of {len(row)} cells under a header of {len(header)}: {[c.text for c in row]}")
    return Table(tuple(header), cells, frozenset(words), frozenset(strong), caption)


def to_markdown(table: Table) -> str:
    """GitHub-flavoured Markdown, one line per row; cells are escaped."""
    rule = ["---" if column in table.words else "---:" for column in range(len(table.header))]
    lines = [[escape(title) for title in table.header], rule]
    lines += [[escape(cell.text) for cell in row] for row in table.rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def to_terminal(table: Table) -> RichTable:
    """For `rich.print`; a table with more columns than a terminal has room for is transposed."""
    lines: list[tuple[str, ...]] = [table.header, *(tuple(cell.text for cell in row) for row in table.rows)]
    transposed = len(table.header) > _WIDEST
    if transposed:
        lines = list(zip(*lines, strict=True))
    shown = RichTable(caption=table.caption)
    for column, title in enumerate(lines[0]):
        left = column == 0 if transposed else column in table.words
        shown.add_column(Text(title), justify="left" if left else "right")
    for line in lines[1:]:
        shown.add_row(*(Text(text) for text in line))
    return shown


def escape(text: str) -> str:
    """Text as Markdown that shows it literally, on one line and in one cell."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))
