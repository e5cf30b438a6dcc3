"""Conversations as people store them: from the turns of a row to messages with numbered steps.

A turn has a role (`role` or `from`) and a text (`content`, `value` or `text`: a string, or parts). Tool calls become an
action in text, a tool's answer an observation. An assistant's turn is a step, unless the training flag that it has is
off, or it is the acknowledgement that opens an episode ("OK."). Images and audio are refused, because agents here read
text. Whatever a turn has besides is counted in the notes. The Agent Data Protocol's items are in `adp.py`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from atlas_ray.tool_calls import calls_text
from atlas_ray.trajectory import Role, ToolCall, ToolResult

ROLE_KEYS = ("role", "from", "speaker")
TEXT_KEYS = ("content", "value", "text", "parts")
FLAGS = (
    "loss", "train", "training", "trainable", "weight", "loss_weight", "loss_scale", "loss_mask", "train_on_turn",
    "is_trained", "learn",
)  # fmt: skip
"""Names of a turn's training flag: AgentGym's, axolotl's, OpenAI's and others; true, or a weight above 0, is a step."""
REASONING = ("reasoning_content", "reasoning", "thinking")
_CALLS = ("tool_calls", "function_call")
_ASSISTANT = ("assistant", "gpt", "model", "agent", "bot", "chatgpt", "ai", "function_call", "policy")
_SYSTEM = ("system", "developer")
_TOOL = (
    "tool", "function", "observation", "environment", "env", "ipython", "tool_response", "tool_result",
    "function_response", "function_call_output",
)  # fmt: skip
_USER = ("user", "human")
_RICH = frozenset((*_TOOL, "function_call"))
"""Roles of turns that are, or may be, tool calls and their answers."""
ROLES: dict[str, Role] = {
    **dict.fromkeys(_ASSISTANT, "assistant"), **dict.fromkeys(_SYSTEM, "system"),
    **dict.fromkeys((*_USER, *_TOOL), "user"),
}  # fmt: skip
_READ = frozenset((*ROLE_KEYS, *TEXT_KEYS, *FLAGS, *REASONING, *_CALLS, "type", "tool_call_id", "id", "call_id"))
_READ_OF_ITEMS = _READ | {"name", "arguments", "output", "status", "summary"}
_ROLE_KEYS, _TEXT_KEYS = frozenset(ROLE_KEYS), frozenset(TEXT_KEYS)
_ACKNOWLEDGEMENT = re.compile(
    r"(ok(ay)?|sure|understood|got it|all ?right|certainly|of course|yes|noted|ready|i understand|i see)"
    r"([.!,;]*|[.!,;]\s*"
    r"(((ok(ay)?|sure|understood|got it|i|let's|let me|please|what|how|you|ready|my)\b|i['\u2019]|thank)"
    r"[^\n\[\](){}:>]{0,200}))",
    re.IGNORECASE,
)
"""Agrees, and says nothing more than that one will."""


class Malformed(ValueError):
    """A row that is no conversation; the text names the field, what was expected and what was found."""


def malformed(field: str, expected: str, found: Any) -> Malformed:
    """The error of a field."""
    return Malformed(f"field {field}: expected {expected}, found {shown(found)}")


def shown(value: Any) -> str:
    """A value in a message, on one line and cut short."""
    try:
        text = json.dumps(value, ensure_ascii=True, default=repr)
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= 80 else f"{text[:77]}..."


class Turn(NamedTuple):
    """A turn as it is read."""

    role: Role
    text: str
    flag: bool | None
    """Whether it is trained on; None: the row does not say."""
    kind: str
    """`tool` for a tool's answer, `call` for a turn with tool calls, else the empty text."""
    calls: tuple[ToolCall, ...] = ()
    results: tuple[ToolResult, ...] = ()
    thinking: str = ""


def conversation(items: Sequence[Any], field: str, notes: set[str], *, reasoning: bool = False) -> list[dict[str, Any]]:
    """The messages of a row, as `Trajectory` takes them.

    Args:
        items: the row's turns.
        field: the row's name of them.
        notes: takes what was read in another way than it was written, or not at all.
        reasoning: keep an assistant's reasoning that the row has apart from its text, as the message's thinking.

    Raises:
        Malformed: it is no conversation.
    """
    turns: list[Turn] = []
    for index, item in enumerate(items):
        turn = _turn(item, f"{field}.{index}", notes, reasoning)
        if turn is None:
            continue
        if turn.kind == "tool" and turns and turns[-1].kind == "tool":  # answers to calls that were made together
            together = turns[-1].results + turn.results if turns[-1].results and turn.results else ()
            turns[-1] = turns[-1]._replace(text=f"{turns[-1].text}\n\n{turn.text}", results=together)
        else:
            turns.append(turn)
    return numbered(turns)


def numbered(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """Messages with numbered steps; calls without an id get one, and their answers have it too."""
    opening = _acknowledgement(turns)
    messages: list[dict[str, Any]] = []
    waiting: list[str] = []
    n_steps = n_calls = 0
    for index, turn in enumerate(turns):
        step = None
        if turn.role == "assistant" and (index != opening if turn.flag is None else turn.flag):
            step = n_steps
            n_steps += 1
        message: dict[str, Any] = {"role": turn.role, "content": turn.text, "step": step}
        if turn.thinking:
            message["thinking"] = turn.thinking
        if turn.calls:
            message["tool_calls"] = calls = [
                call if call.id else call.model_copy(update={"id": f"call{number:05}"})
                for number, call in enumerate(turn.calls, n_calls)
            ]
            n_calls += len(calls)
            waiting = [call.id for call in calls]
        elif turn.results and len(turn.results) <= len(waiting):  # others are observations, whatever their role
            ids = iter(waiting)
            message["tool_results"] = [
                result if result.id else result.model_copy(update={"id": next(ids)}) for result in turn.results
            ]
            waiting = []
        messages.append(message)
    return messages


def count_steps(messages: Sequence[Mapping[str, Any]]) -> int:
    """The number of steps among messages from `conversation`."""
    return sum(message["step"] is not None for message in messages)


def _acknowledgement(turns: Sequence[Turn]) -> int | None:
    """The index of the assistant's answer to the instructions that open an episode, if there is one.

    It is the assistant's first turn, only acknowledges, and is followed by another turn that is not the assistant's.
    """
    first = next((index for index, turn in enumerate(turns) if turn.role == "assistant"), None)
    if first is None or first == 0 or first + 1 >= len(turns) or turns[first + 1].role == "assistant":
        return None
    turn = turns[first]
    return first if not turn.kind and _ACKNOWLEDGEMENT.fullmatch(turn.text.strip()) else None


def _turn(item: Any, where: str, notes: set[str], reasoning: bool) -> Turn | None:
    if not isinstance(item, dict):
        raise malformed(where, "a turn (an object)", item)
    name = text = flag = None
    for key, value in item.items():  # most turns have a role, a text and at most a flag
        if value is None:
            continue
        if key in _TEXT_KEYS and text is None and isinstance(value, str):
            text = value
        elif key in _ROLE_KEYS and name is None and isinstance(value, str) and value in ROLES and value not in _RICH:
            name = value
        elif key == "loss" and isinstance(value, bool):
            flag = value
        else:
            return _rich_turn(item, where, notes, reasoning)
    if text and name and (not flag or ROLES[name] == "assistant"):
        return Turn(ROLES[name], text, flag, "")
    return _rich_turn(item, where, notes, reasoning)


def _rich_turn(item: dict[str, Any], where: str, notes: set[str], reasoning: bool) -> Turn | None:
    """A turn with flags, tool calls, reasoning, parts, or anything else."""
    name, kind = _speaker(item, where, notes)
    role = ROLES.get(name, "user")
    parts = _Parts()
    key = "output" if name == "function_call_output" else _first(item, TEXT_KEYS) or "content"
    _read_parts(item.get(key), f"{where}.{key}", parts, tool=kind == "tool")
    calls = [*parts.calls, *_calls(item, where)]
    if name == "function_call" and not calls and (written := _written_calls(parts.text(), f"{where}.{key}")):
        calls, parts.texts = written, []
    thoughts = [each for field in REASONING if (each := _thought(item.get(field)))] or parts.thoughts
    flag = _flag(item, where, notes)
    if role != "assistant":
        if calls:
            raise malformed(f"{where}.tool_calls", "none in a turn that is not the assistant's", item.get("tool_calls"))
        if flag:
            notes.add("training flags on turns that are not the assistant's: ignored")
        if parts.results:
            kind = "tool"
    text = parts.text()
    if text is None and not calls and not thoughts:
        if name == "reasoning":
            return None
        if kind != "tool":
            raise malformed(f"{where}.{key}", "a text", item.get(key))
        text = ""
    thinking = ""
    if role == "assistant":
        text, thinking = _said(text or "", calls, thoughts)
        if thinking and not reasoning:
            notes.add("reasoning beside an assistant's text: left out; collect.reasoning keeps it")
        if not text:
            notes.add("assistant's turns without text: read as steps")
    for field in item.keys() - (_READ if any(key in item for key in ROLE_KEYS) else _READ_OF_ITEMS):
        if item[field] not in (None, "", [], {}):
            notes.add(f"field {field!r} of a turn: no place for it")
    results = tuple(parts.results)
    if kind == "tool" and not results:
        results = (ToolResult(id=_identity(item, "tool_call_id", "call_id"), content=text or ""),)
    elif "\n\n".join(result.content for result in results) != text:  # it says more than answers
        results = ()
    thinking = thinking if reasoning else ""
    return Turn(role, text or "", flag, "call" if calls else kind, tuple(calls), results, thinking)


def _said(text: str, calls: list[ToolCall], thoughts: list[str]) -> tuple[str, str]:
    """An assistant's text, with its tool calls as an action, and its reasoning beside it."""
    thought = "\n".join(thoughts)
    if calls and thought and not text.strip():  # the reason for the call: what a ReAct step calls its thought
        text, thought = thought, ""
    if calls:
        text = calls_text(text, calls)
    return text, thought.strip()


def _speaker(item: dict[str, Any], where: str, notes: set[str]) -> tuple[str, str]:
    """Whose turn it is, and its kind."""
    key = _first(item, ROLE_KEYS)
    name = item[key] if key is not None else item.get("type")
    if not isinstance(name, str) or not name:
        raise malformed(f"{where}.{key or 'role'}", "a role's name", name)
    name = name.lower() if name not in ROLES else name
    if name == "reasoning":
        return name, ""
    if name == "message":
        raise malformed(f"{where}.role", "a role's name", None)
    if name not in ROLES:
        notes.add(f"unknown role {name[:40]!r}: read as an observation")
    return name, "tool" if name in _TOOL else ""


class _Parts:
    """What a turn's content holds."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.calls: list[ToolCall] = []
        self.thoughts: list[str] = []
        self.results: list[ToolResult] = []

    def text(self) -> str | None:
        """The text, None where there is none."""
        return "".join(self.texts) if self.texts else None


def _read_parts(content: Any, where: str, parts: _Parts, *, tool: bool) -> None:
    if isinstance(content, str):
        parts.texts.append(content)
    elif isinstance(content, list):
        for index, part in enumerate(content):
            _read_part(part, f"{where}.{index}", parts, tool)
    elif isinstance(content, dict) and tool:
        parts.texts.append(json.dumps(content, ensure_ascii=False))
    elif content is not None:
        raise malformed(where, "a text", content)


def _read_part(part: Any, where: str, parts: _Parts, tool: bool) -> None:
    if isinstance(part, str):
        parts.texts.append(part)
        return
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(part, dict) and kind is None and _read_keyed_part(part, where, parts):
        return
    if not isinstance(part, dict) or (kind is None and not isinstance(part.get("text"), str)):
        if tool:
            parts.texts.append(json.dumps(part, ensure_ascii=False))
            return
        raise malformed(where, "a part with a text", part)
    text = part.get("text", part.get("refusal"))
    if kind in (None, "text", "input_text", "output_text", "refusal") and isinstance(text, str):
        parts.texts += ["\n\n", text] if parts.results else [text]
    elif kind in ("thinking", "reasoning", "summary_text"):
        if thought := _thought(part.get("thinking", part.get("text", part.get("reasoning")))):
            parts.thoughts.append(thought)
    elif kind == "redacted_thinking":
        return
    elif kind == "tool_use":
        parts.calls.append(_call(part.get("name"), part.get("input"), where, _identity(part, "id")))
    elif kind in ("tool_result", "tool_response"):
        _read_result(part.get("content"), f"{where}.content", parts, _identity(part, "tool_use_id", "tool_call_id"))
    else:
        raise malformed(f"{where}.type", "text (agents here read no images or audio)", kind)


def _read_keyed_part(part: dict[str, Any], where: str, parts: _Parts) -> bool:
    """A part whose kind is the name of its field, as Gemini and Bedrock write them; whether it is one."""
    key = next((key for key in part if isinstance(part[key], dict)), "")
    inner = part.get(key, {})
    if key in ("functionCall", "function_call"):
        parts.calls.append(_call(inner.get("name"), inner.get("args"), f"{where}.{key}", _identity(inner, "id")))
    elif key == "toolUse":
        identity = _identity(inner, "toolUseId")
        parts.calls.append(_call(inner.get("name"), inner.get("input"), f"{where}.{key}", identity))
    elif key in ("functionResponse", "function_response"):
        _read_result(inner.get("response"), f"{where}.{key}.response", parts, _identity(inner, "id"))
    elif key == "toolResult":
        _read_result(inner.get("content"), f"{where}.{key}.content", parts, _identity(inner, "toolUseId"))
    elif key == "reasoningContent":
        parts.thoughts += filter(None, [_thought(inner.get("reasoningText"))])
    elif part.get("thought") is True and isinstance(part.get("text"), str):
        parts.thoughts.append(part["text"].strip())
    else:
        return False
    return True


def _read_result(content: Any, where: str, parts: _Parts, identity: str) -> None:
    """The answer to a call, which a turn has beside others."""
    found = _Parts()
    _read_parts(content, where, found, tool=True)
    if parts.texts:
        parts.texts.append("\n\n")
    parts.texts.append(found.text() or "")
    parts.results.append(ToolResult(id=identity, content=parts.texts[-1]))


def words(value: Any) -> str:
    """The text of a field that is a string, or has parts of text; empty where there is none."""
    if isinstance(value, str):
        return value
    listed = value.get("parts", [value]) if isinstance(value, dict) else value
    texts = [part.get("text") for part in listed if isinstance(part, dict)] if isinstance(listed, list) else []
    return "".join(text for text in texts if isinstance(text, str))


def _identity(item: Mapping[str, Any], *keys: str) -> str:
    return next((item[key] for key in keys if isinstance(item.get(key), str)), "")


def _thought(value: Any) -> str:
    """Reasoning as a text: a string, or parts of one."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list):
        return "\n".join(filter(None, (_thought(part) for part in value)))
    if isinstance(value, dict):
        return _thought(value.get("text", value.get("content", value.get("thinking"))))
    return ""


def _written_calls(text: str | None, where: str) -> list[ToolCall]:
    """The calls that a turn of ShareGPT's role `function_call` has as JSON in its text; none if that is other text."""
    written = parsed(text)
    listed = written if isinstance(written, list) else [written]
    if not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in listed):
        return []
    return [_call(call["name"], call.get("arguments", call.get("parameters")), where) for call in listed]


def _calls(item: dict[str, Any], where: str) -> list[ToolCall]:
    """The tool calls of a turn."""
    found = []
    listed = parsed(item.get("tool_calls"))
    if listed and not isinstance(listed, list):
        raise malformed(f"{where}.tool_calls", "a list of calls", listed)
    for index, call in enumerate(listed or ()):
        function = call.get("function", call) if isinstance(call, dict) else None
        at = f"{where}.tool_calls.{index}"
        if isinstance(function, str):  # the name alone, its arguments beside it
            function = call
        if not isinstance(function, dict):
            raise malformed(at, "a call of a function", call)
        name = function.get("name", function.get("function"))
        arguments = function.get("arguments", function.get("parameters"))
        found.append(_call(name, arguments, at, _identity(call, "id", "call_id")))
    legacy = parsed(item.get("function_call"))
    if isinstance(legacy, dict):
        found.append(_call(legacy.get("name"), legacy.get("arguments"), f"{where}.function_call"))
    elif legacy:
        raise malformed(f"{where}.function_call", "a call of a function", legacy)
    if item.get("type") == "function_call" and not any(key in item for key in ROLE_KEYS):
        found.append(_call(item.get("name"), item.get("arguments"), where, _identity(item, "call_id", "id")))
    return found


def _call(name: Any, arguments: Any, where: str, identity: str = "") -> ToolCall:
    if not isinstance(name, str) or not name:
        raise malformed(f"{where}.name", "a function's name", name)
    if arguments is None:
        arguments = ""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return ToolCall(id=identity, name=name, arguments=text)


def _flag(item: dict[str, Any], where: str, notes: set[str]) -> bool | None:
    """Whether the turn is trained on: every flag that it has must be on."""
    said: list[bool] = []
    for name in FLAGS:
        value = item.get(name)
        if value is None:
            continue
        if isinstance(value, str) and value.lower() in ("true", "false", "0", "1"):
            value = value.lower() in ("true", "1")
        if not isinstance(value, bool | int | float) or not math.isfinite(value) or not 0 <= value <= 1:
            raise malformed(f"{where}.{name}", "true, false, or a weight from 0 to 1", value)
        if 0 < value < 1:
            notes.add("training weights between 0 and 1: read as steps, the weight has no place")
        said.append(value > 0)
    return all(said) if said else None


def parsed(value: Any) -> Any:
    """The value, decoded where it is the text of a JSON list or object."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _first(item: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    """The first of the keys that the item has a value for, else the first that it has."""
    held = [key for key in keys if key in item]
    return next((key for key in held if item[key] is not None), held[0] if held else None)
