"""Thought/Action text: the only place that parses and formats it.

A reply in AgentGym's ReAct form is `Thought:\\n...\\n\\nAction:\\n...`, or both on the lines of their labels. How many
actions a reply may hold, and which one counts, differs between environments upstream (AgentGym's clients); the
three rules are below. What an action means is the environment's business.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

ActionRule = Literal["one", "first", "last"]

_ACTION = re.compile(r"Action:[ \t]*", re.IGNORECASE)
_THOUGHT = re.compile(r"^\s*Thought:\s*", re.IGNORECASE)

ONE_ACTION = "Error: Only one 'Action' is allowed per response. Please adjust your response."
NO_ACTION = "Error: No action found. Reply with a thought and one action: 'Thought: ...' and then 'Action: ...'."


class Reply(NamedTuple):
    """What a reply says; exactly one of `action` and `problem` is None."""

    thought: str
    action: str | None
    problem: str | None
    """The observation that answers a reply without a usable action."""


def format_reply(thought: str, action: str) -> str:
    """A step's text as experts write it: `Thought: ...` and `Action: ...`, a line each."""
    return f"Thought: {thought}\nAction: {action}"


def parse_reply(text: str, rule: ActionRule) -> Reply:
    """Take thought and action out of a reply.

    Args:
        text: the assistant turn.
        rule: `one`: exactly one `Action:` (TextCraft, BabyAI); `first`: after the first `Action:`, or the whole text
            if there is none (Maze, Wordle); `last`: after the last `Action:` (WebShop, ALFWorld, ScienceWorld, tools).
    """
    labels = list(_ACTION.finditer(text))
    if not labels:
        thought = _THOUGHT.sub("", text).strip()
        if rule == "first" and thought == text.strip() and thought:
            return Reply("", thought, None)
        return Reply(thought, None, NO_ACTION)
    label = labels[-1] if rule == "last" else labels[0]
    thought = _THOUGHT.sub("", text[: label.start()]).strip()
    if rule == "one" and len(labels) > 1:
        return Reply(thought, None, ONE_ACTION)
    body = text[label.end() :].strip()
    action = body.split("\n", 1)[0].strip() if rule == "one" else body
    return Reply(thought, action, None) if action else Reply(thought, None, NO_ACTION)
