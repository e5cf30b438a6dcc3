"""Reading the Agent Data Protocol (neulab/agent-data-protocol, arXiv 2510.24702).

Every action becomes a step, written as a thought and an action. Consecutive observations become one message. Fields of
newer schema versions are ignored. Image observations are refused, because agents here read text. Nothing is written in
this format.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StrictStr

from atlas_ray.formats.messages import numbered
from atlas_ray.react import format_reply
from atlas_ray.trajectory import Message, Role


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


class AdpRow(_Item):
    """A line of an ADP file."""

    id: StrictStr = Field(min_length=1)
    content: list[Item] = Field(min_length=1)


def from_adp(row: dict[str, Any]) -> list[Message]:
    """The messages of a row.

    Raises:
        pydantic.ValidationError: the row is not in that format.
    """
    turns: list[tuple[Role, str, bool]] = []
    for index, item in enumerate(AdpRow.model_validate(row).content):
        if isinstance(item, ApiAction | CodeAction | MessageAction):
            turns.append(("assistant", item.text(), True))
        elif index == 0 and isinstance(item, TextObservation) and item.source == "system":
            turns.append(("system", item.text(), False))
        elif turns and turns[-1][0] == "user":
            turns[-1] = ("user", f"{turns[-1][1]}\n\n{item.text()}", False)
        else:
            turns.append(("user", item.text(), False))
    return numbered(turns)
