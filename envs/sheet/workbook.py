"""A workbook: its worksheets in order and the open one; read from and written to .xlsx files with openpyxl."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from pathlib import Path
from zipfile import BadZipFile

import openpyxl
from openpyxl.comments import Comment
from openpyxl.worksheet.worksheet import Worksheet

from atlas_ray.errors import DataError
from envs.sheet.cells import EMPTY, Box, Cell, Formula, Value, address, parse_address
from envs.sheet.worksheet import Sheet
from envs.tools.backend import Refused
from envs.tools.grammar import shorten


@dataclass(frozen=True)
class Workbook:
    """Worksheets in their order, and the name of the one that is open."""

    sheets: tuple[Sheet, ...]
    current: str | None = None

    def sheet(self, name: str) -> Sheet:
        """A worksheet by its name.

        Raises:
            Refused: There is none of that name.
        """
        for sheet in self.sheets:
            if sheet.name == name:
                return sheet
        names = ", ".join(sheet.name for sheet in self.sheets)
        raise Refused(f"There is no sheet {shorten(name)!r}; there are {names}")

    def open(self, name: str) -> Workbook:
        """With another sheet open."""
        return replace(self, current=self.sheet(name).name)

    @property
    def opened(self) -> Sheet:
        """The open sheet.

        Raises:
            Refused: None is open.
        """
        if self.current is None:
            raise Refused("Please open a sheet before operating it")
        return self.sheet(self.current)

    def changed(self, sheet: Sheet) -> Workbook:
        """With a new version of one sheet."""
        return replace(self, sheets=tuple(sheet if old.name == sheet.name else old for old in self.sheets))

    def without(self, name: str) -> Workbook:
        """With a sheet deleted."""
        gone = self.sheet(name)
        if len(self.sheets) == 1:
            raise Refused("You can't remove all the sheets in a document.")
        kept = tuple(sheet for sheet in self.sheets if sheet is not gone)
        return Workbook(kept, None if self.current == gone.name else self.current)


def read_xlsx(path: str | Path, wanted: Callable[[str], bool] = lambda name: True) -> Workbook:
    """The sheets of a file whose names are wanted: values, formulas, number formats, notes, merges, frozen parts.

    Raises:
        DataError: The file is missing or is no workbook.
    """
    try:
        source = openpyxl.load_workbook(path)
    except (OSError, BadZipFile, KeyError, ValueError) as error:
        raise DataError(f"{path}: not a readable .xlsx workbook ({type(error).__name__}: {error})") from error
    return Workbook(tuple(_read(sheet) for sheet in source.worksheets if wanted(sheet.title)))


def _read(source: Worksheet) -> Sheet:
    rows = [[_read_cell(cell) for cell in row] for row in source.iter_rows()]
    height = max((n for n, row in enumerate(rows, 1) if any(cell != EMPTY for cell in row)), default=0)
    width = max((n for row in rows for n, cell in enumerate(row, 1) if cell != EMPTY), default=0)
    frozen = source.freeze_panes
    top, left = parse_address(str(frozen)) if frozen else (1, 1)
    return Sheet(
        name=source.title,
        rows=tuple(tuple(row[:width]) for row in rows[:height]),
        n_rows=max(1000, source.max_row),
        n_cols=max(26, source.max_column),
        frozen_rows=top - 1,
        frozen_cols=left - 1,
        merges=tuple(sorted(Box(r.min_row, r.min_col, r.max_row, r.max_col) for r in source.merged_cells.ranges)),
    )


def _read_cell(source: object) -> Cell:
    value = getattr(source, "value", None)
    note = getattr(source, "comment", None)
    number_format = getattr(source, "number_format", "General")
    is_formula = getattr(source, "data_type", "") == "f"
    content = Formula(str(getattr(value, "text", value))) if is_formula else _content(value)
    return Cell(content, number_format, note.text if note else "")


def _content(value: object) -> Value:
    """What openpyxl read; dates become the text that Google Sheets shows for them by default."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, datetime) and value.time() == time(0):
        value = value.date()
    if isinstance(value, datetime | date | time):
        return value.isoformat(*([" "] if isinstance(value, datetime) else []))
    return str(value) or None


def write_xlsx(workbook: Workbook, path: str | Path) -> None:
    """Write a workbook to a file that `read_xlsx` reads back as it is."""
    target = openpyxl.Workbook()
    target.remove(target.worksheets[0])
    for sheet in workbook.sheets:
        page = target.create_sheet(sheet.name)
        for r, row in enumerate(sheet.rows, 1):
            for c, cell in enumerate(row, 1):
                if cell != EMPTY:
                    _write_cell(page, r, c, cell)
        for box in sheet.merges:
            page.merge_cells(start_row=box.top, start_column=box.left, end_row=box.bottom, end_column=box.right)
        if sheet.frozen_rows or sheet.frozen_cols:
            page.freeze_panes = address(sheet.frozen_rows + 1, sheet.frozen_cols + 1)
    target.save(path)


def _write_cell(page: Worksheet, row: int, col: int, cell: Cell) -> None:
    written = page.cell(row, col)
    written.value = cell.content.text if isinstance(cell.content, Formula) else cell.content  # type: ignore[assignment]
    if isinstance(cell.content, str):
        written.data_type = "s"  # a text that begins with "=" is no formula
    written.number_format = cell.format
    if cell.note:
        written.comment = Comment(cell.note, "")
