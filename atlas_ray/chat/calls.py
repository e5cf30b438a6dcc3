"""Tool calls in what a model wrote: read as its chat template writes them.

A call is a JSON object with a name and arguments, behind a mark such as `<tool_call>` or `[TOOL_CALLS]`, or alone. How
a template writes it is found out with a conversation made for that. Templates that write calls in another form (XML)
can be trained on; their models are played behind an endpoint that reads the calls (vLLM with `--tool-call-parser`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from atlas_ray.errors import ModelError
from atlas_ray.tool_calls import calls_text
from atlas_ray.trajectory import Message, ToolCall, ToolResult

OFFERED, CALLED, ANSWERED = "atlas_offered", "atlas_called", "ATLAS-ANSWERED"
"""What a template that knows tools shows of `PROBE`."""
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name, "description": "A function.",
            "parameters": {"type": "object", "properties": {"text": {"type": "string", "description": "A text."}}},
        },
    }
    for name in (OFFERED, CALLED)
]  # fmt: skip
_CALL = ToolCall(id="call00000", name=CALLED, arguments='{"text": "ATLAS"}')
PROBE = (
    Message(role="user", content="u", tools=json.dumps(_TOOLS)),
    Message(role="assistant", content=calls_text("", [_CALL]), tool_calls=(_CALL,)),
    Message(role="user", content=ANSWERED, tool_results=(ToolResult(id=_CALL.id, content=ANSWERED),)),
)
"""A conversation with a call."""
_OBJECT = re.compile(r"\{")


class CallForm(NamedTuple):
    """How a template writes calls."""

    mark: str
    """Stands before the calls; empty: a call is all that a reply has."""
    name: str
    """The field with the function's name."""
    arguments: str
    """The field with the arguments."""


def form_of(written: str, controls: Sequence[str]) -> CallForm:
    """The form of a reply that makes the call in `PROBE`.

    Args:
        written: the reply as the template writes it.
        controls: the tokenizer's added tokens; the last one before the call is its mark.

    Raises:
        ModelError: the call is no JSON object with a name and arguments.
    """
    for begin, value in _objects(written):
        names = [key for key, inner in value.items() if inner == CALLED]
        arguments = [key for key, inner in value.items() if inner == {"text": "ATLAS"}]
        if len(names) == len(arguments) == 1:
            before = {token: written.rfind(token, 0, begin) for token in controls}
            mark = max(before, key=lambda token: before[token], default="")
            return CallForm(mark if before.get(mark, -1) >= 0 and mark != "</think>" else "", names[0], arguments[0])
    raise ModelError(
        f"the chat template writes a tool call as {written.strip()[:80]!r}, which is not read here; serve the model "
        "with vLLM's --tool-call-parser and evaluate it as an endpoint, or set evaluate.action_format to react"
    )


def split_calls(text: str, form: CallForm) -> tuple[str, tuple[ToolCall, ...]]:
    """What a reply says, and the calls that it makes; what is no whole call is left in the text."""
    begin = text.find(form.mark) if form.mark else 0
    if begin < 0 or not (form.mark or text.lstrip().startswith("{")):
        return text, ()
    calls = tuple(
        ToolCall(name=_utf8(value[form.name]), arguments=_utf8(json.dumps(value[form.arguments], ensure_ascii=False)))
        for _, value in _objects(text, begin)
        if isinstance(value.get(form.name), str) and isinstance(value.get(form.arguments), dict)
    )
    return (text[:begin].strip(), calls) if calls else (text, ())


def _utf8(text: object) -> str:
    """A text without the half characters that JSON's escapes can spell and UTF-8 cannot hold."""
    return str(text).encode("utf-8", "replace").decode()


def _objects(text: str, start: int = 0) -> list[tuple[int, dict[str, object]]]:
    """The JSON objects in a text with their positions; none inside another."""
    decoder, found = json.JSONDecoder(), []
    while (match := _OBJECT.search(text, start)) is not None:
        start = match.start() + 1
        try:
            value, end = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        found.append((match.start(), value))
        start = end
    return found
