"""A strict parser of the selector's answer: the result is a valid choice of steps, or an error with a name.

Two forms are read: the JSON object that the prompt asks for, with or without prose around it, and the paper's
`conversation[...]` (Appendix D.1). Step numbers are never clipped or dropped to make an answer fit.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from atlas_ray.selection.prompt import CATEGORIES

MAX_CHARS = 100_000
"""No honest answer is longer."""

_OBJECT = re.compile(r'\{\s*"')
_CANDIDATES = 64
_NUMBER = re.compile(r"\s*(?:step\s*)?([0-9]{1,9})\s*", re.IGNORECASE)
_PAPER_STEPS = re.compile(r"conversation\s*\[([^\[\]]*)\]", re.IGNORECASE)
_PAPER_PLAN = re.compile(r"high-level plan is", re.IGNORECASE)
_PAPER_CHOICE = re.compile(r"critical steps are", re.IGNORECASE)
_PAPER_REASON = re.compile(r"reason[*_]{0,2}:", re.IGNORECASE)
_PAPER_CATEGORIES = {
    "planning": "plan creation",
    "key observation": "critical observation",
    "pivotal action": "critical action",
    "recall": "self correction",
}


class AnswerError(ValueError):
    """An answer that cannot be used.

    Args:
        kind: `empty`, `refusal`, `truncated`, `too_long`, `unreadable`, `no_steps`, `out_of_range` or `too_many`.
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


def parse(text: str, n_steps: int, budget: int) -> SelectorAnswer:
    """Read and check an answer.

    Args:
        text: what the selector wrote.
        n_steps: steps of the trajectory, numbered from 0.
        budget: steps that may be chosen at most, after duplicates have collapsed.

    Raises:
        AnswerError: it is not a valid choice.
    """
    if not text.strip():
        raise AnswerError("empty", "the answer is empty")
    if len(text) > MAX_CHARS:
        raise AnswerError("too_long", f"the answer has {len(text)} characters")
    found = _json_answer(text)
    if found is not None:
        return _checked(*_from_json(found), n_steps=n_steps, budget=budget)
    listed = [part for part in _PAPER_STEPS.findall(text) if part.strip(" .…")]
    if not listed:
        raise AnswerError("unreadable", 'there is no JSON object with "steps" in it')
    numbers = [_number(part) for group in listed for part in re.split(r"[,;]", group)]
    chosen: list[tuple[int, str | None]] = [(number, None) for number in numbers]
    return _checked(chosen, _paper_plan(text), _paper_reason(text), n_steps=n_steps, budget=budget)


def _json_answer(text: str) -> dict[str, Any] | None:
    """The last JSON object that has `steps`: what comes before it is thinking aloud."""
    decoder = json.JSONDecoder()
    found: dict[str, Any] | None = None
    position = 0
    for _ in range(_CANDIDATES):
        start = _OBJECT.search(text, position)
        if start is None:
            break
        try:
            value, end = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):  # no object begins here
            position = start.start() + 1
            continue
        if "steps" in value:
            found = value
        position = end if "steps" in value else start.start() + 1
    return found


def _from_json(value: dict[str, Any]) -> tuple[list[tuple[int, str | None]], str | None, str | None]:
    items = value["steps"]
    if not isinstance(items, list):
        raise AnswerError("unreadable", '"steps" is not a list')
    chosen: list[tuple[int, str | None]] = []
    reasons = []
    for item in items:
        if not isinstance(item, dict):
            chosen.append((_number(item), None))
            continue
        if "step" not in item:
            raise AnswerError("unreadable", 'an entry of "steps" has no "step"')
        number = _number(item["step"])
        chosen.append((number, _category(item.get("category"))))
        if isinstance(item.get("reason"), str):
            reasons.append(f"{number}: {_text(item['reason'])}")
    plan = value.get("plan")
    if plan is not None:
        plan = _text(plan if isinstance(plan, str) else json.dumps(plan, ensure_ascii=False))
    return chosen, plan, "\n".join(reasons) or None


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


def _number(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise AnswerError("unreadable", f"{str(value)[:40]!r} is not a step number")
    return int(match[1])


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


def _paper_reason(text: str) -> str | None:
    start = _PAPER_REASON.search(text)
    return _text(text[start.end() :].strip(" *_\n")) or None if start else None


def _text(value: str) -> str:
    """`value` as text that UTF-8 can hold: JSON's escapes can spell half a character."""
    return value.encode("utf-8", "replace").decode()
