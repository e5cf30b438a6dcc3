"""Reading the Agent Data Protocol (neulab/agent-data-protocol, arXiv 2510.24702).

Every action becomes a step, written as a thought and an action. Consecutive observations become one message. Fields of
newer schema versions are counted in the notes. Image observations are refused, because agents here read text. Nothing
is written in this format.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StrictStr, TypeAdapter, ValidationError

from atlas_ray.formats.turns import Malformed, Turn, numbered, shown
from atlas_ray.react import format_reply
from atlas_ray.trajectory import ToolCall, ToolResult


class _Item(BaseModel):
    model_config = ConfigDict(extra="ignore")


class ApiAction(_Item):
    """A call of a function."""

    class_: Literal["api_action"]
    function: StrictStr
    arguments: dict[str, Any] = Field(validation_alias=AliasChoices("kwargs"))
    description: StrictStr | None = None

    def text(self) -> str:
        """The action as a reply in ReAct form."""
        arguments = ", ".join(
            f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in self.arguments.items()
        )
        return format_reply(self.description or "", f"{self.function}({arguments})")

    def call(self) -> ToolCall:
        """The action as data."""
        return ToolCall(name=self.function, arguments=json.dumps(self.arguments, ensure_ascii=False))


class CodeAction(_Item):
    """Code that the agent ran; here it is only text."""

    class_: Literal["code_action"]
    language: StrictStr
    content: StrictStr
    description: StrictStr | None = None

    def text(self) -> str:
        """The action as a reply in ReAct form."""
        return format_reply(self.description or "", f"{self.language}\n{self.content}")


class MessageAction(_Item):
    """A message to the user."""

    class_: Literal["message_action"]
    content: StrictStr
    description: StrictStr | None = None

    def text(self) -> str:
        """The action as a reply in ReAct form."""
        return format_reply(self.description, self.content) if self.description else self.content


class TextObservation(_Item):
    """Text that the agent reads."""

    class_: Literal["text_observation"]
    content: StrictStr
    source: StrictStr

    def text(self) -> str:
        """The observation as text."""
        return self.content


class WebObservation(_Item):
    """A web page that the agent reads."""

    class_: Literal["web_observation"]
    html: StrictStr | None = None
    axtree: StrictStr | None = None
    url: StrictStr | None = None

    def text(self) -> str:
        """The page as text: its accessibility tree where there is one."""
        return "\n".join(part for part in (self.url, self.axtree or self.html) if part)


Item = Annotated[
    ApiAction | CodeAction | MessageAction | TextObservation | WebObservation, Field(discriminator="class_")
]


_ITEM: TypeAdapter[Item] = TypeAdapter(Item)


def from_adp(items: list[Any], field: str, notes: set[str]) -> list[dict[str, Any]]:
    """The messages of a row, as `Trajectory` takes them.

    Args:
        items: actions and observations.
        field: the row's name of them.
        notes: takes what the row has besides.

    Raises:
        Malformed: an item is not in that format.
    """
    turns: list[Turn] = []
    for index, value in enumerate(items):
        item = _item(value, f"{field}.{index}")
        unknown = value.keys() - type(item).model_fields.keys() - _EXPECTED
        notes.update(f"field {name!r} of an item: no place for it" for name in unknown if value[name])
        if isinstance(item, ApiAction | CodeAction | MessageAction):
            calls = (item.call(),) if isinstance(item, ApiAction) else ()
            turns.append(Turn("assistant", item.text(), True, "call" if calls else "", calls))
        elif index == 0 and isinstance(item, TextObservation) and item.source == "system":
            turns.append(Turn("system", item.text(), None, ""))
        elif turns and turns[-1].role == "user":
            text = f"{turns[-1].text}\n\n{item.text()}"
            results = (ToolResult(content=text),) if turns[-1].results else ()
            turns[-1] = turns[-1]._replace(text=text, results=results)
        else:
            results = (ToolResult(content=item.text()),) if turns and turns[-1].calls else ()
            turns.append(Turn("user", item.text(), None, "", (), results))
    return numbered(turns)


_EXPECTED = {"kwargs", "tool_call_id", "viewport_size", "name", "timestamp"}
"""Fields of the protocol that say nothing to an agent that reads text."""


def _item(value: Any, where: str) -> Any:
    try:
        return _ITEM.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(str(part) for part in (where, *first["loc"]))
        raise Malformed(f"field {at}: {first['msg']}, found {shown(first['input'])}") from error
