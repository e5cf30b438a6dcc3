"""Cells: the content, the address (A1 notation), and the text that Google Sheets shows.

The number formats are those of the task workbooks: General, 0, 0.00, #,##0.00, percent, currency and text. Any other
format is shown as General. Formulas are evaluated in `formula.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import NamedTuple

from envs.tools.backend import Refused
from envs.tools.grammar import shorten

MAX_ROW, MAX_COL = 9_999_999, 18_278
"""The last row and column that A1 notation names here: seven digits and ZZZ."""

_A1 = re.compile(r"\$?([A-Za-z]{1,3})\$?([1-9][0-9]{0,6})")
_FORMAT = re.compile(r"(?P<currency>\$?)(?P<group>#,##)?0(?:\.(?P<places>0+))?(?P<percent>%?)")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)?(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?")


class CellError(NamedTuple):
    """A formula's error value."""

    code: str
    """As shown: #DIV/0!, #N/A, #NAME?, #REF!, #VALUE!, #NUM! or #ERROR!."""


Value = float | str | bool | CellError | None
"""What a cell holds or a formula yields; None is an empty cell. Numbers are floats, as in Google Sheets."""


@dataclass(frozen=True, slots=True)
class Formula:
    """The text of a formula, with its "=" at the front."""

    text: str


class Cell(NamedTuple):
    """One cell; immutable, so sheets can share it."""

    content: Value | Formula = None
    format: str = "General"
    note: str = ""


EMPTY = Cell()


class Box(NamedTuple):
    """A rectangle of cells: rows and columns from 1, both ends included."""

    top: int
    left: int
    bottom: int
    right: int

    def holds(self, row: int, col: int) -> bool:
        """Whether the cell is in the rectangle."""
        return self.top <= row <= self.bottom and self.left <= col <= self.right


def column_letters(col: int) -> str:
    """1 -> A, 27 -> AA."""
    letters = ""
    while col:
        col, rest = divmod(col - 1, 26)
        letters = chr(65 + rest) + letters
    return letters


def address(row: int, col: int) -> str:
    """(2, 3) -> C2."""
    return f"{column_letters(col)}{row}"


def column_number(letters: str) -> int:
    """A -> 1, AA -> 27."""
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - 64
    return number


def parse_address(text: str) -> tuple[int, int]:
    """C2 -> (2, 3).

    Raises:
        Refused: It is not the A1 notation of one cell.
    """
    match = _A1.fullmatch(text.strip())
    if match is None:
        raise Refused(f"{shorten(text)!r} is not a cell in A1 notation, such as B2 (get_A1_annotation helps)")
    return int(match[2]), column_number(match[1])


def parse_box(start: str, end: str) -> Box:
    """The rectangle between two opposite corners, in A1 notation.

    Raises:
        Refused: A corner is not the A1 notation of one cell.
    """
    (row, col), (other_row, other_col) = parse_address(start), parse_address(end)
    return Box(min(row, other_row), min(col, other_col), max(row, other_row), max(col, other_col))


def parse_number(text: str) -> float | None:
    """The number that a text spells, as a spreadsheet reads it (1,234.5 or -3 or 1e3); None if it is none."""
    text = text.strip()
    if not any(map(str.isdigit, text)) or not _NUMBER.fullmatch(text) or not text.isascii():
        return None
    number = float(text.replace(",", ""))
    return number if abs(number) < 1e300 else None


def as_entered(text: str) -> tuple[Value | Formula, str]:
    """What typing a text into a cell puts there, and the number format it brings ("" keeps the cell's).

    Numbers, percentages, TRUE/FALSE and formulas are recognised; dates and currencies stay texts, which look the same.
    """
    if text.startswith("=") and len(text) > 1:
        return Formula(text), ""
    if text.startswith("'"):
        return text[1:], ""
    if text.strip().upper() in ("TRUE", "FALSE"):
        return text.strip().upper() == "TRUE", ""
    if text.rstrip().endswith("%"):
        percent = parse_number(text.rstrip()[:-1])
        if percent is not None:
            return percent / 100, "0.00%" if "." in text else "0%"
    number = parse_number(text)
    if number is not None:
        return number, ""
    return (text or None), ""


def show(value: Value, number_format: str) -> str:
    """The text that the cell shows."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        return _show_number(value, number_format)
    return value.code


@lru_cache(maxsize=65_536)
def _show_number(value: float, number_format: str) -> str:
    match = _FORMAT.fullmatch(number_format)
    if match is None:
        return _general(value)
    # Through the shortest decimal text, halves away from zero: 0.285 shows as 0.29 although its binary value is less.
    exact = Decimal(repr(value)) * (100 if match["percent"] else 1)
    if exact.adjusted() > 25:
        return _general(value)
    rounded = exact.quantize(Decimal(1).scaleb(-len(match["places"] or "")), ROUND_HALF_UP)
    digits = f"{abs(rounded):,f}" if match["group"] else f"{abs(rounded):f}"
    sign = "-" if rounded < 0 else ""
    return f"{sign}{match['currency']}{digits}{match['percent']}"


def _general(value: float) -> str:
    """Whole numbers in full, others with ten significant digits (and all before the point)."""
    if value == 0:
        return "0"
    size = abs(value)
    if not 1e-9 <= size < 1e15:
        mantissa, exponent = f"{value:.5E}".split("E")
        digits = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{digits}E{int(exponent):+03d}"
    if value.is_integer():
        return str(int(value))
    exact = Decimal(repr(value))
    places = max(0, 9 - exact.adjusted())
    text = f"{exact.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
