"""Parses and formats replies in ReAct form; no other module does.

A reply is `Thought:\\n...\\n\\nAction:\\n...` as in AgentGym, or has both texts on the lines of their labels.
AgentGym's clients differ in how many actions a reply may hold and which one counts; `parse_reply` has their three
rules. What an action means is decided by the environment.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

ActionRule = Literal["one", "first", "last"]

_ACTION = re.compile(r"Action:[ \t]*", re.IGNORECASE)
_THOUGHT = re.compile(r"^\s*Thought:\s*", re.IGNORECASE)
_THINKING_END = "</think>"

ONE_ACTION = "Error: Only one 'Action' is allowed per response. Please adjust your response."
NO_ACTION = "Error: No action found. Reply with a thought and one action: 'Thought: ...' and then 'Action: ...'."


class ThoughtAction(NamedTuple):
    """A parsed reply; exactly one of `action` and `problem` is None."""

    thought: str
    action: str | None
    problem: str | None
    """The observation that answers a reply without a usable action."""


def format_reply(thought: str, action: str) -> str:
    """A step's text as experts write it: `Thought: ...` and `Action: ...`, a line each."""
    return f"Thought: {thought}\nAction: {action}"


def action_begin(text: str) -> int:
    """Where the action begins in a step's text; what stands before it is the thought.

    It begins with its first label behind the thinking (`...</think>`) of a model that thinks. A step without that label
    is an action as a whole, but for its thinking; one that is labelled as a thought alone has no action, and the answer
    is the length of the text.
    """
    thinking, mark, said = text.rpartition(_THINKING_END)
    start = len(thinking + mark) + (len(said) - len(said.lstrip()) if mark else 0)
    if (label := _ACTION.search(text, start)) is not None:
        return label.start()
    return len(text) if _THOUGHT.match(text[start:]) else start


def last_line(text: str) -> str | None:
    """The action of a reply without labels, as ADaPT's prompts ask for: the last line that is no thought.

    "OK.", which answers a thought there, is no action; a leading ">" is dropped. None if no line is left.
    """
    lines = [line.strip().removeprefix(">").strip() for line in text.splitlines()]
    lines = [line for line in lines if line and line != "OK." and not line.lower().startswith("think:")]
    return lines[-1] if lines else None


def parse_reply(text: str, rule: ActionRule) -> ThoughtAction:
    """Take thought and action out of a reply.

    Args:
        text: the assistant turn.
        rule: `one`: the line after exactly one `Action:` (TextCraft, BabyAI); `first`: from the first `Action:` to the
            second, or the whole text if there is none (Maze, Wordle, Jericho, PDDL); `last`: after the last `Action:`,
            or the whole text if there is none but a `search[` or `click[` (WebShop, ALFWorld, ScienceWorld, tools).
            An end-of-sequence mark `</s>` at the end of the reply is dropped.
    """
    text = text.strip().removesuffix("</s>")
    labels = list(_ACTION.finditer(text))
    if not labels:
        thought = _THOUGHT.sub("", text).strip()
        if rule == "first" and thought == text.strip() and thought:
            return ThoughtAction("", thought, None)
        if rule == "last" and any(call in text for call in ("search[", "click[")):
            return ThoughtAction("", text.strip(), None)
        return ThoughtAction(thought, None, NO_ACTION)
    label = labels[-1] if rule == "last" else labels[0]
    thought = _THOUGHT.sub("", text[: label.start()]).strip()
    if rule == "one" and len(labels) > 1:
        return ThoughtAction(thought, None, ONE_ACTION)
    end = labels[1].start() if rule == "first" and len(labels) > 1 else None
    body = text[label.end() : end].strip()
    action = body.split("\n", 1)[0].strip() if rule == "one" else body
    return ThoughtAction(thought, action, None) if action else ThoughtAction(thought, None, NO_ACTION)
