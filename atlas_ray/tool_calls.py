"""Tool calls: messages as chat turns with calls and answers as data, as OpenAI's API and chat templates take them.

A message has its calls twice: as data, and in its text as a thought and an action, for readers that know no tools. Here
the text is taken apart again. What a call means to an environment is decided there (`TextEnv.action_of`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from atlas_ray.react import format_reply
from atlas_ray.trajectory import Message, ToolCall

ACT = "act"
"""The function that takes any action of an environment as text."""
_ACTION = "\nAction: "
_TOOLS = "Tools:\n"


def call_text(call: ToolCall) -> str:
    """A call as the text of an action, where no environment says how: `open {"object": "drawer"}`."""
    return f"{call.name} {call.arguments}" if call.arguments else call.name


def calls_text(spoken: str, calls: Sequence[ToolCall]) -> str:
    """The text of a turn that makes calls: what it says is the thought, the calls are the action, a line each."""
    return format_reply(spoken, "\n".join(map(call_text, calls)))


def tools_text(tools: str) -> str:
    """Definitions of functions as text, for the end of the turn that offers them."""
    return f"{_TOOLS}{tools}"


def spoken(message: Message) -> str:
    """What a turn says besides its calls and its list of tools."""
    text = message.content
    if message.tools is not None and text.endswith(listed := tools_text(message.tools)):
        text = text.removesuffix(listed).rstrip("\n")
    if message.tool_calls:
        text = text.rpartition(_ACTION)[0].removeprefix("Thought: ")
    return text


def _arguments(call: ToolCall, parsed: bool) -> Any:
    """Arguments that are no JSON object are left out: servers refuse a conversation that has them."""
    found = arguments_of(call)
    if parsed:
        return found if isinstance(found, dict) else {}
    return call.arguments if call.arguments and isinstance(found, dict) else "{}"


def offered(messages: Sequence[Message]) -> list[Any]:
    """The definitions of all functions that the messages offer.

    Raises:
        ValueError: they are no JSON.
    """
    found: list[Any] = []
    for message in messages:
        if message.tools is not None:
            found += _definitions(json.loads(message.tools))
    return found


def _definitions(listed: Any) -> list[Any]:
    """Definitions as chat templates take them; Anthropic's and Gemini's have other frames."""
    found: list[Any] = []
    for each in listed if isinstance(listed, list) else [listed]:
        if not isinstance(each, dict):
            continue
        declared = each.get("functionDeclarations", each.get("function_declarations"))
        if declared is not None:
            found += _definitions(declared)
        elif "name" in each and "function" not in each:
            names = ("name", "description", "parameters")
            plain = {name: each[name] for name in names if name in each} | (
                {"parameters": each["input_schema"]} if "input_schema" in each else {}
            )
            found.append({"type": "function", "function": plain})
        else:
            found.append(each)
    return found


def named(calls: Sequence[ToolCall], step: int) -> tuple[ToolCall, ...]:
    """The calls of a step with ids, which some templates and endpoints demand: nine letters and digits."""
    return tuple(
        call if call.id else call.model_copy(update={"id": f"call{step:04}{number % 10}"})
        for number, call in enumerate(calls)
    )


def arguments_of(call: ToolCall) -> Any:
    """The arguments as JSON data; the text itself where it is none."""
    try:
        return json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        return call.arguments


def chat_turns(message: Message, *, parsed: bool) -> list[dict[str, Any]]:
    """A message as turns with `tool_calls` and of role `tool`; none where it only lists tools.

    Args:
        message: any; one without calls and answers is a turn of role and content.
        parsed: arguments as data, as chat templates take them; else as text, as OpenAI's API does.
    """
    if message.tool_results:
        return [
            {"role": "tool", "tool_call_id": result.id, "content": result.content} for result in message.tool_results
        ]
    if message.tool_calls:
        return [spoken_turn(spoken(message), message.tool_calls, parsed=parsed)]
    says = spoken(message)
    return [{"role": message.role, "content": says}] if says or message.tools is None else []


def spoken_turn(text: str, calls: Sequence[ToolCall], *, parsed: bool = False) -> dict[str, Any]:
    """An assistant's turn from what it says and the calls that it makes; see `chat_turns`."""
    return {"role": "assistant", "content": text} | calls_of(calls, parsed=parsed)


def calls_of(calls: Sequence[ToolCall], *, parsed: bool) -> dict[str, Any]:
    """The field of a turn that has its calls; empty where there are none. See `chat_turns`."""
    listed = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _arguments(call, parsed)}}
        for call in calls
    ]
    return {"tool_calls": listed} if listed else {}
