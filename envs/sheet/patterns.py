"""The query of `filter_cells`: a regular expression as text or as `re.compile('...')`, parsed but not evaluated.

Python's `re` can take exponential time for a pattern that an agent writes. So a pattern with more than one choice runs
as an automaton over all its states at once, in time linear in the text, with a budget of steps. Patterns that cannot
run so (back references, look-ahead, look-behind) are refused with an explanation.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable
from typing import Any

from envs.tools.backend import Refused
from envs.tools.grammar import shorten

MAX_CHARS = 500
MAX_STATES = 2_000
MAX_STEPS = 1_000_000
"""State visits for one query over one sheet, about a second; the tables of the tasks need some thousands."""

_FLAGS = {"I": re.I, "IGNORECASE": re.I, "M": re.M, "MULTILINE": re.M, "S": re.S, "DOTALL": re.S}
_CATEGORIES = {
    f"CATEGORY_{name}": re.compile(pattern)
    for name, pattern in {
        "DIGIT": r"\d", "NOT_DIGIT": r"\D", "SPACE": r"\s", "NOT_SPACE": r"\S", "WORD": r"\w", "NOT_WORD": r"\W",
    }.items()
}  # fmt: skip
_parser: Any = importlib.import_module("re._parser")  # the one parser that agrees with `re`; it has no public name

Match = Callable[[list[str]], list[bool]]
_Test = Callable[[str], bool]


def matcher(query: str) -> Match:
    """Which of some texts a query is found in; like upstream, a plain text is a regular expression, too.

    Raises:
        Refused: The query is too long, no regular expression, or of a kind that cannot be run safely. The function
            that is returned raises it when the budget is used up.
    """
    if len(query) > MAX_CHARS:
        raise Refused(f"The query has {len(query)} characters; {MAX_CHARS} at most are searched for")
    pattern, flags = _compiled(query) if query.lstrip().startswith("re.compile(") else (query, 0)
    if not set(pattern) & set(r".^$*+?{}[]\|()") and not flags:
        return lambda texts: [pattern in text for text in texts]
    try:
        tree = _parser.parse(pattern, flags)
        automaton = _Automaton(tree)
        if automaton.choices <= 1:
            search = re.compile(pattern, flags).search
            return lambda texts: [search(text) is not None for text in texts]
    except (re.error, RecursionError, OverflowError, ValueError) as error:
        raise Refused(f"{shorten(pattern)!r} is no regular expression: {error}") from None
    return automaton.search


def _compiled(query: str) -> tuple[str, int]:
    """Pattern and flags of `re.compile('...', re.IGNORECASE)`."""
    wrong = Refused(f"{shorten(query)!r} is not of the form re.compile('pattern')")
    try:
        call = ast.parse(query.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise wrong from None
    if not isinstance(call, ast.Call) or call.keywords or not 1 <= len(call.args) <= 2:
        raise wrong
    pattern, *flags = call.args
    if not (isinstance(pattern, ast.Constant) and isinstance(pattern.value, str)):
        raise wrong
    if any(not isinstance(flag, ast.Attribute) or flag.attr not in _FLAGS for flag in flags):
        raise wrong
    return pattern.value, sum(_FLAGS[flag.attr] for flag in flags if isinstance(flag, ast.Attribute))


class _Automaton:
    """A parsed pattern as numbered states.

    A state is a test of one character, a condition on the position (`at`), or a list of states to go on with.
    """

    def __init__(self, tree: Any) -> None:
        self._flags: int = tree.state.flags
        self._tests: list[_Test | None] = []
        self._conditions: list[str] = []
        self._next: list[list[int]] = []
        self.choices = 0
        """Alternations and repetitions in the pattern."""
        self._final = self._state()
        self._first = self._sequence(tree, self._final)

    def search(self, texts: list[str]) -> list[bool]:
        """Which texts the pattern is found in."""
        steps = 0
        found = []
        for text in texts:
            present: set[int] = set()
            hit = False
            for at in range(len(text) + 1):
                present = self._closure({*present, self._first}, text, at)
                steps += len(present)
                if steps > MAX_STEPS:
                    raise Refused("The query takes too long to match; use a simpler pattern")
                if self._final in present:
                    hit = True
                    break
                char = text[at : at + 1]
                present = {
                    n for s in present if (test := self._tests[s]) and char and test(char) for n in self._next[s]
                }
            found.append(hit)
        return found

    def _closure(self, states: set[int], text: str, at: int) -> set[int]:
        """The states reached without reading a character."""
        todo, reached = list(states), set(states)
        while todo:
            state = todo.pop()
            condition = self._conditions[state]
            if self._tests[state] is None and (not condition or self._holds(condition, text, at)):
                new = [n for n in self._next[state] if n not in reached]
                reached.update(new)
                todo += new
        return reached

    def _holds(self, condition: str, text: str, at: int) -> bool:
        many = bool(self._flags & re.MULTILINE)
        if condition == "AT_BEGINNING":
            return at == 0 or (many and text[at - 1] == "\n")
        if condition == "AT_BEGINNING_STRING":
            return at == 0
        if condition == "AT_END_STRING":
            return at == len(text)
        if condition == "AT_END":
            return at == len(text) or (text[at] == "\n" and (many or at == len(text) - 1))
        sides = [bool(_CATEGORIES["CATEGORY_WORD"].match(text[n : n + 1])) if n >= 0 else False for n in (at - 1, at)]
        return (sides[0] != sides[1]) == (condition == "AT_BOUNDARY")

    # -- building -------------------------------------------------------------------------------------------------

    def _state(self, following: tuple[int, ...] = (), test: _Test | None = None, condition: str = "") -> int:
        if len(self._next) >= MAX_STATES:
            raise Refused(f"The pattern is too large (more than {MAX_STATES} states); use a simpler one")
        self._next.append(list(following))
        self._tests.append(test)
        self._conditions.append(condition)
        return len(self._next) - 1

    def _sequence(self, items: Any, following: int) -> int:
        for code, argument in reversed(list(items)):
            following = self._item(str(code), argument, following)
        return following

    def _item(self, code: str, argument: Any, following: int) -> int:
        if code in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
            return self._state((following,), self._test(code, argument))
        if code == "SUBPATTERN":
            return self._sequence(argument[-1], following)
        if code == "BRANCH":
            self.choices += 1
            return self._state(tuple(self._sequence(branch, following) for branch in argument[1]))
        if code in ("MAX_REPEAT", "MIN_REPEAT"):
            self.choices += 1
            least, most, body = argument
            return self._repeat(least, most, body, following)
        if code == "AT":
            return self._state((following,), condition=str(argument))
        raise Refused(f"The pattern uses {code.lower().replace('_', ' ')}, which is not supported")

    def _repeat(self, least: int, most: Any, body: Any, following: int) -> int:
        if str(most) == "MAXREPEAT":
            loop = self._state()
            self._next[loop] = [self._sequence(body, loop), following]
            following = loop
        else:
            for _ in range(int(most) - least):
                following = self._state((self._sequence(body, following), following))
        for _ in range(least):
            before = len(self._next)
            following = self._sequence(body, following)
            if len(self._next) == before:
                break  # an empty body repeats to nothing
        return following

    def _test(self, code: str, argument: Any) -> _Test:
        if code == "ANY":
            return (lambda char: True) if self._flags & re.DOTALL else (lambda char: char != "\n")
        if code == "IN":
            negated = str(argument[0][0]) == "NEGATE"
            tests = [self._test(str(kind), value) for kind, value in argument[negated:]]
            return lambda char: any(test(char) for test in tests) != negated
        if code == "CATEGORY":
            category = _CATEGORIES[str(argument)]
            return lambda char: category.match(char) is not None
        low, high = argument if code == "RANGE" else (argument, argument)
        negated = code == "NOT_LITERAL"
        if self._flags & re.IGNORECASE:
            return lambda char: any(low <= ord(c) <= high for c in {char, *char.lower(), *char.upper()}) != negated
        return lambda char: (low <= ord(char) <= high) != negated
