"""Sheet's table of actions (names, arguments and returns as upstream's) and the text that opens an episode.

Upstream's reference solutions write numbers and lists as texts ('4', '[2, 3]'); arguments may come so.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from envs.sheet.cells import MAX_COL, MAX_ROW
from envs.sheet.formula import AGGREGATES
from envs.tools.grammar import ArgumentError, parse_value
from envs.tools.toolbox import Parameter, Tool, Toolbox


def _listed(value: Any) -> Any:
    """A list that comes as its text."""
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            return parse_value(value)
        except ArgumentError:
            return value
    return value


_Row = Annotated[int, Field(ge=1, le=MAX_ROW)]
_Col = Annotated[int, Field(ge=1, le=MAX_COL)]
_Name = Annotated[str, Field(max_length=100)]
_A1 = Annotated[str, Field(max_length=16)]
_Table = Annotated[list[list[Any]], Field(max_length=1000), BeforeValidator(_listed)]
_Numbers = Annotated[list[_Row], Field(max_length=1000), BeforeValidator(_listed)]
_Addresses = Annotated[list[_A1], Field(max_length=1000), BeforeValidator(_listed)] | None

_TABLE = "- result (Type: array[array[string]]): All values of the sheet as it is now."
_SIGNS = ", ".join(AGGREGATES)
_NAME = Parameter(_Name, "string", "The sheet's name.")
_POSITION = Parameter(_A1, "string", "The cell in A1 notation.")
_START = Parameter(_A1, "string", "First cell in A1 notation.")
_END = Parameter(_A1, "string", "Last cell in A1 notation.")
_VALUES = "A list of lists, each with one {}'s values."
_FORMULA = {
    "start_position": Parameter(_A1, "string", "First cell of the range. Default: 'B1'.", "B1"),
    "end_position": Parameter(_A1, "string", "Last cell of the range. Default: 'D2'.", "D2"),
    "position_list": Parameter(_Addresses, "array[string]", "Single cells, instead of a range.", None),
    "operator": Parameter(Literal[AGGREGATES], "string", f"One of {_SIGNS}."),
}

TOOLBOX = Toolbox(
    (
        Tool(
            "open_sheet", "Open a sheet; the other actions work on the open sheet.", {"name": _NAME},
            "- result (Type: object): The worksheet.", changes=True,
        ),
        Tool(
            "del_sheet", "Delete a sheet.", {"name": _NAME}, "- result (Type: string): What was done.", changes=True
        ),
        Tool(
            "freeze_data", "Freeze rows at the top or columns at the left; a sort leaves frozen rows where they are.",
            {
                "dimension": Parameter(Literal["rows", "columns"], "string", "'rows' or 'columns'."),
                "num": Parameter(Annotated[int, Field(ge=0, le=MAX_ROW)], "integer", "How many."),
            },
            "- result (Type: string): What was done.", changes=True,
        ),
        Tool(
            "get_A1_annotation", "Turn row and column numbers into A1 notation.",
            {"row": Parameter(_Row, "integer", "From 1."), "col": Parameter(_Col, "integer", "From 1.")},
            "- result (Type: string): The cell in A1 notation.",
        ),
        Tool(
            "insert_cols", "Insert columns before a column.",
            {
                "values_list": Parameter(_Table, "array[array[string]]", _VALUES.format("column")),
                "col_idx": Parameter(_Col, "integer", "Number of the first new column. Default: 1.", 1),
            },
            _TABLE, changes=True,
        ),
        Tool(
            "insert_rows", "Insert rows before a row.",
            {
                "values_list": Parameter(_Table, "array[array[string]]", _VALUES.format("row")),
                "row_idx": Parameter(_Row, "integer", "Number of the first new row. Default: 1.", 1),
            },
            _TABLE, changes=True,
        ),
        Tool(
            "delete_batch_data", "Delete rows or columns.",
            {
                "dimension": Parameter(Literal["row", "col"], "string", "'row' or 'col'."),
                "index_list": Parameter(_Numbers, "array[integer]", "Numbers of the rows or columns."),
            },
            _TABLE, changes=True,
        ),
        Tool(
            "update_cell", "Set the value of a cell.",
            {"position": _POSITION, "value": Parameter(Any, "any", "The value.")},
            _TABLE, changes=True,
        ),
        Tool(
            "update_cell_by_formula", "Set a cell to a formula over a range, or over single cells.",
            {**_FORMULA, "result_position": Parameter(_A1, "string", "The cell that gets the result.")},
            _TABLE, changes=True,
        ),
        Tool(
            "update_range", "Set the values of a range.",
            {
                "start_position": _START, "end_position": _END,
                "values_list": Parameter(_Table, "array[array[any]]", _VALUES.format("row")),
            },
            _TABLE, changes=True,
        ),
        Tool(
            "sort_sheet_by_col", "Sort the sheet by a column.",
            {
                "col_num": Parameter(_Col, "integer", "The column's number."),
                "order": Parameter(Literal["asc", "des"], "string", "'asc' or 'des'."),
            },
            _TABLE, changes=True,
        ),
        Tool(
            "merge_cells", "Merge a range into one cell.", {"start_position": _START, "end_position": _END},
            _TABLE, changes=True,
        ),
        Tool(
            "update_note", "Write the note of a cell.",
            {"position": _POSITION, "content": Parameter(str, "string", "The note.")},
            "- result (Type: string): The note.", changes=True,
        ),
        Tool("get_all_values", "Read all values of the sheet.", returns=_TABLE),
        Tool(
            "get_range_values", "Read the values of a range.", {"start_position": _START, "end_position": _END},
            "- result (Type: array[array[string]]): The values.",
        ),
        Tool(
            "get_cell_value", "Read the value of a cell.", {"position": _POSITION},
            "- result (Type: string): The value, None if the cell is empty.",
        ),
        Tool(
            "get_value_by_formula", "Compute a formula over a range, or over single cells; the sheet does not change.",
            _FORMULA, "- result (Type: string): The result.",
        ),
        Tool(
            "filter_cells", "Find the cells that match a regular expression, given as text or as re.compile('...').",
            {
                "query": Parameter(str, "string", "The expression."),
                "in_row": Parameter(_Row | None, "integer", "Search this row alone.", None),
                "in_column": Parameter(_Col | None, "integer", "Search this column alone.", None),
            },
            "- result (Type: array[string]): The cells in A1 notation.",
        ),
        Tool(
            "get_note", "Read the note of a cell.", {"position": _POSITION},
            "- result (Type: string): The note, empty if there is none.",
        ),
        Tool("finish", "End the task; the open sheet is the answer.", returns=_TABLE),
    )
)  # fmt: skip

HINT = (
    "You edit a workbook for the user. Open the sheet that the goal names before anything else. Rows and columns are "
    "numbered from 1, cells are named in A1 notation (column letter, row number). Freeze the first row before you sort."
)
EXAMPLE = """\
Goal: In "Shelf", one copy of Emma was sold. Please update the stock, then sort by "Stock" in descending order.
Thought: I open the sheet that the goal names.
Action: open_sheet with Action Input: {"name": "Shelf"}
Observation: <Worksheet 'Shelf' id:0>
Thought: I look at the table to find Emma.
Action: get_all_values with Action Input: {}
Observation: [['Book', 'Stock'], ['Emma', '4'], ['Persuasion', '7']]
Thought: Emma is in row 2, its stock in B2. One less than 4 is 3.
Action: update_cell with Action Input: {"position": "B2", "value": 3}
Observation: [['Book', 'Stock'], ['Emma', '3'], ['Persuasion', '7']]
Thought: The titles must stay on top, so I freeze the first row before sorting.
Action: freeze_data with Action Input: {"dimension": "rows", "num": 1}
Observation: You have successfully freeze the rows 1
Thought: Stock is column 2, and the largest comes first.
Action: sort_sheet_by_col with Action Input: {"col_num": 2, "order": "des"}
Observation: [['Book', 'Stock'], ['Persuasion', '7'], ['Emma', '3']]
Thought: The stock is updated and the table sorted.
Action: finish with Action Input: {}
Observation: [['Book', 'Stock'], ['Persuasion', '7'], ['Emma', '3']]"""
