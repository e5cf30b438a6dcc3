"""How a chat template shows tool calls: found out with a conversation that is made for that.

Calls in what a model wrote are read in `inference/call_parser.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from atlas_ray.chat.thinking import CLOSE
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
CALL = ToolCall(id="call00000", name=CALLED, arguments='{"text": "ATLAS"}')
"""The call in `PROBE`."""
PROBE = (
    Message(role="user", content="u", tools=json.dumps(_TOOLS)),
    Message(role="assistant", content=calls_text("", [CALL]), tool_calls=(CALL,)),
    Message(role="user", content=ANSWERED, tool_results=(ToolResult(id=CALL.id, content=ANSWERED),)),
)
"""A conversation with a call."""


def mark_of(written: str, controls: Sequence[str]) -> str:
    """What stands before a call: the last control token before the name of its function; empty where there is none.

    Args:
        written: the reply that makes the call in `PROBE`.
        controls: the tokenizer's control tokens.
    """
    name = written.find(CALLED)
    before = {token: written.rfind(token, 0, max(name, 0)) for token in controls}
    mark = max(before, key=lambda token: before[token], default="")
    return mark if before.get(mark, -1) >= 0 and mark != CLOSE else ""
