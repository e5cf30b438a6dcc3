"""What a selector is told that grades every step of a trajectory, and how its answer is read.

Every step has to have one grade: an answer that leaves one out, or grades one twice, is an error. The numbered
trajectory is shown as in `prompt.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from atlas_ray.hashing import content_hash
from atlas_ray.selection.answer import AnswerError, last_object, whole_number
from atlas_ray.selection.prompt import (
    DEMONSTRATION,
    FAILED,
    ChatMessage,
    Prompt,
    Question,
    brief_lines,
    mark_of,
    quoted,
    say,
    show,
)
from atlas_ray.trajectory import Trajectory

HIGHEST = 10
"""Grades go from 0 to this."""

INSTRUCTION = """\
You study demonstrations of an agent that acts in a text environment, and grade each of its steps. A step is one turn \
of the agent, its thought and its action. The grade says how much another agent gains that learns to do the same in \
that state:
- 9 or 10: right and decisive. It finds out, plans, corrects or does what the goal depends on; another choice would \
very likely have cost it.
- 6 to 8: right, and not obvious. A weaker agent would often do something else here, and lose by it.
- 3 to 5: right, but obvious, or it could as well be done otherwise or later.
- 1 or 2: useless. It brings the goal no nearer and tells nothing that the agent did not know.
- 0: wrong. It leads away from the goal, wastes what is needed, or is refused by the environment.
Judge a step by what the agent could know when it took it, and by what came of it. Use the whole range.

Answer with one JSON object and nothing else:
{"assessment": "<in two or three sentences: how the goal was reached or missed, and which steps decided it>", \
"grades": [{"step": <number>, "grade": <0 to 10>}, ...]}
with one entry for every step, in order."""

REQUEST = f"""\
{DEMONSTRATION}Grade each of its {{n_steps}} steps ({{first}} to {{last}}) and answer in the form above."""

REPAIR = """\
This answer cannot be used: {error}. Answer again, in the form asked for, with one grade from 0 to 10 for each of the \
steps {first} to {last}."""

STAND_IN = """\
Steps of an agent that {outcome} its goal:
{trajectory}
Grade the {n_steps} steps from 0 (useless) to 9 (decisive), in order, as JSON."""

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "assessment": {"type": "string"},
        "grades": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"step": {"type": "integer"}, "grade": {"type": "integer"}},
                "required": ["step", "grade"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["assessment", "grades"],
    "additionalProperties": False,
}
"""One schema for every trajectory, because servers compile a schema once; the parser checks the bounds."""

WORDING = content_hash([INSTRUCTION, REQUEST, REPAIR, STAND_IN, FAILED])
"""Identifies the wording in a selection's provenance."""


class Grades(NamedTuple):
    """A valid answer."""

    grades: tuple[int, ...]
    """One from 0 to `HIGHEST` for each step."""
    assessment: str | None


def build(trajectory: Trajectory, max_chars: int) -> Prompt:
    """The question.

    Args:
        trajectory: with at least one step.
        max_chars: characters of all messages together.

    Raises:
        PromptTooLongError: it does not fit even with every observation elided.
    """
    failed = f"{FAILED}\n" if trajectory.failed else ""
    names = _names(trajectory) | {"mark": mark_of(trajectory), "failed": failed}
    shown, elided = show(trajectory, max_chars - len(INSTRUCTION) - len(REQUEST.format(**names, trajectory="")))
    return _prompt([say("system", INSTRUCTION), say("user", REQUEST.format(**names, trajectory=shown))], None, elided)


def build_short(trajectory: Trajectory) -> Prompt:
    """The stand-in's question, with an answer of one digit a step; see `prompt.build_short`."""
    outcome = "missed" if trajectory.failed else "reached"
    shown = "\n".join(brief_lines(trajectory))
    user = STAND_IN.format(outcome=outcome, trajectory=shown, n_steps=trajectory.n_steps)
    return _prompt([say("user", user)], rf'\{{"grades": \[[0-9](, [0-9]){{{trajectory.n_steps - 1}}}\]\}}', None)


def repair(question: Question, trajectory: Trajectory, answer: str, error: str) -> Question:
    """The conversation that asks again after an answer that cannot be used, quoting what was wrong with it."""
    request = say("user", REPAIR.format(**_names(trajectory), error=error))
    messages = [*question.messages, quoted(answer), request]
    return Question(messages, messages, question.regex)


def parse(text: str, n_steps: int, *, cut: bool = False) -> Grades:
    """Read and check an answer: its last JSON object, with an entry for every step, or as many grades in their order.

    Args:
        text: what the selector wrote.
        n_steps: steps of the trajectory, numbered from 0.
        cut: the endpoint did not let it end by itself. Then only one whole JSON object and nothing else is an answer.

    Raises:
        AnswerError: it is not one grade for each step.
    """
    value = last_object(text, "grades", cut=cut)
    entries = value["grades"]
    if not isinstance(entries, list):
        raise AnswerError("unreadable", '"grades" is not a list')
    if entries and not any(isinstance(entry, Mapping) for entry in entries):
        if len(entries) != n_steps:
            raise AnswerError("wrong_count", f"there are {len(entries)} grades for {n_steps} steps")
        entries = [{"step": step, "grade": grade} for step, grade in enumerate(entries)]
    found: dict[int, int] = {}
    for entry in entries:
        if not isinstance(entry, Mapping) or not {"step", "grade"} <= entry.keys():
            raise AnswerError("unreadable", 'an entry of "grades" has no "step" or no "grade"')
        step, grade = whole_number(entry["step"], "step number"), whole_number(entry["grade"], "grade")
        if not 0 <= step < n_steps:
            raise AnswerError("out_of_range", f"there is no step {step}; steps go from 0 to {n_steps - 1}")
        if not 0 <= grade <= HIGHEST:
            raise AnswerError("out_of_range", f"the grade {grade} of step {step} is not from 0 to {HIGHEST}")
        if step in found:
            raise AnswerError("wrong_count", f"step {step} is graded twice")
        found[step] = grade
    missing = [step for step in range(n_steps) if step not in found]
    if missing:
        raise AnswerError("wrong_count", f"step {missing[0]} has no grade ({len(found)} of {n_steps} have one)")
    said = value.get("assessment")
    assessment = said.encode("utf-8", "replace").decode() if isinstance(said, str) and said.strip() else None
    return Grades(tuple(found[step] for step in range(n_steps)), assessment)


def _prompt(messages: list[ChatMessage], regex: str | None, elided: dict[str, int] | None) -> Prompt:
    return Prompt(Question(messages, messages, regex), elided)


def _names(trajectory: Trajectory) -> dict[str, int]:
    return {"n_steps": trajectory.n_steps, "first": 0, "last": trajectory.n_steps - 1}
