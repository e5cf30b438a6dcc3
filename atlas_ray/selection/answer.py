"""A strict parser of the selector's answer: the result is the answer's final choice of steps, or an error with a name.

Two forms are read: the JSON object that the prompt asks for, with or without prose around it, and the paper's
`conversation[...]` (Appendix D.1). A selector may think aloud and quote examples, so only the last answer counts. A
fragment is never taken for it: what is cut, malformed or ambiguous is an error. Step numbers are never clipped or
dropped to make an answer fit.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from itertools import pairwise
from typing import Any, NamedTuple

from atlas_ray.selection.prompt import CATEGORIES

MAX_CHARS = 100_000
"""No honest answer is longer."""

_OBJECT = re.compile(r"""\{\s*(?:["']|steps\b)""")
_BRACKETS = re.compile(r'"(?:[^"\\\n]|\\.)*"?|[{}\[\]]')
"""A JSON string, which ends with its line at the latest, or a bracket outside strings."""
_THINKING_ENDS = re.compile(
    r"</(?:think|thinking|thought|reasoning|reflection)>|\[/THINK\]|◁/think▷|<\|channel\|>\s*final\s*<\|message\|>",
    re.IGNORECASE,
)
_THINKING_END_BEGINS = ("</", "[/", "◁/", "<|")
_THINKING_BEGINS = re.compile(
    r"\s*(?:<(?:think|thinking|thought|reasoning|reflection)>|\[THINK\]|◁think▷|<\|channel\|>\s*analysis)",
    re.IGNORECASE,
)
_FENCE = re.compile(r"\s*```\w*\s*|\s+")
_BLOCK = re.compile(r"```\w*\s*\Z")
_UNFINISHED = re.compile(
    r"[\"']steps[\"']\s*:|conversation\s*\[[^\[\]]*\Z|critical steps (?:are|is)[\s:*_]*\Z", re.IGNORECASE
)
"""Behind the last JSON object: a piece of another one, or of the paper's form."""
_NUMBER = re.compile(r"\s*(?:step\s*)?([0-9]{1,9})\s*", re.IGNORECASE)
_PAPER_STEPS = re.compile(r"conversation\s*\[([^\[\]]*)\]", re.IGNORECASE)
_PAPER_JOIN = re.compile(r"(?:[\s,;&*_`.]|and)*", re.IGNORECASE)
"""Separators between two groups of one list."""
_PAPER_BULLET = re.compile(r"[ \t>]*(?:[-*•]|[0-9]{1,3}[.)])[ \t*_`]*")
_PAPER_LINE_END = re.compile(r"[ \t.,;:*_`)]*(?:\n|\Z|\(|-|and\b|conversation)", re.IGNORECASE)
_PAPER_CONTRAST = re.compile(
    r"(?:unlike|rather than|instead of|as opposed to|in contrast to|compared (?:to|with)|\bnot)\s*[`*_\"']*\Z", re.I
)
_NEAR_CHARS = 40
_PAPER_PLAN = re.compile(r"high-level plan is", re.IGNORECASE)
_PAPER_CHOICE = re.compile(r"critical steps? (?:are|is)\b|critical steps?[*_]{0,2}:", re.IGNORECASE)
_PAPER_CHOICE_LINE = re.compile(rf"^[ \t\d.)(*_#>-]*(?:the )?(?:{_PAPER_CHOICE.pattern})", re.IGNORECASE | re.MULTILINE)
_PAPER_REASON = re.compile(r"\breason(?:s|ing)?[*_]{0,2}\s*:|^[ \t\d.)(*_#>-]*reasons?\b", re.IGNORECASE | re.MULTILINE)
_PAPER_CATEGORIES = {
    "planning": "plan creation",
    "key observation": "critical observation",
    "pivotal action": "critical action",
    "recall": "self correction",
}


class AnswerError(ValueError):
    """An answer that cannot be used.

    Args:
        kind: `empty`, `refusal`, `truncated`, `too_long`, `unreadable`, `no_steps`, `out_of_range`, `too_many` or
            `wrong_count`.
        detail: what is wrong, in words that the selector can act on.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail = kind, detail


class SelectorAnswer(NamedTuple):
    """A valid choice of steps."""

    steps: tuple[int, ...]
    """Ascending, distinct, in range, within the budget, at least one."""
    categories: tuple[str, ...] | None
    """One per step, `unspecified` for a step without a category; None where no step has one."""
    plan: str | None
    reason: str | None


class _Object(NamedTuple):
    """A JSON object in a text, or something that begins like one."""

    start: int
    end: int
    value: dict[str, Any] | None
    """None where it is cut or malformed."""


def parse(text: str, n_steps: int, budget: int, *, cut: bool = False) -> SelectorAnswer:
    """Read and check an answer.

    Args:
        text: what the selector wrote.
        n_steps: steps of the trajectory, numbered from 0.
        budget: steps that may be chosen at most, after duplicates have collapsed.
        cut: the endpoint did not let it end by itself. Then only one whole JSON object and nothing else is an answer.

    Raises:
        AnswerError: it is not a valid choice.
    """
    start = _begin(text)
    found = _objects(text, start)
    if cut and not (found and _stands_alone(text[start:], found[-1], start)):
        raise AnswerError("truncated", "the answer was cut before its end; be brief")
    after = found[-1].end if found else start
    heading = _last_heading(text, after)
    if _UNFINISHED.search(text, after):
        raise AnswerError("unreadable", "the last answer is cut")
    if found and heading is None:
        value = _answer_in(found[-1])
        _refuse_a_block_before(text, found, value)
        return _checked(*_from_json(value), n_steps=n_steps, budget=budget)
    return _checked(*_from_paper(text, start, heading), n_steps=n_steps, budget=budget)


def last_object(text: str, key: str, *, cut: bool) -> dict[str, Any]:
    """The last JSON object of an answer, which has to have `key`; thinking before it and words around it are skipped.

    Args:
        text: what the selector wrote.
        key: of the object, or of the only one inside it that has it.
        cut: see `parse`.

    Raises:
        AnswerError: there is no such object.
    """
    start = _begin(text)
    found = _objects(text, start, key)
    if cut and not (found and _stands_alone(text[start:], found[-1], start)):
        raise AnswerError("truncated", "the answer was cut before its end; be brief")
    if not found:
        raise AnswerError("unreadable", f'there is no JSON object with "{key}" in it')
    if re.search(rf"[\"']{key}[\"']\s*:", text[found[-1].end :]):
        raise AnswerError("unreadable", "the last answer is cut")
    return _answer_in(found[-1], key)


def whole_number(value: Any, what: str = "step number") -> int:
    """A number of an answer, which may be written as a text.

    Args:
        value: as JSON has it.
        what: it is, for the error.

    Raises:
        AnswerError: it is none.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise AnswerError("unreadable", f"{str(value)[:40]!r} is not a {what}")
    return int(match[1])


def _begin(text: str) -> int:
    """Where the answer itself begins, behind the thinking.

    Raises:
        AnswerError: it is empty, no honest answer's length, or nothing but thinking.
    """
    if not text.strip():
        raise AnswerError("empty", "the answer is empty")
    if len(text) > MAX_CHARS:
        raise AnswerError("too_long", f"the answer has {len(text)} characters")
    return _end_of_thinking(text)


def _objects(text: str, position: int = 0, key: str = "steps") -> list[_Object]:
    """All that begins like a JSON object, except malformed ones that do not speak of `key`; none inside another."""
    decoder = json.JSONDecoder()
    found: list[_Object] = []
    while (match := _OBJECT.search(text, position)) is not None:
        start = match.start()
        try:
            value, end = decoder.raw_decode(text, start)
            found.append(_Object(start, end, value))
        except (ValueError, RecursionError):
            closed = _closing(text, start)
            end = len(text) if closed is None else closed
            if closed is None or key in text[start:end]:
                found.append(_Object(start, end, None))
        position = end
    return found


def _closing(text: str, start: int) -> int | None:
    """Behind the bracket that closes the one at `start`; None where nothing does."""
    depth = 0
    for match in _BRACKETS.finditer(text, start):
        if match[0] in ("{", "["):
            depth += 1
        elif match[0] in ("}", "]"):
            depth -= 1
            if depth == 0:
                return match.end()
    return None


def _end_of_thinking(text: str) -> int:
    """Where the thinking before the answer ends; a mark inside a JSON object is a quotation.

    Raises:
        AnswerError: there is nothing but thinking.
    """
    has_marks = any(begin in text for begin in _THINKING_END_BEGINS)  # ten times as fast as the pattern
    ends = [match.end() for match in _THINKING_ENDS.finditer(text)] if has_marks else []
    whole = [each for each in _objects(text) if each.value is not None] if ends else []
    starts = [each.start for each in whole]
    before = (whole[bisect_left(starts, end) - 1].end if starts and starts[0] < end else 0 for end in ends)
    start = max((end for end, closed in zip(ends, before, strict=True) if closed < end), default=0)
    if _THINKING_BEGINS.match(text, start):
        raise AnswerError("unreadable", "the thinking does not end in an answer")
    return start


def _stands_alone(body: str, found: _Object, start: int) -> bool:
    around = body[: found.start - start] + body[found.end - start :]
    return found.value is not None and not _FENCE.sub("", around)


def _answer_in(found: _Object, key: str = "steps") -> dict[str, Any]:
    """The object with `key`: the last one of the text itself, or the only one inside it."""
    if found.value is None:
        raise AnswerError("unreadable", "the last JSON object is cut or malformed")
    inside = _with_key(found.value, key)
    if len(inside) == 1:
        return inside[0]
    if inside:
        raise AnswerError("unreadable", f'the last JSON object has more than one "{key}" in it')
    raise AnswerError("unreadable", f'the last JSON object has no "{key}" in it')


def _refuse_a_block_before(text: str, found: list[_Object], last: dict[str, Any]) -> None:
    """An answer in a code block may be followed by words about it that quote another one: which one is meant?"""
    if _is_block(text, found[-1]):
        return
    for each in found[:-1]:
        if each.value is not None and _is_block(text, each) and each.value.get("steps", last["steps"]) != last["steps"]:
            raise AnswerError("unreadable", "an answer in a code block is followed by another answer; give one")


def _is_block(text: str, found: _Object) -> bool:
    """Whether the object fills a code block."""
    return _BLOCK.search(text, max(0, found.start - _NEAR_CHARS), found.start) is not None


def _with_key(value: Any, key: str) -> list[dict[str, Any]]:
    found, waiting = [], [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict) and key in each:
            found.append(each)
        elif isinstance(each, dict | list):
            waiting += each.values() if isinstance(each, dict) else each
    return found


def _from_json(value: dict[str, Any]) -> tuple[list[tuple[int, str | None]], str | None, str | None]:
    items = value["steps"]
    if not isinstance(items, list):
        raise AnswerError("unreadable", '"steps" is not a list')
    chosen: list[tuple[int, str | None]] = []
    reasons = []
    for item in items:
        if not isinstance(item, dict):
            chosen.append((whole_number(item), None))
            continue
        if "step" not in item:
            raise AnswerError("unreadable", 'an entry of "steps" has no "step"')
        number = whole_number(item["step"])
        chosen.append((number, _category(item.get("category"))))
        if isinstance(item.get("reason"), str):
            reasons.append(f"{number}: {_text(item['reason'])}")
    plan = value.get("plan")
    if plan is not None:
        plan = _text(plan if isinstance(plan, str) else json.dumps(plan, ensure_ascii=False))
    return chosen, plan, "\n".join(reasons) or None


def _last_heading(text: str, after: int) -> re.Match[str] | None:
    """The last heading of the paper's form; one that begins a line goes before one inside a sentence."""
    last = max((match.start() for match in _PAPER_STEPS.finditer(text, after)), default=-1)
    if last < 0:
        return None
    for heading in (_PAPER_CHOICE_LINE, _PAPER_CHOICE):
        matches = [match for match in heading.finditer(text, after) if match.end() <= last]
        if matches:
            return matches[-1]
    return None


def _from_paper(
    text: str, start: int, heading: re.Match[str] | None
) -> tuple[list[tuple[int, str | None]], str | None, str | None]:
    begin = start if heading is None else heading.end()
    ends = _PAPER_REASON.search(text, begin)
    section = text[begin : ends.start() if ends else len(text)]
    groups = [match for match in _PAPER_STEPS.finditer(section) if not _is_contrast(section, match.start())]
    if not groups:
        raise AnswerError("unreadable", 'there is no JSON object with "steps" in it')
    for one, other in pairwise(groups):
        if not _are_listed_together(
            section[one.end() : other.start()], section[other.end() : other.end() + _NEAR_CHARS]
        ):
            raise AnswerError("unreadable", "conversation[...] stands in more than one place; name all steps in one")
    numbers = [whole_number(part) for group in groups for part in re.split(r"[,;]", group[1])]
    reason = _text(text[ends.end() :].strip(" :*_\n")) or None if ends else None
    return [(number, None) for number in numbers], _paper_plan(text[start:]), reason


def _is_contrast(section: str, start: int) -> bool:
    """Whether the words before a group say that it is not chosen."""
    return _PAPER_CONTRAST.search(section[max(0, start - _NEAR_CHARS) : start]) is not None


def _are_listed_together(between: str, behind: str) -> bool:
    """Whether separators alone stand between two groups of steps, or the second one is an item of a list.

    Args:
        between: the text between them.
        behind: the text behind the second one.
    """
    _, newline, line = between.rpartition("\n")
    if newline and _PAPER_BULLET.fullmatch(line):
        return True
    if newline and not _PAPER_LINE_END.match(behind):  # a sentence about steps
        return False
    return _PAPER_JOIN.fullmatch(between) is not None


def _checked(
    chosen: list[tuple[int, str | None]], plan: str | None, reason: str | None, *, n_steps: int, budget: int
) -> SelectorAnswer:
    categories: dict[int, str | None] = {}
    for number, category in chosen:
        if not 0 <= number < n_steps:
            raise AnswerError("out_of_range", f"there is no step {number}; steps go from 0 to {n_steps - 1}")
        categories.setdefault(number, category)
    if not categories:
        raise AnswerError("no_steps", "no step is chosen; choose at least one")
    if len(categories) > budget:
        raise AnswerError("too_many", f"{len(categories)} steps are chosen; at most {budget} are allowed")
    steps = tuple(sorted(categories))
    named = tuple(categories[step] or "unspecified" for step in steps)
    return SelectorAnswer(steps, named if any(categories.values()) else None, plan, reason)


def _category(value: Any) -> str | None:
    name = " ".join(re.split(r"[\s_-]+", str(value).strip().lower()))
    name = _PAPER_CATEGORIES.get(name, name)
    return name if name in CATEGORIES else None


def _paper_plan(text: str) -> str | None:
    start = _PAPER_PLAN.search(text)
    if start is None:
        return None
    end = _PAPER_CHOICE.search(text, start.end())
    body = text[start.end() : end.start() if end else len(text)]
    body = body.rpartition("\n")[0] if end and "\n" in body else body  # the last line is the next heading's
    return _text(body.strip(" :*_\n")) or None


def _text(value: str) -> str:
    """`value` as text that UTF-8 can hold: JSON's escapes can spell half a character."""
    return value.encode("utf-8", "replace").decode()
