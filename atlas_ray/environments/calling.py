"""Acting by tool calls: what a turn with calls does in an environment, and how it is recorded.

An environment publishes its functions (`TextEnv.tools`) and reads their calls (`TextEnv.action_of`). A recorded turn
has its calls as data and, in its text, the thought and the action that they stand for. Episodes are played in
`rollout/episode.py`, imported trajectories are converted in `formats/actions.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

from atlas_ray.environments.contract import TextEnv
from atlas_ray.errors import EnvironmentError
from atlas_ray.react import ThoughtAction, format_reply, parse_reply
from atlas_ray.tool_calls import calls_text, named
from atlas_ray.trajectory import Message, ToolCall, ToolResult

ActionFormat = Literal["react", "tools"]
"""How an action is written: as the text `Action: ...`, or as the call of a function."""
NOTE = (
    "\n\nIn this conversation you act by calling functions, not by writing an action: say in a sentence or two what "
    "you think, and call one function."
)
"""Follows the instruction, which speaks of a thought and an action."""
NO_CALL = "Error: No function was called. Say in a sentence or two what you think, and call one function."
ONE_CALL = "Error: Several functions were called at once, and none was carried out. Call one function at a time."


def opening(first: Message, env: TextEnv) -> Message:
    """The instruction with the functions on offer."""
    tools = json.dumps(env.tools(), ensure_ascii=False)
    return first.model_copy(update={"content": first.content.rstrip() + NOTE, "tools": tools})


def begun(messages: Sequence[Message], env: TextEnv, form: ActionFormat) -> list[Message]:
    """A conversation that was begun elsewhere, so that it goes on in the form."""
    if form == "react":
        plain = {"tool_calls": (), "tool_results": (), "tools": None}
        return [
            message.model_copy(update=plain | {"content": message.content.removesuffix(NOTE)}) for message in messages
        ]
    first, *others = messages
    return list(messages) if any(message.tools for message in messages) else [opening(first, env), *others]


def called(message: Message, env: TextEnv) -> tuple[Message, ThoughtAction]:
    """A turn as it is recorded, and what it does.

    Args:
        message: the turn. Without calls it may be a thought and an action as text, of which a call is made, as experts
            write them.
        env: of the episode.
    """
    calls = named(message.tool_calls, message.step or 0)
    if not calls:
        read = parse_reply(message.content, env.card.action_rule)
        call = None if read.action is None else env.call_of(read.action)
        if call is None:
            return message, ThoughtAction(message.content, None, NO_CALL)
        return message.model_copy(update={"tool_calls": named([call], message.step or 0)}), read
    read = _read(message.content, calls, env)
    text = calls_text(message.content, calls) if read.action is None else format_reply(message.content, read.action)
    return message.model_copy(update={"content": text, "tool_calls": calls}), read


def answer(turn: Message, observation: str) -> Message:
    """The observation after a turn, as the answer to each of its calls."""
    results = tuple(ToolResult(id=call.id, content=observation) for call in turn.tool_calls)
    return Message(role="user", content=observation, tool_results=results)


def _read(spoken: str, calls: Sequence[ToolCall], env: TextEnv) -> ThoughtAction:
    if len(calls) > 1:
        return ThoughtAction(spoken, None, ONE_CALL)
    try:
        return ThoughtAction(spoken, env.action_of(calls[0]), None)
    except EnvironmentError as error:
        return ThoughtAction(spoken, None, str(error))
