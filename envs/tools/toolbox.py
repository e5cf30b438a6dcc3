"""The table of actions of a tool environment: names, signatures, and the text that describes them to an agent.

A signature is a pydantic model made from the parameters. Arguments are checked against it before a backend sees them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema, create_model

from envs.tools.grammar import ArgumentError, shorten


class Parameter(NamedTuple):
    """One argument of a tool."""

    type: Any
    """A type that pydantic checks, such as float, str, Literal[...], list[list[Any]] or Annotated[int, Field(ge=1)]."""
    shown: str
    """The type as the instruction names it: "number", "string", "array[string]", ..."""
    description: str = ""
    default: Any = ...
    """What it is when left out; `...` if it must be given."""


class _Arguments(BaseModel):
    """Numbers may come as numerals and texts as numbers, as models write them; nothing else is bent."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Tool:
    """One action.

    Attributes:
        name: Its name, and that of the backend's method.
        description: What it does.
        parameters: Its arguments by name, in order.
        returns: What it gives, as the lines under "Returns:" in the instruction.
        changes: Whether it changes what the episode's later actions see.
    """

    name: str
    description: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    returns: str = ""
    changes: bool = False

    @property
    def text(self) -> str:
        """The tool's entry in the instruction, in the form of AgentBoard's prompts."""
        lines = [f"Name: {self.name}({', '.join(self.parameters)})", f"Description: {self.description}"]
        if self.parameters:
            lines.append("Parameters:")
            for name, parameter in self.parameters.items():
                about = f": {parameter.description}" if parameter.description else ""
                lines.append(f"- {name} (Type: {parameter.shown}){about}")
        if self.returns:
            lines += ["Returns:", self.returns]
        return "\n".join(lines)

    @property
    def summary(self) -> str:
        """What it does and what it returns, for the definition of a function."""
        return f"{self.description} Returns: {self.returns}" if self.returns else self.description


CHECK_VALID_ACTIONS = Tool(
    "check_valid_actions", "List the names of all actions.", returns="- actions (Type: array): The names."
)
_ANSWER = Annotated[Any, WithJsonSchema({"type": ["string", "number", "array"]})]
"""Taken as it comes; the schema names the types for models whose calls are no JSON."""
FINISH = Tool(
    "finish",
    "Give the answer and end the task.",
    {"answer": Parameter(_ANSWER, "string, number or array", "The answer; 'done' where only a change was asked for.")},
)


def _signature(tool: Tool) -> type[_Arguments]:
    fields: dict[str, Any] = {
        name: (parameter.type, Field(default=parameter.default)) for name, parameter in tool.parameters.items()
    }
    return create_model(tool.name, __base__=_Arguments, **fields)


class Toolbox:
    """The tools of one environment, `check_valid_actions` and `finish` among them (its own ones, if it has any)."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        own = {tool.name: tool for tool in tools}
        self._tools = own | {tool.name: tool for tool in (CHECK_VALID_ACTIONS, FINISH) if tool.name not in own}
        self._models = {name: _signature(tool) for name, tool in self._tools.items()}

    @property
    def names(self) -> list[str]:
        """All names, in the order of the table."""
        return list(self._tools)

    def get(self, name: str) -> Tool | None:
        """The tool of that name, or None."""
        return self._tools.get(name)

    def check(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as the backend's method takes them: of the right types, defaults filled in.

        Raises:
            ArgumentError: One is missing, unknown or of the wrong type; the text names it.
        """
        try:
            model = self._models[name].model_validate(arguments)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = shorten(".".join(map(str, first["loc"])), 40)
            takes = ", ".join(f"{n} ({p.shown})" for n, p in self._tools[name].parameters.items()) or "no arguments"
            raise ArgumentError(f"{where}: {first['msg']}; {name} takes {takes}") from None
        return dict(model)

    def definitions(self) -> list[dict[str, Any]]:
        """The tools as functions with JSON schemas of their signatures, in OpenAI's form."""
        return [
            {
                "type": "function",
                "function": {"name": name, "description": tool.summary, "parameters": self._schema(name)},
            }
            for name, tool in self._tools.items()
        ]

    def _schema(self, name: str) -> dict[str, Any]:
        schema = self._models[name].model_json_schema()
        properties = schema.setdefault("properties", {})
        for parameter, about in self._tools[name].parameters.items():
            properties[parameter].pop("title", None)
            if about.description:
                properties[parameter]["description"] = about.description
        return {key: value for key, value in schema.items() if key not in ("title", "description")}

    def instruction(self, hint: str, example: str) -> str:
        """The user turn that opens an episode: the tools, the reply format and an example.

        Args:
            hint: What an agent must know of this environment beyond its tools, in a sentence or two.
            example: A short worked example, from "Goal:" to the last "Observation:".
        """
        tools = "\n\n".join(tool.text for tool in self._tools.values())
        return (
            "You help people by calling actions. These are the actions, with what they take and what they return:\n"
            f"{tools}\n\n{hint} When you know the answer or have done what was asked, call finish.\n"
            "Think in at most three sentences, then give one action, always in this format:\n"
            "Thought: [your thought]\n\nAction: [your action] with Action Input: [your action input]\n\n"
            f"An example:\n\n{example}\n"
        )
