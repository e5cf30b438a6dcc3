"""Conversations as chat messages: `messages` of role and content (OpenAI's fine-tuning files) and `conversations` of
from and value (ShareGPT's, and axolotl's chat_template with a training flag per turn).

An assistant's turn is a step unless its flag (`weight`, `train`) is off, as in AgentTraj-L. A turn with tool calls
becomes an action in text, a tool's turn an observation. Images and audio are refused: an agent here reads text.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr, model_validator

from atlas_ray.react import format_reply
from atlas_ray.trajectory import Message, Role, Trajectory


class _Open(BaseModel):
    """Base of what may carry more than is read here."""

    model_config = ConfigDict(extra="ignore")


class TextPart(_Open):
    """A piece of a message's text."""

    type: Literal["text"]
    text: StrictStr


class Function(_Open):
    """What a tool call names."""

    name: StrictStr
    arguments: StrictStr = ""
    """JSON, as the model wrote it."""


class ToolCall(_Open):
    """A call in an assistant's turn."""

    function: Function


class ChatTurn(_Open):
    """A message in OpenAI's shape."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: StrictStr | list[TextPart] | None = None
    tool_calls: list[ToolCall] | None = None
    weight: Annotated[int, Field(strict=True, ge=0, le=1)] | None = None
    """Whether an assistant's turn is trained on."""

    @model_validator(mode="after")
    def _has_something(self) -> Self:
        if self.role != "assistant" and (self.weight is not None or self.tool_calls):
            raise ValueError("only an assistant's message has a weight or tool_calls")
        if self.content is None and not self.tool_calls:
            raise ValueError("content is missing")
        return self

    def text(self) -> str:
        """Content, and tool calls as an action."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        if not self.tool_calls:
            return text
        calls = "\n".join(f"{call.function.name} {call.function.arguments}".strip() for call in self.tool_calls)
        return format_reply(text, calls)


class ChatRow(_Open):
    """A line of a chat-message file."""

    messages: list[ChatTurn] = Field(min_length=1)


class SpokenTurn(_Open):
    """A turn in ShareGPT's shape."""

    speaker: Literal["system", "human", "user", "gpt", "assistant", "function_call", "observation", "tool"] = Field(
        alias="from"
    )
    value: StrictStr
    train: StrictBool | None = None
    """axolotl's flag: whether the turn is trained on."""


class SpokenRow(_Open):
    """A line of a ShareGPT file."""

    conversations: list[SpokenTurn] = Field(min_length=1)


def from_chat(row: dict[str, Any]) -> list[Message]:
    """The messages of a row in OpenAI's shape.

    Raises:
        pydantic.ValidationError: it is not in that shape.
    """
    turns = ChatRow.model_validate(row).messages
    roles: dict[str, Role] = {"system": "system", "developer": "system", "assistant": "assistant"}
    return numbered([(roles.get(turn.role, "user"), turn.text(), turn.weight != 0) for turn in turns])


def from_sharegpt(row: dict[str, Any]) -> list[Message]:
    """The messages of a row in ShareGPT's or axolotl's shape.

    Raises:
        pydantic.ValidationError: it is not in that shape.
    """
    turns = SpokenRow.model_validate(row).conversations
    roles: dict[str, Role] = dict.fromkeys(("gpt", "assistant", "function_call"), "assistant")
    roles["system"] = "system"
    return numbered([(roles.get(turn.speaker, "user"), turn.value, turn.train is not False) for turn in turns])


def numbered(turns: list[tuple[Role, str, bool]]) -> list[Message]:
    """Messages from (role, text, whether it is a step if an assistant says it), their steps numbered."""
    messages: list[Message] = []
    n_steps = 0
    for role, text, acts in turns:
        step = n_steps if role == "assistant" and acts else None
        n_steps += step is not None
        messages.append(Message(role=role, content=text, step=step))
    return messages


def to_chat(trajectory: Trajectory, chosen: Collection[int]) -> dict[str, Any]:
    """A row for OpenAI-style fine-tuning: `weight` 1 at the chosen steps, 0 at all other turns of the assistant."""
    turns: list[dict[str, Any]] = []
    for message in trajectory.messages:
        weight = {"weight": int(message.step is not None and message.step in chosen)}
        turns.append(
            {"role": message.role, "content": message.content} | (weight if message.role == "assistant" else {})
        )
    row = {"messages": turns}
    ChatRow.model_validate(row)
    return row


AXOLOTL_DATASET = """\
datasets:
  - path: {path}
    type: chat_template
    field_messages: conversations
    message_property_mappings: {{role: from, content: value}}
    roles_to_train: []
    train_on_eos: turn
    message_field_training: train
"""
"""What an axolotl config says to read the file (axolotl's docs, dataset formats, conversation)."""


def to_axolotl(trajectory: Trajectory, chosen: Collection[int]) -> dict[str, Any]:
    """A row for axolotl's chat_template datasets: `train` true at the chosen steps alone."""
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    turns = [
        {
            "from": names[message.role],
            "value": message.content,
            "train": message.step is not None and message.step in chosen,
        }
        for message in trajectory.messages
    ]
    row = {"conversations": turns}
    SpokenRow.model_validate(row)
    return row
