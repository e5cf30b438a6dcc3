"""The offline backend: the actions on a workbook of ours, answered as upstream's toolkit on Google Sheets answers.

What the sheet does is in `worksheet.py`; here are the actions' own rules: which texts become numbers (upstream turns
every numeral into a number before it writes), where number formats of new rows come from, and what comes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from envs.sheet.cells import (
    Formula,
    SheetError,
    Value,
    address,
    as_entered,
    parse_address,
    parse_box,
    parse_number,
    short,
)  # fmt: skip
from envs.sheet.patterns import matcher
from envs.sheet.workbook import Workbook
from envs.sheet.worksheet import Axis, Sheet, Table

WHOLE_SHEET = "Warning: You cannot {} whole sheet at once, please try other functions"


class SheetStore:
    """One episode's workbook."""

    def __init__(self, workbook: Workbook) -> None:
        self.workbook = workbook

    # -- sheets ---------------------------------------------------------------------------------------------------

    def open_sheet(self, name: str) -> str:
        self.workbook = self.workbook.open(name)
        place = next(n for n, sheet in enumerate(self.workbook.sheets) if sheet.name == name)
        return f"<Worksheet {name!r} id:{place}>"

    def del_sheet(self, name: str) -> str:
        self.workbook = self.workbook.without(name)
        return f"You have deleted sheet {name} successfully"

    def freeze_data(self, dimension: str, num: int) -> str:
        sheet = self._sheet
        self._keep(sheet.freeze(rows=num) if dimension == "rows" else sheet.freeze(cols=num))
        return f"You have successfully freeze the {dimension} {num}"

    # -- rows and columns -----------------------------------------------------------------------------------------

    def insert_rows(self, values_list: list[list[Any]], row_idx: int = 1) -> Table:
        return self._insert("row", values_list, row_idx)

    def insert_cols(self, values_list: list[list[Any]], col_idx: int = 1) -> Table:
        return self._insert("col", values_list, col_idx)

    def _insert(self, axis: Axis, values_list: list[list[Any]], at: int) -> Table:
        if not values_list:
            raise SheetError("values_list is empty: give at least one list of values")
        shown = self._sheet.shown
        behind = at == (len(shown) if axis == "row" else len(shown[0])) + 1
        lines = [[_raw(value) for value in line] for line in values_list]
        return self._keep(self._sheet.insert(axis, at, lines, inherit=behind))

    def delete_batch_data(self, dimension: Axis, index_list: list[int]) -> Table:
        if not index_list:
            raise SheetError("index_list is empty: give the numbers of what to delete")
        shown = self._sheet.shown
        left = len(shown) - 1 if dimension == "row" else len(shown[0])
        if len(set(index_list)) >= left:
            raise SheetError(WHOLE_SHEET.format("delete"))
        return self._keep(self._sheet.delete(dimension, index_list))

    def sort_sheet_by_col(self, col_num: int, order: str) -> Table:
        return self._keep(self._sheet.sort(col_num, descending=order == "des"))

    def merge_cells(self, start_position: str, end_position: str) -> Table:
        return self._keep(self._sheet.merge(parse_box(start_position, end_position)))

    # -- cells ----------------------------------------------------------------------------------------------------

    def update_cell(self, position: str, value: Any) -> Table:
        row, col = parse_address(position)
        content, number_format = as_entered(value) if isinstance(value, str) else (_raw(value), "")
        changes = {"content": content} | ({"format": number_format} if number_format else {})
        return self._keep(self._sheet.put(row, col, **changes))

    def update_range(self, start_position: str, end_position: str, values_list: list[list[Any]]) -> Table:
        sheet, box = self._sheet, parse_box(start_position, end_position)
        if (box.top, box.left) == (1, 1) and (box.bottom, box.right) == (len(sheet.shown), len(sheet.shown[0])):
            raise SheetError(WHOLE_SHEET.format("update"))
        height, width = len(values_list), max(map(len, values_list), default=0)
        for size, room, what in (
            (height, box.bottom - box.top + 1, "rows"),
            (width, box.right - box.left + 1, "columns"),
        ):
            if size > room:
                raise SheetError(
                    f"Requested writing within range {start_position}:{end_position}, which has {room} {what}, "
                    f"but values_list has {size}"
                )
        block = [
            [
                None if value is None else sheet.cell(row, col)._replace(content=_raw(value))
                for col, value in enumerate(line, box.left)
            ]
            for row, line in enumerate(values_list, box.top)
        ]
        return self._keep(sheet.write(box.top, box.left, block))

    def update_cell_by_formula(
        self,
        operator: str,
        result_position: str,
        start_position: str = "B1",
        end_position: str = "D2",
        position_list: list[str] | None = None,
    ) -> Table:
        text = formula_text(operator, start_position, end_position, position_list)
        row, col = parse_address(result_position)
        return self._keep(self._sheet.put(row, col, content=Formula(text)))

    def update_note(self, position: str, content: str) -> str:
        row, col = parse_address(position)
        self._keep(self._sheet.put(row, col, note=content))
        return f"Updated! the {position}'s note is {content}"

    # -- reading --------------------------------------------------------------------------------------------------

    def get_A1_annotation(self, row: int, col: int) -> str:
        self._sheet.require(row, col)
        return address(row, col)

    def get_all_values(self) -> Table:
        return self._sheet.shown

    def get_range_values(self, start_position: str, end_position: str) -> Table:
        box = parse_box(start_position, end_position)
        self._sheet.require(box.bottom, box.right)
        part = [row[box.left - 1 : box.right] for row in self._sheet.shown[box.top - 1 : box.bottom]]
        while part and not any(part[-1]):
            part.pop()
        width = max((n for row in part for n, text in enumerate(row, 1) if text), default=0)
        return [row[:width] for row in part] or [[]]

    def get_cell_value(self, position: str) -> str | None:
        row, col = parse_address(position)
        self._sheet.require(row, col)
        return self._sheet.text(row, col) or None

    def get_value_by_formula(
        self,
        operator: str,
        start_position: str = "B1",
        end_position: str = "D2",
        position_list: list[str] | None = None,
    ) -> str:
        return self._sheet.calculate(formula_text(operator, start_position, end_position, position_list))

    def filter_cells(self, query: str, in_row: int | None = None, in_column: int | None = None) -> list[str]:
        if in_row is not None and in_column is not None:
            raise SheetError("Either 'in_row' or 'in_column' should be specified.")
        shown = self._sheet.shown
        for number, last, what in ((in_row, len(shown), "row"), (in_column, len(shown[0]), "column")):
            if number is not None and number > last:
                raise SheetError(f"{what} {number} is empty: the last {what} with content is {last}")
        places = [
            (row, col)
            for row in ([in_row] if in_row else range(1, len(shown) + 1))
            for col in ([in_column] if in_column else range(1, len(shown[0]) + 1))
        ]
        found = matcher(query)([self._sheet.text(row, col) for row, col in places])
        return [address(*place) for place, hit in zip(places, found) if hit]

    def get_note(self, position: str) -> str:
        row, col = parse_address(position)
        self._sheet.require(row, col)
        return self._sheet.cell(row, col).note

    def finish(self) -> Table:
        return self._sheet.shown

    # -- inside ---------------------------------------------------------------------------------------------------

    @property
    def _sheet(self) -> Sheet:
        return self.workbook.opened

    def _keep(self, sheet: Sheet) -> Table:
        self.workbook = self.workbook.changed(sheet)
        return sheet.shown


def formula_text(operator: str, start: str, end: str, positions: Sequence[str] | None) -> str:
    """The formula that an operator and a choice of cells stand for: `=SUM(B2:D2)` or `=SUM(B2,D2)`."""
    if positions is None:
        box = parse_box(start, end)
        return f"={operator}({address(box.top, box.left)}:{address(box.bottom, box.right)})"
    if not positions:
        raise SheetError("position_list is empty: name at least one cell, or give start_position and end_position")
    return f"={operator}({','.join(address(*parse_address(position)) for position in positions)})"


def _raw(value: Any) -> Value:
    """A value of `values_list` as upstream writes it: numerals as numbers, all other texts as they are."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return float(value) if abs(value) < 1e300 else str(value)
    if isinstance(value, str):
        number = parse_number(value) if "," not in value else None
        return value or None if number is None else number
    raise SheetError(f"A cell holds a text, a number or true/false, not {short(repr(value))}")
