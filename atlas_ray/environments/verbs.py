"""The verbs of a text environment as functions: `go to {place}` is `go_to(place)`, and its calls are those actions.

An action becomes a call and the call that action again, letter by letter. An environment whose actions follow no such
forms offers one function, `act`, that takes any text (`TextEnv.tools`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from atlas_ray.errors import EnvironmentError
from atlas_ray.tool_calls import arguments_of
from atlas_ray.trajectory import ToolCall

_SLOT = re.compile(r"\{(\w+)\}")
_TEXT = r"[^\n]+?"


@dataclass(frozen=True)
class Verb:
    """A form of actions."""

    form: str
    """The text of an action, with a name in braces for each part that varies: `take {thing} from {place}`. The words
    before the first of them are the function's name."""
    about: str
    """What it does."""
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """All texts that a part can have, where that is known."""

    @property
    def name(self) -> str:
        """Of the function."""
        return "_".join(re.findall(r"\w+", _SLOT.split(self.form)[0]))

    @property
    def parts(self) -> list[str]:
        """Names of the parts that vary, in order."""
        return _SLOT.findall(self.form)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        def part(name: str) -> str:
            return f"(?P<{name}>{'|'.join(map(re.escape, self.choices.get(name, ()))) or _TEXT})"

        pieces = _SLOT.split(self.form)  # text and names by turns
        return re.compile("".join(part(each) if n % 2 else re.escape(each) for n, each in enumerate(pieces)))

    def read(self, action: str) -> dict[str, str] | None:
        """The parts of an action; None for one of another form."""
        found = self._pattern.fullmatch(action)
        return None if found is None else found.groupdict()

    def written(self, parts: Mapping[str, str]) -> str:
        """The action with these parts."""
        return _SLOT.sub(lambda slot: parts[slot[1]], self.form)

    def definition(self) -> dict[str, Any]:
        """The function, with the JSON schema of its arguments, in OpenAI's form."""
        properties = {
            part: {"type": "string"} | ({"enum": list(self.choices[part])} if part in self.choices else {})
            for part in self.parts
        }
        schema = {
            "type": "object", "properties": properties, "required": self.parts, "additionalProperties": False,
        }  # fmt: skip
        return {"type": "function", "function": {"name": self.name, "description": self.about, "parameters": schema}}


def call_of(verbs: Sequence[Verb], action: str) -> ToolCall | None:
    """The call that stands for an action: of the first verb that it has the form of; None where it has none's."""
    for verb in verbs:
        parts = verb.read(action)
        if parts is not None:
            return ToolCall(name=verb.name, arguments=json.dumps(parts, ensure_ascii=False))
    return None


def action_of(verbs: Sequence[Verb], call: ToolCall) -> str:
    """The action that a call stands for.

    Raises:
        EnvironmentError: there is no such function, or its arguments are others; the text is what the caller is told.
    """
    verb = next((verb for verb in verbs if verb.name == call.name), None)
    if verb is None:
        raise EnvironmentError(
            f"Error: there is no function {call.name[:40]!r}; call one of {', '.join(verb.name for verb in verbs)}."
        )
    found = arguments_of(call)
    parts = found if isinstance(found, dict) else {}
    texts = {name: text for name, text in parts.items() if isinstance(text, str)}
    if parts.keys() != set(verb.parts) or len(texts) < len(parts) or verb.read(verb.written(texts)) is None:
        wants = ", ".join(
            f"{part} ({' or '.join(verb.choices[part]) if part in verb.choices else 'text of one line'})"
            for part in verb.parts
        )
        raise EnvironmentError(f"Error: {verb.name} takes {wants or 'no arguments'}.")
    return verb.written(texts)
