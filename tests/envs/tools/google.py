"""A local server that plays Google Drive v3 and Sheets v4, as far as the live backend of Sheet asks, in their shapes.

What a sheet does is our own workbook's affair; here are the requests, the answers and the errors of the API.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import gspread
import requests
from requests.adapters import HTTPAdapter

from envs.sheet.cells import Box, Formula, Value, as_entered, parse_address
from envs.sheet.workbook import Workbook
from envs.sheet.worksheet import Sheet
from envs.tools.backend import Refused
from tests.envs.tools.server import Reply, Request, serve_requests


class Google:
    """One account's spreadsheets, and replies that are to be given first, whatever is asked."""

    def __init__(self) -> None:
        self.files: dict[str, dict[int, Sheet]] = {}
        self.failures: list[Reply] = []
        self.requests: list[Request] = []
        self._made = 0

    def answer(self, request: Request) -> Reply:
        self.requests.append(request)
        if self.failures:
            return self.failures.pop(0)
        if request.headers.get("authorization") != "Bearer secret":
            return _error(401, "Request had invalid authentication credentials.", "UNAUTHENTICATED")
        if request.path == "/drive/v3/files":
            self._made += 1
            self.files[f"file{self._made}"] = {0: Sheet("Sheet1")}
            return Reply({"kind": "drive#file", "id": f"file{self._made}"})
        if request.path.startswith("/drive/v3/files/"):
            del self.files[request.path.rpartition("/")[2]]
            return Reply("", 204)
        match = re.fullmatch(r"/v4/spreadsheets/(\w+)(:batchUpdate|/values/(.*))?", request.path)
        assert match is not None, request.path
        if match[1] not in self.files:
            return _error(404, "Requested entity was not found.", "NOT_FOUND")
        sheets = dict(self.files[match[1]])
        try:
            reply = self._in_spreadsheet(request, sheets, match[2] or "", match[3])
        except Refused as error:
            return _error(400, str(error), "INVALID_ARGUMENT")
        self.files[match[1]] = sheets
        return Reply(reply)

    def _in_spreadsheet(self, request: Request, sheets: dict[int, Sheet], verb: str, address: str | None) -> Any:
        if verb == ":batchUpdate":
            for change in request.body["requests"]:
                ((kind, body),) = change.items()
                getattr(self, f"_{kind}")(sheets, body)
            return {"spreadsheetId": "x", "replies": [{} for _ in request.body["requests"]]}
        if address is not None:
            return self._values(request, sheets, address)
        if "rowData" in request.query.get("fields", ""):
            sheet_id, box = _located(sheets, request.query["ranges"])
            note = sheets[sheet_id].cell(box.top, box.left).note
            row = {"rowData": [{"values": [{"note": note}]}]} if note else {}
            return {"sheets": [{"data": [row]}]}
        listed = [_described(sheet_id, index, sheet) for index, (sheet_id, sheet) in enumerate(sheets.items())]
        return {"spreadsheetId": "x", "properties": {"title": "atlas-ray episode"}, "sheets": listed}

    def _values(self, request: Request, sheets: dict[int, Sheet], address: str) -> Any:
        sheet_id, box = _located(sheets, address)
        if request.method == "GET":
            rows = [list(row) for row in sheets[sheet_id].plain]
            for row in rows:
                while row and not row[-1]:
                    row.pop()
            values = {"values": rows} if any(rows) else {}
            return {"range": address, "majorDimension": "ROWS", **values}
        for r, row in enumerate(request.body["values"], box.top):
            for c, value in enumerate(row, box.left):
                if value is not None:
                    typed = request.query["valueInputOption"] == "USER_ENTERED"
                    content, number_format = as_entered(value) if typed and isinstance(value, str) else (value, "")
                    sheet = sheets[sheet_id].put(r, c, content=None if content == "" else _number(content))
                    sheets[sheet_id] = sheet.put(r, c, format=number_format) if number_format else sheet
        answer = {"spreadsheetId": "x", "updatedRange": address}
        if request.query.get("includeValuesInResponse", "").lower() == "true":
            book = Workbook(tuple(sheets.values()))
            text = request.body["values"][0][0]
            name = re.search(r"'((?:[^']|'')*)'!", text)
            assert name is not None, text
            shown = book.sheet(name[1].replace("''", "'")).calculate(text.replace(name[0], ""))
            answer["updatedData"] = {"values": [[shown]]}  # type: ignore[assignment]
        return answer

    # -- requests of batchUpdate ----------------------------------------------------------------------------------

    def _addSheet(self, sheets: dict[int, Sheet], body: Any) -> None:
        properties = body["properties"]
        if properties["title"] in {sheet.name for sheet in sheets.values()}:
            raise Refused(f"A sheet with the name {properties['title']} already exists.")
        grid = properties.get("gridProperties", {})
        sheets[properties["sheetId"]] = Sheet(
            properties["title"],
            n_rows=grid.get("rowCount", 1000),
            n_cols=grid.get("columnCount", 26),
            frozen_rows=grid.get("frozenRowCount", 0),
            frozen_cols=grid.get("frozenColumnCount", 0),
        )

    def _deleteSheet(self, sheets: dict[int, Sheet], body: Any) -> None:
        del sheets[body["sheetId"]]

    def _updateSheetProperties(self, sheets: dict[int, Sheet], body: Any) -> None:
        properties = body["properties"]
        sheet = sheets[properties["sheetId"]]
        if body["fields"] == "title":
            sheets[properties["sheetId"]] = Sheet(properties["title"])
        else:
            grid = properties["gridProperties"]
            sheets[properties["sheetId"]] = sheet.freeze(
                rows=grid.get("frozenRowCount"), cols=grid.get("frozenColumnCount")
            )

    def _updateCells(self, sheets: dict[int, Sheet], body: Any) -> None:
        start, sheet = body["start"], sheets[body["start"]["sheetId"]]
        top, left = start["rowIndex"] + 1, start["columnIndex"] + 1
        block = [
            [sheet.cell(r, c)._replace(**_changes(data, body["fields"])) for c, data in enumerate(row["values"], left)]
            for r, row in enumerate(body["rows"], top)
        ]
        sheets[start["sheetId"]] = sheet.write(top, left, block)

    def _mergeCells(self, sheets: dict[int, Sheet], body: Any) -> None:
        sheet_id, box = _box(body["range"])
        sheets[sheet_id] = sheets[sheet_id].merge(box)

    def _insertDimension(self, sheets: dict[int, Sheet], body: Any) -> None:
        sheet_id, axis, numbers = _numbers(body["range"])
        inherit = body["inheritFromBefore"]
        lines: list[list[Value]] = [[] for _ in numbers]
        sheets[sheet_id] = sheets[sheet_id].insert(axis, numbers[0], lines, inherit=inherit)

    def _deleteDimension(self, sheets: dict[int, Sheet], body: Any) -> None:
        sheet_id, axis, numbers = _numbers(body["range"])
        sheets[sheet_id] = sheets[sheet_id].delete(axis, numbers)

    def _sortRange(self, sheets: dict[int, Sheet], body: Any) -> None:
        sheet_id, box = _box(body["range"])
        (order,) = body["sortSpecs"]
        assert box.top == sheets[sheet_id].frozen_rows + 1, "frozen rows stay"
        sheets[sheet_id] = sheets[sheet_id].sort(
            order["dimensionIndex"] + 1, descending=order["sortOrder"] == "DESCENDING"
        )


def _error(status: int, message: str, name: str) -> Reply:
    return Reply({"error": {"code": status, "message": message, "status": name}}, status)


def _described(sheet_id: int, index: int, sheet: Sheet) -> dict[str, Any]:
    grid = {"rowCount": sheet.n_rows, "columnCount": sheet.n_cols}
    if sheet.frozen_rows:
        grid["frozenRowCount"] = sheet.frozen_rows
    properties = {"sheetId": sheet_id, "title": sheet.name, "index": index, "gridProperties": grid}
    merges = [
        {"sheetId": sheet_id, "startRowIndex": box.top - 1, "endRowIndex": box.bottom,
         "startColumnIndex": box.left - 1, "endColumnIndex": box.right}
        for box in sheet.merges
    ]  # fmt: skip
    return {"properties": properties, **({"merges": merges} if merges else {})}


def _located(sheets: dict[int, Sheet], address: str) -> tuple[int, Box]:
    match = re.fullmatch(r"'((?:[^']|'')*)'(?:!(\w+)(?::(\w+))?)?", address)
    assert match is not None, address
    name = match[1].replace("''", "'")
    found = [sheet_id for sheet_id, sheet in sheets.items() if sheet.name == name]
    if not found:
        raise Refused(f"Unable to parse range: {address}")
    top, left = parse_address(match[2] or "A1")
    return found[0], Box(top, left, *parse_address(match[3] or match[2] or "A1"))


def _box(where: Any) -> tuple[int, Box]:
    corners = where["startRowIndex"] + 1, where["startColumnIndex"] + 1, where["endRowIndex"], where["endColumnIndex"]
    return where["sheetId"], Box(*corners)


def _numbers(where: Any) -> tuple[int, Any, list[int]]:
    axis = "row" if where["dimension"] == "ROWS" else "col"
    return where["sheetId"], axis, list(range(where["startIndex"] + 1, where["endIndex"] + 1))


def _changes(data: Any, fields: str) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if "userEnteredValue" in fields:
        changes["content"] = _content(data.get("userEnteredValue"))
    if "numberFormat" in fields:
        number_format = data.get("userEnteredFormat", {}).get("numberFormat", {})
        changes["format"] = number_format.get("pattern", "General")
    if "note" in fields:
        changes["note"] = data.get("note", "")
    return changes


def _content(value: Any) -> Any:
    if not value:
        return None
    ((kind, content),) = value.items()
    return Formula(content) if kind == "formulaValue" else _number(content)


def _number(content: Any) -> Any:
    return float(content) if isinstance(content, int | float) and not isinstance(content, bool) else content


class _Redirected(HTTPAdapter):
    def __init__(self, url: str) -> None:
        super().__init__()
        self._host = urlsplit(url).netloc

    def send(self, request: Any, *args: Any, **options: Any) -> Any:
        request.url = urlsplit(request.url)._replace(scheme="http", netloc=self._host).geturl()
        return super().send(request, *args, **options)


@contextmanager
def drive() -> Iterator[tuple[Google, gspread.Client]]:
    """An account, and a client whose requests to Google go to it."""
    google = Google()
    with serve_requests(google.answer) as url, requests.Session() as session:
        session.mount("https://", _Redirected(url))
        session.headers["authorization"] = "Bearer secret"
        yield google, gspread.Client(auth=None, session=session)  # type: ignore[arg-type]
