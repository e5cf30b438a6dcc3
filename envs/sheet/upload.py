"""A workbook as requests of the Sheets API's `batchUpdate`, which fill a new spreadsheet with the start state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from envs.sheet.cells import EMPTY, Box, Cell, Formula, Value
from envs.sheet.workbook import Workbook
from envs.sheet.worksheet import Sheet

Request = dict[str, Any]
SCRATCH, SCRATCH_ID = "atlas-ray scratch", 10_000
"""A hidden sheet where formulas are computed that leave no trace on the others."""


def creation(workbook: Workbook) -> list[Request]:
    """The requests that make a new spreadsheet, with its one sheet of id 0, the workbook; sheet n gets the id n + 1."""
    scratch = {"sheetId": SCRATCH_ID, "title": SCRATCH, "hidden": True}
    requests: list[Request] = [{"addSheet": {"properties": scratch}}]
    requests += [_add(sheet, number) for number, sheet in enumerate(workbook.sheets)]
    requests.append({"deleteSheet": {"sheetId": 0}})
    for number, sheet in enumerate(workbook.sheets, 1):
        requests += _fill(sheet, number)
    # The new spreadsheet's own sheet is often called Sheet1, as one of the workbook's may be.
    first = {"updateSheetProperties": {"properties": {"sheetId": 0, "title": "atlas-ray empty"}, "fields": "title"}}
    return [first, *requests]


def _add(sheet: Sheet, number: int) -> Request:
    grid = {
        "rowCount": sheet.n_rows, "columnCount": sheet.n_cols,
        "frozenRowCount": sheet.frozen_rows, "frozenColumnCount": sheet.frozen_cols,
    }  # fmt: skip
    properties = {"sheetId": number + 1, "index": number, "title": sheet.name, "gridProperties": grid}
    return {"addSheet": {"properties": properties}}


def _fill(sheet: Sheet, sheet_id: int) -> Iterator[Request]:
    if sheet.rows:
        rows = [{"values": [_cell(cell) for cell in row]} for row in sheet.rows]
        fields = "userEnteredValue,userEnteredFormat.numberFormat,note"
        yield update_cells(sheet_id, 1, 1, rows, fields)
    for box in sheet.merges:
        yield {"mergeCells": {"range": grid_range(sheet_id, box), "mergeType": "MERGE_ALL"}}


def update_cells(sheet_id: int, top: int, left: int, rows: list[dict[str, Any]], fields: str) -> Request:
    """Write a block of cells from a position (from 1) on."""
    start = {"sheetId": sheet_id, "rowIndex": top - 1, "columnIndex": left - 1}
    return {"updateCells": {"start": start, "rows": rows, "fields": fields}}


def grid_range(sheet_id: int, box: Box) -> dict[str, int]:
    """A rectangle as the API writes it: from 0, ends left out."""
    return {
        "sheetId": sheet_id, "startRowIndex": box.top - 1, "endRowIndex": box.bottom,
        "startColumnIndex": box.left - 1, "endColumnIndex": box.right,
    }  # fmt: skip


def _cell(cell: Cell) -> dict[str, Any]:
    if cell == EMPTY:
        return {}
    made: dict[str, Any] = {"userEnteredValue": user_entered(cell.content)}
    if cell.format != "General":
        kind = "TEXT" if cell.format == "@" else "PERCENT" if cell.format.endswith("%") else "NUMBER"
        made["userEnteredFormat"] = {"numberFormat": {"type": kind, "pattern": cell.format}}
    if cell.note:
        made["note"] = cell.note
    return made


def user_entered(content: Value | Formula) -> dict[str, Any] | None:
    """A cell's content as the API's ExtendedValue; None for an empty cell."""
    if isinstance(content, Formula):
        return {"formulaValue": content.text}
    if isinstance(content, bool):
        return {"boolValue": content}
    if isinstance(content, float):
        return {"numberValue": content}
    return {"stringValue": content} if isinstance(content, str) and content else None
