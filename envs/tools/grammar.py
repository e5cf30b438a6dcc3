"""The texts of the tool environments: `Action: <name> with Action Input: <object>` in, upstream's observations out.

The object is read as JSON, then as a Python literal; nothing is evaluated. Tools and their arguments are in
`toolbox.py`.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

MAX_CALL_CHARS = 10_000
"""Longest action that is read; upstream's longest (Sheet's cell ranges) has some 2,500."""
MAX_DEPTH = 20
MAX_OBSERVATION_CHARS = 16_000
FORMAT_ERROR = (
    'Format error, please response in the format of  "Action: [your action] with Action Input: [your action input]'
)
"""AgentGym's own text, letter by letter."""
INVALID_INPUT = "Parameters in action input are not valid, please change your action input."

WITH_INPUT = "with Action Input:"
"""Stands between a tool's name and its arguments."""
_SEPARATOR = re.compile(r"\bwith\s*Action Input:")


class Call(NamedTuple):
    """An action as written: the name, and the text of its argument object."""

    name: str
    arguments: str


class ArgumentError(ValueError):
    """The argument object cannot be read; the text says why, in a few words."""


def parse_call(action: str) -> Call | None:
    """Split an action into name and argument text, or None if it has not the form.

    The label `Action:` may be there or not: reply parsers take it away, people who type do not.
    """
    match = _SEPARATOR.search(action)
    if match is None:
        return None
    name = action[: match.start()].rpartition("Action:")[2].strip()
    return Call(name, action[match.end() :].strip()) if name else None


def format_call(name: str, arguments: Mapping[str, Any]) -> str:
    """The action text of a call; the object is JSON, as in upstream's examples."""
    return f"{name} {WITH_INPUT} {json.dumps(arguments, ensure_ascii=False)}"


def parse_arguments(text: str) -> dict[str, Any]:
    """Read an argument object: JSON, or else a Python literal of the same types.

    Raises:
        ArgumentError: It is neither, is no object, is nested too deeply, or holds a number that is not finite.
    """
    value = parse_value(text)
    if not isinstance(value, dict):
        raise ArgumentError(f'it is a {type(value).__name__}, not an object such as {{"name": "value"}}')
    return value


def parse_value(text: str) -> Any:
    """Read one JSON value, or else a Python literal of the same types; raises as `parse_arguments`."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(_QuotePatterns().visit(ast.parse(text.strip(), mode="eval")))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            raise ArgumentError('it is no JSON object such as {"name": "value"}') from None
    return _plain(value, 0)


class _QuotePatterns(ast.NodeTransformer):
    """Makes `re.compile('...')`, which upstream's Sheet takes as a value, a text with these words."""

    def visit_Call(self, node: ast.Call) -> ast.Call | ast.Constant:
        """Replace a call of `re.compile`; any other stays, and is no literal."""
        return ast.Constant(ast.unparse(node)) if ast.unparse(node.func) == "re.compile" else node


def _no_constant(name: str) -> NoReturn:
    raise ArgumentError(f"{name} is no number")


def _plain(value: Any, depth: int) -> Any:
    """The value with tuples as lists, or an error if it holds what JSON cannot."""
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            raise ArgumentError("it holds half a surrogate pair, which is no text")
        return value
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ArgumentError("it holds a number that is not finite")
        return value
    if depth == MAX_DEPTH:
        raise ArgumentError(f"it is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ArgumentError("its names must be texts")
        return {_plain(key, depth + 1): _plain(item, depth + 1) for key, item in value.items()}
    raise ArgumentError(f"it holds a {type(value).__name__}; use texts, numbers, true, false, null, lists and objects")


def refused_by(*own: str) -> str:
    """`TextEnv.refusals` of a tool environment: the texts that all of them share, and some of its own.

    Args:
        own: Regular expressions of how its backend's refusals begin, besides those with "Error:".
    """
    shared = (r"ERROR \|", "Error:")
    return f"{re.escape(FORMAT_ERROR)}|Observation: (?:{'|'.join((*shared, *own))})"


def start_text(goal: str) -> str:
    """The first observation of an episode."""
    return f"Now new trial starts.\nYou should perform actions to accomplish the goal: {goal}\nGive me one action."


def observation_text(value: Any) -> str:
    """The observation that shows what an action returned."""
    return f"Observation: {show(value)}\nGive me one action."


def show(value: Any) -> str:
    """A returned value as upstream shows it (`str`), printable and at most `MAX_OBSERVATION_CHARS` long."""
    text = str(value)
    if len(text) > MAX_OBSERVATION_CHARS:
        text = f"{text[:MAX_OBSERVATION_CHARS]}... ({len(text) - MAX_OBSERVATION_CHARS} more characters)"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)


def shorten(text: str, length: int = 60) -> str:
    """The beginning of a text that an agent wrote, for an error that quotes it."""
    return show(text if len(text) <= length else text[:length] + "...").replace("\n", " ")
