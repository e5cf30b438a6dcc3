"""Formulas: a parser and an evaluator; nothing is executed as code.

Supported are numbers, texts, TRUE/FALSE, cells and ranges of the same sheet, + - * / ^ & % and comparisons,
parentheses, and the functions SUM, AVERAGE, COUNT, MAX, MIN, PRODUCT, MINUS. Anything else is an error value, as
Google Sheets shows it: #NAME? for another function, #ERROR! for a text that does not parse. Other sheets, dates and
array formulas are left out. How formulas follow moving cells is in `references.py`.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, cast

from envs.sheet.cells import Box, CellError, Formula, Value
from envs.sheet.references import position

MAX_SIGNS = 200
"""Operators and parentheses of a formula; more are #ERROR!, which bounds how deep its tree is."""
MAX_CHARS = 50_000
"""A cell holds no longer text, as in Google Sheets; joining to more is #VALUE!."""

AGGREGATES = ("SUM", "AVERAGE", "COUNT", "MAX", "MIN", "MINUS", "PRODUCT")

_KEEPS_FORMAT = frozenset({"SUM", "AVERAGE", "MAX", "MIN"})
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>[0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?|\.[0-9]+)
    |(?P<text>"(?:[^"]|"")*")
    |(?P<ref>\$?[A-Za-z]{1,3}\$?[1-9][0-9]{0,6}(?![A-Za-z0-9_(]))
    |(?P<lost>\#REF!)
    |(?P<name>[A-Za-z_][A-Za-z0-9_.]*)
    |(?P<sign><=|>=|<>|[-+*/^&%=<>(),:;]))""",
    re.VERBOSE,
)
DIV_ZERO, NOT_AVAILABLE, NAME, REF, VALUE, NUM, SYNTAX = map(
    CellError, ("#DIV/0!", "#N/A", "#NAME?", "#REF!", "#VALUE!", "#NUM!", "#ERROR!")
)


class Grid(Protocol):
    """What a formula can see."""

    def value(self, row: int, col: int) -> Value:
        """The value of one cell."""
        ...

    def filled(self, box: Box) -> Iterable[Value]:
        """The values of the cells in a rectangle, row by row; empty cells may be left out."""
        ...


class _Constant(NamedTuple):
    value: Value


class _Range(NamedTuple):
    """One cell or a rectangle."""

    box: Box
    single: bool


class _Call(NamedTuple):
    name: str
    arguments: tuple[_Node, ...]


class _Operation(NamedTuple):
    """`left` is None for a sign in front; `right` is None for a percent sign behind."""

    sign: str
    left: _Node | None
    right: _Node | None


_Node = _Constant | _Range | _Call | _Operation


class _SyntaxError(Exception):
    pass


def evaluate(text: str, grid: Grid) -> Value:
    """The value of a formula (its text with "="); every failure is an error value."""
    tree = _parse(text)
    if isinstance(tree, CellError):
        return tree
    value = _value(tree, grid)
    # Overflow and what has no number, as in (-8)^0.5, is #NUM!.
    return NUM if isinstance(value, float) and not math.isfinite(value) else value


def format_source(text: str) -> tuple[int, int] | None:
    """The cell whose number format an unformatted SUM, AVERAGE, MAX or MIN takes over: the first it names."""
    tree = _parse(text)
    if isinstance(tree, _Call) and tree.name in _KEEPS_FORMAT and tree.arguments:
        first = tree.arguments[0]
        if isinstance(first, _Range):
            return first.box.top, first.box.left
    return None


# -- parsing ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _parse(text: str) -> _Node | CellError:
    try:
        return _Parser(text[1:]).whole()
    except _SyntaxError:
        return SYNTAX


_BINDING = {"=": 1, "<>": 1, "<": 1, "<=": 1, ">": 1, ">=": 1, "&": 2, "+": 3, "-": 3, "*": 4, "/": 4, "^": 6}


class _Parser:
    """Precedence climbing over the tokens of one formula."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        at, end = 0, len(text.rstrip())
        while at < end:
            match = _TOKEN.match(text, at)
            if match is None or match.lastgroup is None:
                raise _SyntaxError
            self._tokens.append((match.lastgroup, match[match.lastgroup]))
            at = match.end()
        if sum(kind == "sign" and lexeme not in ",;:" for kind, lexeme in self._tokens) > MAX_SIGNS:
            raise _SyntaxError
        self._at = 0

    def whole(self) -> _Node:
        tree = self._expression(0)
        if self._at != len(self._tokens):
            raise _SyntaxError
        return tree

    def _peek(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def _next(self) -> tuple[str, str]:
        if self._at == len(self._tokens):
            raise _SyntaxError
        self._at += 1
        return self._tokens[self._at - 1]

    def _expression(self, least: int) -> _Node:
        tree = self._operand()
        while True:
            sign = self._peek()
            if sign == "%":
                self._at += 1
                tree = _Operation("%", tree, None)
                continue
            binding = _BINDING.get(sign, 0)
            if binding <= least:
                break
            self._at += 1
            tree = _Operation(sign, tree, self._expression(binding))
        return tree

    def _operand(self) -> _Node:
        kind, lexeme = self._next()
        if kind == "number":
            return _Constant(float(lexeme))
        if kind == "text":
            return _Constant(lexeme[1:-1].replace('""', '"'))
        if kind == "ref":
            return self._reference(lexeme)
        if kind == "lost":
            return _Constant(REF)
        if kind == "name":
            return self._named(lexeme.upper())
        if lexeme == "(":
            tree = self._expression(0)
            if self._next()[1] != ")":
                raise _SyntaxError
            return tree
        if lexeme in ("+", "-"):
            return _Operation(lexeme, None, self._expression(6))  # -2^2 is 4 in a spreadsheet, but -2*3 is (-2)*3
        raise _SyntaxError

    def _named(self, name: str) -> _Node:
        if self._peek() != "(":
            return _Constant(name == "TRUE" if name in ("TRUE", "FALSE") else NAME)
        self._at += 1
        arguments: list[_Node] = []
        if self._peek() != ")":
            arguments.append(self._expression(0))
            while self._peek() in (",", ";"):
                self._at += 1
                arguments.append(self._expression(0))
        if self._next()[1] != ")":
            raise _SyntaxError
        return _Call(name, tuple(arguments))

    def _reference(self, token: str) -> _Node:
        row, col = position(token)
        if self._peek() != ":":
            return _Range(Box(row, col, row, col), True)
        self._at += 1
        kind, last = self._next()
        if kind != "ref":
            raise _SyntaxError
        end_row, end_col = position(last)
        box = Box(min(row, end_row), min(col, end_col), max(row, end_row), max(col, end_col))
        return _Range(box, False)


# -- evaluation -------------------------------------------------------------------------------------------------------


def _value(node: _Node, grid: Grid) -> Value:
    if isinstance(node, _Constant):
        return node.value
    if isinstance(node, _Range):
        return grid.value(node.box.top, node.box.left) if node.single else VALUE
    if isinstance(node, _Call):
        return _call(node, grid)
    if node.left is None:
        right = _number(_value(node.right, grid)) if node.right is not None else VALUE
        return right if isinstance(right, CellError) or node.sign == "+" else -right
    left = _value(node.left, grid)
    if node.right is None:
        percent = _number(left)
        return percent if isinstance(percent, CellError) else percent / 100
    return _binary(node.sign, left, _value(node.right, grid))


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "<>": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def _binary(sign: str, left: Value, right: Value) -> Value:
    for side in (left, right):
        if isinstance(side, CellError):
            return side
    if sign in _COMPARE:
        return _COMPARE[sign](sort_key(left), sort_key(right))
    if sign == "&":
        text = _text(left) + _text(right)
        return text if len(text) <= MAX_CHARS else VALUE
    a, b = _number(left), _number(right)
    if isinstance(a, CellError):
        return a
    if isinstance(b, CellError):
        return b
    if sign == "/":
        return a / b if b else DIV_ZERO
    if sign == "^":
        return _power(a, b)
    return a + b if sign == "+" else a - b if sign == "-" else a * b


def _power(base: float, exponent: float) -> Value:
    if base == 0 and exponent < 0:
        return DIV_ZERO
    try:
        return math.pow(base, exponent)
    except (OverflowError, ValueError):
        return NUM


def _number(value: Value) -> float | CellError:
    """A value as an operand of arithmetic: an empty cell is 0, TRUE is 1, a text is none."""
    if isinstance(value, CellError):
        return value
    if isinstance(value, str):
        return VALUE
    return float(value or 0)


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    return "" if value is None else f"{value:.15g}" if isinstance(value, float) else str(value)


def sort_key(value: Value) -> tuple[int, float | str]:
    """How Google Sheets orders values: numbers, texts (without case), FALSE, TRUE, errors. Empty cells count as 0."""
    if isinstance(value, CellError):
        return 3, value.code
    if isinstance(value, bool):
        return 2, float(value)
    if isinstance(value, str):
        return 1, value.casefold()
    return 0, value or 0.0


def _call(call: _Call, grid: Grid) -> Value:
    if call.name not in AGGREGATES:
        return NAME
    if call.name == "MINUS":
        if len(call.arguments) != 2:
            return NOT_AVAILABLE
        return _binary("-", _value(call.arguments[0], grid), _value(call.arguments[1], grid))
    if not call.arguments:
        return NOT_AVAILABLE
    values = list(_operands(call.arguments, grid))
    if call.name == "COUNT":
        return float(sum(isinstance(value, float) for value in values))
    for value in values:
        if isinstance(value, CellError):
            return value
    return _aggregate(call.name, [value for value in values if isinstance(value, float)])


def _operands(arguments: Iterable[_Node], grid: Grid) -> Iterator[Value]:
    """The numbers and errors among the arguments: texts in cells do not count, a text given directly is an error."""
    for argument in arguments:
        if isinstance(argument, _Range):
            yield from (v for v in grid.filled(argument.box) if isinstance(v, float | CellError))
        else:
            yield _number(_value(argument, grid))


def _aggregate(name: str, numbers: list[float]) -> Value:
    if name == "AVERAGE":
        return math.fsum(numbers) / len(numbers) if numbers else DIV_ZERO
    if not numbers:
        return 0.0
    if name == "SUM":
        return math.fsum(numbers)
    if name == "PRODUCT":
        return math.prod(numbers)
    return max(numbers) if name == "MAX" else min(numbers)


# -- a whole grid -----------------------------------------------------------------------------------------------------


class _Pending(Exception):
    """A formula needs this cell's value first."""

    def __init__(self, position: tuple[int, int]) -> None:
        self.position = position


class Values:
    """A `Grid` over the contents of cells, rows of one length; formulas in it have no value yet."""

    def __init__(self, contents: Sequence[Sequence[Value | Formula]]) -> None:
        self._contents = contents

    def value(self, row: int, col: int) -> Value:
        """See `Grid`."""
        if row > len(self._contents) or col > len(self._contents[0]):
            return None
        content = self._contents[row - 1][col - 1]
        if isinstance(content, Formula):
            raise _Pending((row, col))
        return content

    def filled(self, box: Box) -> Iterator[Value]:
        """See `Grid`."""
        for row in range(box.top, min(box.bottom, len(self._contents)) + 1):
            for col in range(box.left, min(box.right, len(self._contents[0])) + 1):
                yield self.value(row, col)


def evaluate_all(contents: list[list[Value | Formula]]) -> list[list[Value]]:
    """The values of a grid of contents (rows of one length), formulas settled in the order in which they need each
    other; those in a circle are #REF!."""
    grid = Values(contents)
    for row, line in enumerate(contents, 1):
        for col, content in enumerate(line, 1):
            waiting = [(row, col)] if isinstance(content, Formula) else []
            while waiting:
                _settle(waiting, contents, grid)
    return cast("list[list[Value]]", contents)


def _settle(waiting: list[tuple[int, int]], contents: list[list[Value | Formula]], grid: Values) -> None:
    """Evaluate the last formula that waits; where it needs another one, that one waits behind it."""
    row, col = waiting[-1]
    content = contents[row - 1][col - 1]
    assert isinstance(content, Formula), content
    try:
        contents[row - 1][col - 1] = evaluate(content.text, grid)
        waiting.pop()
    except _Pending as pending:
        if pending.position not in waiting:
            waiting.append(pending.position)
            return
        first = waiting.index(pending.position)
        for row, col in waiting[first:]:
            contents[row - 1][col - 1] = REF
        del waiting[first:]
