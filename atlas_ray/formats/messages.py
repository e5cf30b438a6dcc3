"""Reading and writing chat messages: OpenAI's fine-tuning files, ShareGPT's, and axolotl's chat_template datasets.

OpenAI's rows have `messages` of `role` and `content`; ShareGPT's and axolotl's have `conversations` of `from` and
`value`. An assistant's turn is a step unless its flag (`weight` or `train`) is off. A turn with tool calls becomes an
action in text, a tool's turn an observation. Images and audio are refused, because agents here read text. The flags
cannot hold the weight of a step.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr, model_validator

from atlas_ray.react import format_reply
from atlas_ray.trajectory import Message, Role, Trajectory


class _Open(BaseModel):
    """A JSON object whose unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore")


class TextPart(_Open):
    """One text part of a message."""

    type: Literal["text"]
    text: StrictStr


class Function(_Open):
    """The function and arguments of a tool call."""

    name: StrictStr
    arguments: StrictStr = ""
    """JSON text, as the model wrote it."""


class ToolCall(_Open):
    """A tool call in an assistant's turn."""

    function: Function


class ChatTurn(_Open):
    """A message in OpenAI's format."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: StrictStr | list[TextPart] | None = None
    tool_calls: list[ToolCall] | None = None
    weight: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)] | None = None
    """How much an assistant's turn counts in training; OpenAI's own files have 0 or 1."""

    @model_validator(mode="after")
    def _has_something(self) -> Self:
        if self.role != "assistant" and (self.weight is not None or self.tool_calls):
            raise ValueError("only an assistant's message has a weight or tool_calls")
        if self.content is None and not self.tool_calls:
            raise ValueError("content is missing")
        return self

    def text(self) -> str:
        """The content, followed by the tool calls as an action."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        if not self.tool_calls:
            return text
        calls = "\n".join(f"{call.function.name} {call.function.arguments}".strip() for call in self.tool_calls)
        return format_reply(text, calls)


class ChatRow(_Open):
    """A row of an OpenAI file."""

    messages: list[ChatTurn] = Field(min_length=1)


class SpokenTurn(_Open):
    """A turn in ShareGPT's format."""

    speaker: Literal["system", "human", "user", "gpt", "assistant", "function_call", "observation", "tool"] = Field(
        alias="from"
    )
    value: StrictStr
    train: StrictBool | None = None
    """axolotl's flag: whether the turn is trained on."""


class SpokenRow(_Open):
    """A row of a ShareGPT file."""

    conversations: list[SpokenTurn] = Field(min_length=1)


def from_chat(row: dict[str, Any]) -> list[Message]:
    """The messages of a row in OpenAI's format.

    Raises:
        pydantic.ValidationError: the row is not in that format.
    """
    turns = ChatRow.model_validate(row).messages
    roles: dict[str, Role] = {"system": "system", "developer": "system", "assistant": "assistant"}
    return numbered([(roles.get(turn.role, "user"), turn.text(), turn.weight != 0) for turn in turns])


def from_sharegpt(row: dict[str, Any]) -> list[Message]:
    """The messages of a row in ShareGPT's or axolotl's format.

    Raises:
        pydantic.ValidationError: the row is not in that format.
    """
    turns = SpokenRow.model_validate(row).conversations
    roles: dict[str, Role] = dict.fromkeys(("gpt", "assistant", "function_call"), "assistant")
    roles["system"] = "system"
    return numbered([(roles.get(turn.speaker, "user"), turn.value, turn.train is not False) for turn in turns])


def numbered(turns: list[tuple[Role, str, bool]]) -> list[Message]:
    """Messages with numbered steps, from (role, text, whether an assistant's turn is a step)."""
    messages: list[Message] = []
    n_steps = 0
    for role, text, acts in turns:
        step = n_steps if role == "assistant" and acts else None
        n_steps += step is not None
        messages.append(Message(role=role, content=text, step=step))
    return messages


def to_chat(trajectory: Trajectory, weights: Mapping[int, float]) -> dict[str, Any]:
    """A row for OpenAI-style fine-tuning: `weight` at every turn of the assistant, 0 where it is no chosen step.

    Args:
        trajectory: what to write.
        weights: of the chosen steps, in (0, 1]; a weight of 1 is written as the integer that OpenAI asks for.
    """
    turns: list[dict[str, Any]] = []
    for message in trajectory.messages:
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.role == "assistant":
            weight = 0 if message.step is None else weights.get(message.step, 0)
            turn["weight"] = int(weight) if weight in (0, 1) else weight
        turns.append(turn)
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
"""The section of an axolotl config that reads the file (axolotl's docs, dataset formats, conversation)."""


def to_axolotl(trajectory: Trajectory, chosen: Collection[int]) -> dict[str, Any]:
    """A row for axolotl's chat_template datasets: `train` is true only at the chosen steps."""
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
