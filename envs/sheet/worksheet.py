"""Immutable worksheets: every edit makes a new sheet that shares the untouched cells.

So a snapshot is a reference, and no session can see another's edits. The edits follow the Sheets API: writing beyond
the grid is refused, descending sorts put empty cells last and keep the order of equals, a merge keeps the value of
its upper left cell, and formulas' references follow rows and columns that move. Files are read and written in
`workbook.py`; the agent's actions are in `actions.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest
from typing import Any, Literal

from envs.sheet import formula, references
from envs.sheet.cells import EMPTY, Box, Cell, Formula, Value, address, show
from envs.tools.backend import Refused

Axis = Literal["row", "col"]
Row = tuple[Cell, ...]
Table = list[list[str]]

MAX_CELLS = 10_000
"""Cells that a sheet may hold; a write beyond that is refused."""


@dataclass(frozen=True)
class Sheet:
    """One worksheet.

    Attributes:
        name: The tab's name.
        rows: Cells from A1 on; every row has the same length. What lies beyond, inside the grid, is empty.
        n_rows, n_cols: Size of the grid; positions beyond it do not exist.
        frozen_rows, frozen_cols: Rows at the top that a sort leaves alone; columns at the left.
        merges: Merged rectangles.
    """

    name: str
    rows: tuple[Row, ...] = ()
    n_rows: int = 1000
    n_cols: int = 26
    frozen_rows: int = 0
    frozen_cols: int = 0
    merges: tuple[Box, ...] = ()

    # -- reading --------------------------------------------------------------------------------------------------

    def cell(self, row: int, col: int) -> Cell:
        """What is in a cell of the grid."""
        if row <= len(self.rows) and col <= len(self.rows[0]):
            return self.rows[row - 1][col - 1]
        return EMPTY

    @cached_property
    def values(self) -> list[list[Value]]:
        """The values of all cells of `rows`, formulas evaluated."""
        return formula.evaluate_all([[cell.content for cell in row] for row in self.rows])

    @cached_property
    def plain(self) -> Table:
        """The texts of all cells up to the last row and column with content; [[]] where there is none."""
        table = [
            [show(value, self._format(cell)) for cell, value in zip(row, values)]
            for row, values in zip(self.rows, self.values)
        ]
        return trimmed(table)

    @cached_property
    def shown(self) -> Table:
        """The same with the text of the upper left cell in all cells of a merged rectangle."""
        return spread(self.plain, self.merges)

    def calculate(self, text: str) -> str:
        """What a formula would show in an unformatted cell of this sheet."""
        value = formula.evaluate(text, formula.Values(self.values))
        return show(value, self._format(Cell(Formula(text))))

    def _format(self, cell: Cell) -> str:
        """An unformatted SUM, AVERAGE, MAX or MIN shows its result as the first cell it names."""
        if cell.format == "General" and isinstance(cell.content, Formula):
            source = formula.format_source(cell.content.text)
            return self.cell(*source).format if source else "General"
        return cell.format

    # -- writing --------------------------------------------------------------------------------------------------

    def write(self, top: int, left: int, block: Sequence[Sequence[Cell | None]]) -> Sheet:
        """Put a block of cells at a position; None leaves a cell as it is."""
        width = max(map(len, block), default=0)
        if not width:
            return self
        bottom, right = top + len(block) - 1, left + width - 1
        self.require(bottom, right)
        rows = [list(row) for row in _padded(self.rows, bottom, right)]
        for row, given in zip(rows[top - 1 : bottom], block):
            for col, cell in enumerate(given, left - 1):
                if cell is not None:
                    row[col] = cell
        return replace(self, rows=tuple(map(tuple, rows)))

    def put(self, row: int, col: int, **changes: Any) -> Sheet:
        """Change content, format or note of one cell."""
        self.require(row, col)
        return self.write(row, col, [[self.cell(row, col)._replace(**changes)]])

    def insert(self, axis: Axis, at: int, lines: Sequence[Sequence[Value]], *, inherit: bool) -> Sheet:
        """Insert rows (or columns) before number `at`, each given from its first cell on.

        `inherit` gives them the number formats of the row above (column before) instead of those below (behind).
        """
        size, n_lines = self._size(axis)
        self._require_number(axis, at, n_lines + 1)
        length = max(size[1], *map(len, lines))
        self.require(*_by_axis(axis, max(size[0], at - 1) + len(lines), length), grown=True)
        if length > (self.n_cols if axis == "row" else self.n_rows):
            raise Refused(f"Each {axis} may have {self.n_cols if axis == 'row' else self.n_rows} values at most")
        old = _lines(_padded(self.rows, *_by_axis(axis, at - 1, length)), axis)
        model_at = at - 2 if inherit else at - 1
        model = old[model_at] if 0 <= model_at < len(old) else ()
        new = tuple(_line(values, model, length) for values in lines)
        rows = _lines(old[: at - 1] + new + old[at - 1 :], axis)
        rows = _rewritten(rows, lambda text: references.inserted(text, at, len(lines), rows=axis == "row"))
        merges = tuple(
            _spanned(box, axis, *(n + len(lines) * (n >= at) for n in _span(box, axis))) for box in self.merges
        )
        return self._resized(axis, len(lines), rows, merges)

    def delete(self, axis: Axis, numbers: Iterable[int]) -> Sheet:
        """Delete rows (or columns) by their present numbers."""
        chosen = sorted(set(numbers), reverse=True)
        _, n_lines = self._size(axis)
        for number in chosen:
            self._require_number(axis, number, n_lines)
        if len(chosen) >= n_lines:
            raise Refused(f"You can't delete all the {axis}s on the sheet.")
        sheet = self
        for number in chosen:
            sheet = sheet._without(axis, number)
        return sheet

    def _without(self, axis: Axis, number: int) -> Sheet:
        lines = _lines(self.rows, axis)
        rows = _lines(lines[: number - 1] + lines[number:], axis)
        rows = _rewritten(rows, lambda text: references.deleted(text, number, rows=axis == "row"))
        merges = []
        for box in self.merges:
            first, last = _span(box, axis)
            box = _spanned(box, axis, first - (first > number), last - (last >= number))
            if box.top <= box.bottom and box.left <= box.right and box[:2] != box[2:]:
                merges.append(box)
        sheet = self._resized(axis, -1, rows, tuple(merges))
        if axis == "row":
            return replace(sheet, frozen_rows=self.frozen_rows - (number <= self.frozen_rows))
        return replace(sheet, frozen_cols=self.frozen_cols - (number <= self.frozen_cols))

    def sort(self, col: int, *, descending: bool) -> Sheet:
        """Sort all rows below the frozen ones by one column; the order of equals stays, empty cells come last."""
        self._require_number("col", col, self.n_cols)
        if any(box.bottom > self.frozen_rows for box in self.merges):
            raise Refused("You can't sort a range that contains merged cells.")
        first = self.frozen_rows
        present = range(first, len(self.rows))
        keyed = [(number, self.values[number][col - 1] if col <= len(self.rows[0]) else None) for number in present]
        filled = [(number, value) for number, value in keyed if value not in (None, "")]
        filled.sort(key=lambda item: formula.sort_key(item[1]), reverse=descending)
        # list.sort(reverse=True) keeps equals in their order, too.
        order = [number for number, _ in filled] + [number for number, value in keyed if value in (None, "")]
        rows = [
            tuple(_moved(cell, position - number) for cell in self.rows[number])
            for position, number in enumerate(order, first)
        ]
        return replace(self, rows=self.rows[:first] + tuple(rows))

    def merge(self, box: Box) -> Sheet:
        """Merge a rectangle into one cell that keeps the upper left cell's value."""
        self.require(box.bottom, box.right)
        if box.top == box.bottom and box.left == box.right:
            raise Refused("A merge needs at least two cells.")
        within = [old for old in self.merges if _overlap(old, box)]
        if any(not (box.holds(old.top, old.left) and box.holds(old.bottom, old.right)) for old in within):
            raise Refused("You must select all cells in a merged range to merge or unmerge them.")
        if (box.top <= self.frozen_rows < box.bottom) or (box.left <= self.frozen_cols < box.right):
            raise Refused("You can't merge frozen and non-frozen rows or columns.")
        rows = tuple(
            tuple(
                cell._replace(content=None)
                if box.holds(r, c) and (r, c) != (box.top, box.left) and cell.content is not None
                else cell
                for c, cell in enumerate(row, 1)
            )
            for r, row in enumerate(self.rows, 1)
        )
        kept = tuple(old for old in self.merges if old not in within)
        return replace(self, rows=rows, merges=tuple(sorted((*kept, box))))

    def freeze(self, *, rows: int | None = None, cols: int | None = None) -> Sheet:
        """Freeze rows at the top or columns at the left; None leaves what is frozen."""
        rows = self.frozen_rows if rows is None else rows
        cols = self.frozen_cols if cols is None else cols
        if not (0 <= rows < self.n_rows and 0 <= cols < self.n_cols):
            raise Refused("You can't freeze all visible rows or columns on the sheet.")
        if any(box.top <= rows < box.bottom or box.left <= cols < box.right for box in self.merges):
            raise Refused("You can't freeze rows or columns which contain only part of a merged cell.")
        return replace(self, frozen_rows=rows, frozen_cols=cols)

    # -- inside ---------------------------------------------------------------------------------------------------

    def require(self, row: int, col: int, *, grown: bool = False) -> None:
        """Refuse a position beyond the grid (which is about to grow, where `grown`) and a sheet of too many cells."""
        if not grown and (row > self.n_rows or col > self.n_cols):
            raise Refused(
                f"Range ({self.name}!{address(row, col)}) exceeds grid limits. "
                f"Max rows: {self.n_rows}, max columns: {self.n_cols}"
            )
        if max(row, len(self.rows)) * max(col, len(self.rows[0]) if self.rows else 0) > MAX_CELLS:
            raise Refused(f"The sheet would reach {address(row, col)}; it may hold {MAX_CELLS} cells at most")

    def _require_number(self, axis: Axis, number: int, last: int) -> None:
        if not 1 <= number <= last:
            name = "row" if axis == "row" else "column"
            raise Refused(f"There is no {name} {number}: {name}s are numbered 1 to {last}")

    def _size(self, axis: Axis) -> tuple[tuple[int, int], int]:
        """Lines and their length in `rows`, and the lines of the grid."""
        height, width = len(self.rows), len(self.rows[0]) if self.rows else 0
        return ((height, width), self.n_rows) if axis == "row" else ((width, height), self.n_cols)

    def _resized(self, axis: Axis, by: int, rows: tuple[Row, ...], merges: tuple[Box, ...]) -> Sheet:
        if axis == "row":
            return replace(self, rows=rows, merges=merges, n_rows=self.n_rows + by)
        return replace(self, rows=rows, merges=merges, n_cols=self.n_cols + by)


def trimmed(table: Table) -> Table:
    """A rectangular table up to its last row and column with a text; [[]] if it has none."""
    height = max((n for n, row in enumerate(table, 1) if any(row)), default=0)
    width = max((n for row in table for n, text in enumerate(row, 1) if text), default=0)
    return [row[:width] for row in table[:height]] or [[]]


def spread(table: Table, merges: Iterable[Box]) -> Table:
    """The table with the text of the upper left cell in all cells of each merged rectangle."""
    spread_out = [list(row) for row in table]
    for box in merges:
        if box.top <= len(table) and box.left <= len(table[0]):
            text = table[box.top - 1][box.left - 1]
            for row in spread_out[box.top - 1 : box.bottom]:
                row[box.left - 1 : box.right] = [text] * len(row[box.left - 1 : box.right])
    return spread_out


def agreement(table: Table, gold: Table) -> float:
    """Upstream's score: equal cells by cells in both tables' common rows and columns.

    Both tables are rectangular, from A1; 0 where they have no cell in common.
    """
    height, width = min(len(table), len(gold)), min(len(table[0]), len(gold[0])) if table and gold else 0
    same = sum(
        one == other
        for row, right in zip(table[:height], gold[:height])
        for one, other in zip(row[:width], right[:width])
    )
    return same / (height * width) if height * width else 0.0


def _by_axis(axis: Axis, line: int, position: int) -> tuple[int, int]:
    return (line, position) if axis == "row" else (position, line)


def _span(box: Box, axis: Axis) -> tuple[int, int]:
    return (box.top, box.bottom) if axis == "row" else (box.left, box.right)


def _spanned(box: Box, axis: Axis, first: int, last: int) -> Box:
    return box._replace(top=first, bottom=last) if axis == "row" else box._replace(left=first, right=last)


def _lines(rows: tuple[Row, ...], axis: Axis) -> tuple[Row, ...]:
    return rows if axis == "row" else tuple(zip(*rows))


def _line(values: Sequence[Value], model: Row, length: int) -> Row:
    contents = zip_longest(values, (cell.format for cell in model[:length]), fillvalue=None)
    cells = [Cell(content, number_format or "General") for content, number_format in contents]
    return tuple(cells + [EMPTY] * (length - len(cells)))


def _padded(rows: tuple[Row, ...], height: int, width: int) -> tuple[Row, ...]:
    """The rows, with empty cells up to a height and width where they are less."""
    old = len(rows[0]) if rows else 0
    if width > old:
        rows = tuple(row + (EMPTY,) * (width - old) for row in rows)
    return rows + ((EMPTY,) * max(width, old),) * max(0, height - len(rows))


def _rewritten(rows: tuple[Row, ...], rewrite: Callable[[str], str]) -> tuple[Row, ...]:
    return tuple(
        tuple(
            cell._replace(content=Formula(rewrite(cell.content.text))) if isinstance(cell.content, Formula) else cell
            for cell in row
        )
        for row in rows
    )


def _moved(cell: Cell, by: int) -> Cell:
    if by and isinstance(cell.content, Formula):
        return cell._replace(content=Formula(references.copied(cell.content.text, by)))
    return cell


def _overlap(one: Box, other: Box) -> bool:
    return one.top <= other.bottom and other.top <= one.bottom and one.left <= other.right and other.left <= one.right
