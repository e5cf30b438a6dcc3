"""The rules of the actions that both backends share, as in upstream's toolkit.

They say which texts become numbers (upstream converts every numeral before it writes), which edits are refused, which
number formats new rows get, and what an action returns. Reading and changing cells is left to the backends, `store.py`
and `live.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from envs.sheet.cells import Box, Value, address, parse_address, parse_box, parse_number
from envs.sheet.patterns import matcher
from envs.sheet.worksheet import Axis, Table
from envs.tools.backend import Refused
from envs.tools.grammar import shorten

WHOLE_SHEET = "Warning: You cannot {} whole sheet at once, please try other functions"
Block = list[list[Value]]


class Toolkit(ABC):
    """The actions on a workbook, of which one sheet is open."""

    # -- what a backend gives; each raises `Refused` if no sheet is open ------------------------------------------

    @abstractmethod
    def shown(self) -> Table:
        """What the open sheet shows, up to its last row and column with content; [[]] if it is empty.

        All cells of a merged range show the text of its upper left one.
        """

    @abstractmethod
    def plain(self) -> Table:
        """The same with the covered cells of merged ranges empty."""

    @abstractmethod
    def calculated(self, text: str) -> str:
        """What a formula would show; the sheet does not change."""

    @abstractmethod
    def note(self, row: int, col: int) -> str:
        """The note of a cell."""

    @abstractmethod
    def require(self, row: int, col: int) -> None:
        """Refuse a cell beyond the grid."""

    @abstractmethod
    def select(self, name: str) -> int:
        """Open a sheet; gives its number."""

    @abstractmethod
    def drop(self, name: str) -> None:
        """Delete a sheet."""

    @abstractmethod
    def freeze(self, *, rows: int | None = None, cols: int | None = None) -> None:
        """Freeze rows or columns."""

    @abstractmethod
    def insert(self, axis: Axis, at: int, lines: Block, *, inherit: bool) -> None:
        """Insert rows or columns; `inherit` takes number formats from before them."""

    @abstractmethod
    def delete(self, axis: Axis, numbers: Sequence[int]) -> None:
        """Delete rows or columns."""

    @abstractmethod
    def sort(self, col: int, *, descending: bool) -> None:
        """Sort below the frozen rows."""

    @abstractmethod
    def merge(self, box: Box) -> None:
        """Merge cells."""

    @abstractmethod
    def write(self, box: Box, block: Block) -> None:
        """Put values as they are from the upper left corner on; None leaves a cell."""

    @abstractmethod
    def enter(self, row: int, col: int, text: str) -> None:
        """Put a text as if it were typed: a number, percentage or formula where it is one."""

    @abstractmethod
    def annotate(self, row: int, col: int, note: str) -> None:
        """Put a note."""

    # -- sheets ---------------------------------------------------------------------------------------------------

    def open_sheet(self, name: str) -> str:
        return f"<Worksheet {name!r} id:{self.select(name)}>"

    def del_sheet(self, name: str) -> str:
        self.drop(name)
        return f"You have deleted sheet {name} successfully"

    def freeze_data(self, dimension: str, num: int) -> str:
        if dimension == "rows":
            self.freeze(rows=num)
        else:
            self.freeze(cols=num)
        return f"You have successfully freeze the {dimension} {num}"

    # -- rows and columns -----------------------------------------------------------------------------------------

    def insert_rows(self, values_list: list[list[Any]], row_idx: int = 1) -> Table:
        return self._insert("row", values_list, row_idx)

    def insert_cols(self, values_list: list[list[Any]], col_idx: int = 1) -> Table:
        return self._insert("col", values_list, col_idx)

    def _insert(self, axis: Axis, values_list: list[list[Any]], at: int) -> Table:
        if not values_list:
            raise Refused("values_list is empty: give at least one list of values")
        shown = self.shown()
        behind = at == (len(shown) if axis == "row" else len(shown[0])) + 1
        self.insert(axis, at, [[_raw(value) for value in line] for line in values_list], inherit=behind and at > 1)
        return self.shown()

    def delete_batch_data(self, dimension: Axis, index_list: list[int]) -> Table:
        if not index_list:
            raise Refused("index_list is empty: give the numbers of what to delete")
        shown = self.shown()
        left = len(shown) - 1 if dimension == "row" else len(shown[0])
        if len(set(index_list)) >= left:
            raise Refused(WHOLE_SHEET.format("delete"))
        self.delete(dimension, sorted(set(index_list), reverse=True))
        return self.shown()

    def sort_sheet_by_col(self, col_num: int, order: str) -> Table:
        self.sort(col_num, descending=order == "des")
        return self.shown()

    def merge_cells(self, start_position: str, end_position: str) -> Table:
        self.merge(parse_box(start_position, end_position))
        return self.shown()

    # -- cells ----------------------------------------------------------------------------------------------------

    def update_cell(self, position: str, value: Any) -> Table:
        row, col = parse_address(position)
        if isinstance(value, str):
            self.enter(row, col, value)
        else:
            # Unlike in a list of values, where None leaves a cell as it is, here it empties the cell.
            self.write(Box(row, col, row, col), [["" if value is None else _raw(value)]])
        return self.shown()

    def update_range(self, start_position: str, end_position: str, values_list: list[list[Any]]) -> Table:
        box, shown = parse_box(start_position, end_position), self.shown()
        if box == Box(1, 1, len(shown), len(shown[0])):
            raise Refused(WHOLE_SHEET.format("update"))
        height, width = len(values_list), max(map(len, values_list), default=0)
        for size, room, what in (
            (height, box.bottom - box.top + 1, "rows"),
            (width, box.right - box.left + 1, "columns"),
        ):
            if size > room:
                raise Refused(
                    f"Requested writing within range {start_position}:{end_position}, which has {room} {what}, "
                    f"but values_list has {size}"
                )
        self.write(box, [[_raw(value) for value in line] for line in values_list])
        return self.shown()

    def update_cell_by_formula(
        self,
        operator: str,
        result_position: str,
        start_position: str = "B1",
        end_position: str = "D2",
        position_list: list[str] | None = None,
    ) -> Table:
        text = formula_text(operator, start_position, end_position, position_list)
        self.enter(*parse_address(result_position), text)
        return self.shown()

    def update_note(self, position: str, content: str) -> str:
        self.annotate(*parse_address(position), content)
        return f"Updated! the {position}'s note is {content}"

    # -- reading --------------------------------------------------------------------------------------------------

    def get_A1_annotation(self, row: int, col: int) -> str:
        self.require(row, col)
        return address(row, col)

    def get_all_values(self) -> Table:
        return self.shown()

    def get_range_values(self, start_position: str, end_position: str) -> Table:
        box = parse_box(start_position, end_position)
        self.require(box.bottom, box.right)
        part = [row[box.left - 1 : box.right] for row in self.shown()[box.top - 1 : box.bottom]]
        while part and not any(part[-1]):
            part.pop()
        width = max((n for row in part for n, text in enumerate(row, 1) if text), default=0)
        return [row[:width] for row in part] or [[]]

    def get_cell_value(self, position: str) -> str | None:
        row, col = parse_address(position)
        self.require(row, col)
        plain = self.plain()
        return (row <= len(plain) and col <= len(plain[0]) and plain[row - 1][col - 1]) or None

    def get_value_by_formula(
        self,
        operator: str,
        start_position: str = "B1",
        end_position: str = "D2",
        position_list: list[str] | None = None,
    ) -> str:
        return self.calculated(formula_text(operator, start_position, end_position, position_list))

    def filter_cells(self, query: str, in_row: int | None = None, in_column: int | None = None) -> list[str]:
        if in_row is not None and in_column is not None:
            raise Refused("Either 'in_row' or 'in_column' should be specified.")
        plain = self.plain()
        for number, last, what in ((in_row, len(plain), "row"), (in_column, len(plain[0]), "column")):
            if number is not None and number > last:
                raise Refused(f"{what} {number} is empty: the last {what} with content is {last}")
        cells = [
            (row, col)
            for row in ([in_row] if in_row else range(1, len(plain) + 1))
            for col in ([in_column] if in_column else range(1, len(plain[0]) + 1))
        ]
        found = matcher(query)([plain[row - 1][col - 1] for row, col in cells])
        return [address(*cell) for cell, hit in zip(cells, found) if hit]

    def get_note(self, position: str) -> str:
        row, col = parse_address(position)
        self.require(row, col)
        return self.note(row, col)

    def finish(self) -> Table:
        return self.shown()


def formula_text(operator: str, start: str, end: str, positions: Sequence[str] | None) -> str:
    """The formula that an operator and a choice of cells stand for: `=SUM(B2:D2)` or `=SUM(B2,D2)`."""
    if positions is None:
        box = parse_box(start, end)
        return f"={operator}({address(box.top, box.left)}:{address(box.bottom, box.right)})"
    if not positions:
        raise Refused("position_list is empty: name at least one cell, or give start_position and end_position")
    return f"={operator}({','.join(address(*parse_address(position)) for position in positions)})"


def _raw(value: Any) -> Value:
    """A value of `values_list` as upstream writes it: numerals as numbers, all other texts as they are."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return float(value) if abs(value) < 1e300 else str(value)
    if isinstance(value, str):
        number = parse_number(value) if "," not in value else None
        return value if number is None else number
    raise Refused(f"A cell holds a text, a number or true/false, not {shorten(repr(value))}")
