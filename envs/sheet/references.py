"""How formulas follow cells that move: references are rewritten, the rest of the text stays.

A reference inside quotes is text. Evaluation is in `formula.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from envs.sheet.cells import MAX_COL, MAX_ROW, column_letters, column_number

_REF = re.compile(r"(\$?)([A-Za-z]{1,3})(\$?)([1-9][0-9]{0,6})")
_SPANS = re.compile(
    r"""(?P<text>"(?:[^"]|"")*")|(?<![A-Za-z0-9_.$])(?P<first>\$?[A-Za-z]{1,3}\$?[1-9][0-9]{0,6})(?![A-Za-z0-9_(])
    (?:(?P<colon>\s*:\s*)(?P<last>\$?[A-Za-z]{1,3}\$?[1-9][0-9]{0,6})(?![A-Za-z0-9_(]))?""",
    re.VERBOSE,
)


def position(token: str) -> tuple[int, int]:
    """$C$2 -> (2, 3)."""
    match = _REF.fullmatch(token)
    assert match is not None, token
    return int(match[4]), column_number(match[2])


def copied(text: str, rows: int) -> str:
    """The formula as it reads after being moved down by `rows` in a sort: relative rows move along."""

    def move(match: re.Match[str]) -> str:
        if match["text"]:
            return match["text"]
        ends = [_moved(end, rows) for end in (match["first"], match["last"]) if end]
        return "#REF!" if None in ends else (match["colon"] or "").join(end for end in ends if end)

    return _SPANS.sub(move, text)


def _moved(token: str, rows: int) -> str | None:
    match = _REF.fullmatch(token)
    assert match is not None, token
    row = int(match[4]) + (0 if match[3] else rows)
    return f"{match[1]}{match[2]}{match[3]}{row}" if 1 <= row <= MAX_ROW else None


def inserted(text: str, at: int, count: int, *, rows: bool) -> str:
    """The formula after `count` rows (or columns) were inserted before number `at`."""
    return _respan(text, rows, lambda n: n + count if n >= at else n, lambda n: n + count if n >= at else n)


def deleted(text: str, at: int, *, rows: bool) -> str:
    """The formula after row (or column) `at` was deleted; a range shrinks, a cell that is gone becomes #REF!."""
    return _respan(text, rows, lambda n: n - 1 if n > at else n, lambda n: n - 1 if n >= at else n)


def _respan(text: str, rows: bool, first: Callable[[int], int], last: Callable[[int], int]) -> str:
    limit = MAX_ROW if rows else MAX_COL

    def move(match: re.Match[str]) -> str:
        if match["text"]:
            return match["text"]
        start, end = position(match["first"]), position(match["last"] or match["first"])
        axis = 0 if rows else 1
        low, high = sorted((start[axis], end[axis]))
        new_low, new_high = first(low), last(high)
        if new_low > new_high or new_high > limit:
            return "#REF!"
        ends = [(match["first"], new_low if start[axis] == low else new_high)]
        if match["last"]:
            ends.append((match["last"], new_high if end[axis] == high else new_low))
        return (match["colon"] or "").join(_renumbered(token, number, rows) for token, number in ends)

    return _SPANS.sub(move, text)


def _renumbered(token: str, number: int, rows: bool) -> str:
    match = _REF.fullmatch(token)
    assert match is not None, token
    letters, row = (match[2], str(number)) if rows else (column_letters(number), match[4])
    return f"{match[1]}{letters}{match[3]}{row}"
