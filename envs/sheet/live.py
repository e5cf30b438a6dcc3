"""The live backend: the actions on Google Sheets, through `gspread`.

Every episode makes a spreadsheet in the Drive of a service account, whose key file `GOOGLE_APPLICATION_CREDENTIALS`
names, and deletes the previous episode's spreadsheet. No other file is touched. The last spreadsheet stays, so that it
can be looked at. A spreadsheet cannot be restored from a snapshot.

Edits that the API can do at once are one request, so that a failure leaves no half of them. A request is repeated only
if Google refused it for a rate limit: after any other failure it may have been carried out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import requests

from atlas_ray.errors import ConfigError, EnvironmentError
from envs.sheet.cells import Box, address
from envs.sheet.toolkit import Block, Toolkit
from envs.sheet.upload import SCRATCH, Request, creation, grid_range, update_cells, user_entered
from envs.sheet.workbook import Workbook
from envs.sheet.worksheet import Axis, Table, spread, trimmed
from envs.tools.backend import Fault, Refused
from envs.tools.grammar import shorten
from envs.tools.live import Passing, answered, patiently, unreached
from envs.tools.tasks import Task

KEY_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
TIMEOUT_S = 20.0

T = TypeVar("T")


class GoogleSheets(Toolkit):
    """The spreadsheet of one episode.

    Args:
        workbook_of: The start state of a task.
        client: A gspread client of one's own.

    Raises:
        ConfigError: There is no usable key file, or the package is not installed.
    """

    def __init__(self, workbook_of: Callable[[Task], Workbook], client: Any = None) -> None:
        self._workbook_of = workbook_of
        self._client = client or _client()
        self._client.set_timeout(TIMEOUT_S)
        self._book: Any = None
        self._ids: dict[str, int] = {}
        self._name: str | None = None
        self._plain: Table | None = None
        self._properties: dict[str, Any] = {}
        self._merges: list[Box] = []

    # -- the episode ----------------------------------------------------------------------------------------------

    def open(self, task: Task) -> None:
        """See `Backend`.

        Raises:
            Fault: Google failed.
        """
        workbook = self._workbook_of(task)
        if self._book is not None:
            self._change(lambda: self._client.del_spreadsheet(self._book.id))
        self._book, self._name, self._plain = None, None, None
        self._book = self._change(lambda: self._client.create("atlas-ray episode"))
        self._ids = {sheet.name: number for number, sheet in enumerate(workbook.sheets, 1)}
        self._update(*creation(workbook))

    def save(self) -> None:
        """See `Backend`: a spreadsheet has no snapshot."""

    def load(self, task: Task, saved: None) -> None:
        """See `Backend`.

        Raises:
            EnvironmentError: Always.
        """
        raise EnvironmentError("sheet: a Google spreadsheet cannot be put back to a snapshot; use backend 'offline'")

    def table(self) -> Table | None:
        """What the open sheet showed when it was last read, None if no sheet is open."""
        return None if self._plain is None else spread(self._plain, self._merges)

    # -- see `Toolkit` --------------------------------------------------------------------------------------------

    def shown(self) -> Table:
        return spread(self.plain(), self._merges)

    def plain(self) -> Table:
        self._sheet_id()
        if self._plain is None:
            try:
                self._read()
            except Fault as error:
                raise Fault(f"{error}. Changes up to here were made, but what the sheet shows is not known") from None
        assert self._plain is not None
        return self._plain

    def calculated(self, text: str) -> str:
        sheet = _quoted(self._title())
        # =SUM(B2:D2) of the open sheet, seen from the scratch sheet: =SUM('Stock'!B2:D2)
        text = re.sub(r"(?<=[(,])", lambda match: f"{sheet}!", text)
        parameters = {
            "valueInputOption": "USER_ENTERED", "includeValuesInResponse": True,
            "responseValueRenderOption": "FORMATTED_VALUE",
        }  # fmt: skip
        range_, body = f"{_quoted(SCRATCH)}!A1", {"values": [[text]]}
        answer = self._call(lambda: self._book.values_update(range_, params=parameters, body=body))
        return _found(lambda: str(answer["updatedData"]["values"][0][0]))

    def note(self, row: int, col: int) -> str:
        parameters = {
            "ranges": f"{_quoted(self._title())}!{address(row, col)}", "fields": "sheets/data/rowData/values/note"
        }  # fmt: skip
        answer = self._call(lambda: self._book.fetch_sheet_metadata(params=parameters))
        rows = _found(lambda: answer["sheets"][0]["data"][0].get("rowData", []))
        cells = rows[0].get("values", []) if rows else []
        return str(cells[0].get("note", "")) if cells else ""

    def require(self, row: int, col: int) -> None:
        self.plain()
        rows, cols = self._properties["rowCount"], self._properties["columnCount"]
        if row > rows or col > cols:
            raise Refused(
                f"Range ({self._name}!{address(row, col)}) exceeds grid limits. Max rows: {rows}, max columns: {cols}"
            )

    def select(self, name: str) -> int:
        if name not in self._ids:
            raise Refused(f"There is no sheet {shorten(name)!r}; there are {', '.join(self._ids)}")
        before = self._name, self._plain
        self._name, self._plain = name, None
        try:
            self._read()
        except Fault:
            self._name, self._plain = before
            raise
        return self._ids[name]

    def drop(self, name: str) -> None:
        if name not in self._ids:
            raise Refused(f"There is no sheet {shorten(name)!r}; there are {', '.join(self._ids)}")
        if len(self._ids) == 1:
            raise Refused("You can't remove all the sheets in a document.")
        self._update({"deleteSheet": {"sheetId": self._ids[name]}})
        del self._ids[name]
        if self._name == name:
            self._name, self._plain = None, None

    def freeze(self, *, rows: int | None = None, cols: int | None = None) -> None:
        wanted = {"frozenRowCount": rows, "frozenColumnCount": cols}
        grid = {name: number for name, number in wanted.items() if number is not None}
        fields = ",".join(f"gridProperties.{name}" for name in grid)
        properties = {"sheetId": self._sheet_id(), "gridProperties": grid}
        self._update({"updateSheetProperties": {"properties": properties, "fields": fields}})

    def insert(self, axis: Axis, at: int, lines: Block, *, inherit: bool) -> None:
        sheet_id = self._sheet_id()
        range_ = _dimension(sheet_id, axis, at, len(lines))
        longest = max(map(len, lines))
        padded = [[*line, *[None] * (longest - len(line))] for line in lines]
        block = padded if axis == "row" else [list(row) for row in zip(*padded)]
        rows = [{"values": [{"userEnteredValue": user_entered(value)} for value in row]} for row in block]
        top, left = (at, 1) if axis == "row" else (1, at)
        self._update(
            {"insertDimension": {"range": range_, "inheritFromBefore": inherit}},
            update_cells(sheet_id, top, left, rows, "userEnteredValue"),
        )

    def delete(self, axis: Axis, numbers: Sequence[int]) -> None:
        sheet_id = self._sheet_id()
        self._update(*({"deleteDimension": {"range": _dimension(sheet_id, axis, n, 1)}} for n in numbers))

    def sort(self, col: int, *, descending: bool) -> None:
        sheet_id = self._sheet_id()
        self.plain()
        first = self._properties.get("frozenRowCount", 0) + 1
        whole = Box(first, 1, self._properties["rowCount"], self._properties["columnCount"])
        order = {"dimensionIndex": col - 1, "sortOrder": "DESCENDING" if descending else "ASCENDING"}
        self._update({"sortRange": {"range": grid_range(sheet_id, whole), "sortSpecs": [order]}})

    def merge(self, box: Box) -> None:
        range_ = grid_range(self._sheet_id(), box)
        self._update({"mergeCells": {"range": range_, "mergeType": "MERGE_ALL"}})

    def write(self, box: Box, block: Block) -> None:
        self._put(f"{address(box.top, box.left)}:{address(box.bottom, box.right)}", block, "RAW")

    def enter(self, row: int, col: int, text: str) -> None:
        self._put(address(row, col), [[text]], "USER_ENTERED")

    def annotate(self, row: int, col: int, note: str) -> None:
        self._update(update_cells(self._sheet_id(), row, col, [{"values": [{"note": note}]}], "note"))

    # -- inside ---------------------------------------------------------------------------------------------------

    def _title(self) -> str:
        if self._name is None:
            raise Refused("Please open a sheet before operating it")
        return self._name

    def _sheet_id(self) -> int:
        return self._ids[self._title()]

    def _read(self) -> None:
        """Take over what the open sheet shows, its size and its merged cells."""
        title, sheet_id = self._title(), self._sheet_id()
        answer = self._call(lambda: self._book.values_get(_quoted(title)))
        fields = {"fields": "sheets(properties,merges)"}
        sheets = self._call(lambda: self._book.fetch_sheet_metadata(params=fields))

        def take_over() -> tuple[Table, dict[str, Any], list[Box]]:
            mine = next(sheet for sheet in sheets["sheets"] if sheet["properties"]["sheetId"] == sheet_id)
            rows = [[str(text) for text in row] for row in answer.get("values", [])]
            width = max(map(len, rows), default=0)
            grid = mine["properties"]["gridProperties"]
            merges = [
                Box(m["startRowIndex"] + 1, m["startColumnIndex"] + 1, m["endRowIndex"], m["endColumnIndex"])
                for m in mine.get("merges", [])
            ]
            plain = trimmed([row + [""] * (width - len(row)) for row in rows])
            return plain, {"rowCount": int(grid["rowCount"]), "columnCount": int(grid["columnCount"]), **grid}, merges

        self._plain, self._properties, self._merges = _found(take_over)

    def _put(self, range_: str, values: Block, how: str) -> None:
        where = f"{_quoted(self._title())}!{range_}"
        parameters = {"valueInputOption": how}
        self._change(lambda: self._book.values_update(where, params=parameters, body={"values": values}))
        self._plain = None

    def _update(self, *changes: Request) -> None:
        self._change(lambda: self._book.batch_update({"requests": list(changes)}))
        self._plain = None

    def _call(self, do: Callable[[], T]) -> T:
        return patiently(lambda: _once(do))

    def _change(self, do: Callable[[], T]) -> T:
        return patiently(lambda: _once(do, only_limits=True))


def _once(do: Callable[[], T], *, only_limits: bool = False) -> T:
    from gspread.exceptions import APIError

    try:
        return do()
    except APIError as error:
        problem: Exception = answered("Google Sheets", error.response, KEY_FILE)
        if only_limits and isinstance(problem, Passing) and error.response.status_code != 429:
            problem = Fault(f"Error: {problem}; the change may have been made, read the sheet before going on")
        raise problem from None
    except (requests.ConnectionError, requests.Timeout) as error:
        passing = unreached("Google Sheets", error)
        if only_limits:
            raise Fault(f"Error: {passing}; the change may have been made, read the sheet before going on") from None
        raise passing from None
    except Exception as error:
        # What Google's libraries raise for no JSON, JSON of another shape, or credentials that do not work.
        what = shorten(f"{type(error).__name__}: {error}", 100)
        raise Fault(f"Error: Google Sheets gave no answer that can be used ({what}); try again later") from None


def _found(take: Callable[[], T]) -> T:
    """What is taken out of an answer, which may be of another shape than documented."""
    try:
        return take()
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, StopIteration):
        raise Fault("Error: Google Sheets sent an answer that cannot be read; try again later") from None


def _client() -> Any:
    path = os.environ.get(KEY_FILE, "")
    if not path:
        raise ConfigError(
            f"sheet: backend 'live' needs the environment variable {KEY_FILE}, the path of a service account's key file"
        )
    try:
        import gspread
    except ImportError:
        raise ConfigError("sheet: backend 'live' needs pip install 'atlas-ray[live]'") from None
    try:
        return gspread.service_account(filename=path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"sheet: {path} ({KEY_FILE}) is no key file of a service account: {error}") from None


def _quoted(title: str) -> str:
    return "'" + title.replace("'", "''") + "'"


def _dimension(sheet_id: int, axis: Axis, at: int, count: int) -> dict[str, Any]:
    dimension = "ROWS" if axis == "row" else "COLUMNS"
    return {"sheetId": sheet_id, "dimension": dimension, "startIndex": at - 1, "endIndex": at - 1 + count}
