"""Bodies of the HTTP interface's requests and responses, as its OpenAPI document shows them.

Chat and completion requests list the documented fields. Further fields of OpenAI's or vLLM's are passed on to the
engine, which checks them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from atlas_ray.environments.contract import MAX_ACTION_CHARS

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CalledFunction(_Part):
    """A function and its arguments, as a model wrote them."""

    name: Name
    arguments: str


class MadeCall(_Part):
    """A call that the assistant has made."""

    id: Name
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(BaseModel):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = Field(None, description="only an assistant's turn with tool_calls may lack it")
    tool_calls: list[MadeCall] | None = Field(None, min_length=1, max_length=128)
    tool_call_id: Name | None = Field(None, description="of a turn of role tool: the call that it answers")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and not (self.role == "assistant" and self.tool_calls):
            raise ValueError("content is missing")
        if self.role != "assistant" and self.tool_calls:
            raise ValueError("only an assistant makes tool_calls")
        return self


class OfferedFunction(_Part):
    """A function's name, and the JSON schema of its arguments."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = Field(None, description="whether a demanded call keeps to the schema")


class Tool(_Part):
    """A function on offer."""

    type: Literal["function"] = "function"
    function: OfferedFunction


class NamedFunction(_Part):
    """A function's name."""

    name: Name


class NamedTool(_Part):
    """The function that must be called."""

    type: Literal["function"] = "function"
    function: NamedFunction


class JsonSchema(_Part):
    """A JSON schema that an answer must match."""

    name: Name
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(_Part):
    """The form of an answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if (self.type == "json_schema") is (self.json_schema is None):
            raise ValueError("json_schema is given with type json_schema, and with no other")
        return self


class _Generation(BaseModel):
    model_config = ConfigDict(extra="allow")

    model: Name | None = Field(None, description="as listed by /v1/models; may be left out where there is only one")
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    n: int | None = Field(None, ge=1, le=16)
    seed: int | None = Field(None, ge=0, le=2**63 - 1)
    stop: str | list[str] | None = None
    stream: bool | None = None


class ChatRequest(_Generation):
    """Body of /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=10_000)
    tools: list[Tool] | None = Field(None, min_length=1, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    response_format: ResponseFormat | None = None


class CompletionsRequest(_Generation):
    """Body of /v1/completions."""

    prompt: str


class NewSession(BaseModel):
    """Body of POST /v1/agent/sessions."""

    model_config = ConfigDict(extra="forbid")

    environment: Name
    task: int = Field(0, ge=0)
    split: Literal["train", "test"] = "test"
    seed: int | None = Field(None, ge=0, le=2**31 - 1)
    model: Name | None = Field(None, description="the model that plays; null is the tuned model")


class PersonsAction(BaseModel):
    """Body of POST /v1/agent/sessions/{id}/step."""

    model_config = ConfigDict(extra="forbid")

    action: str = Field(max_length=20 * MAX_ACTION_CHARS)


class PlayedRound(BaseModel):
    """One step and the observation after it."""

    number: int
    by: Literal["agent", "person"]
    thought: str
    action: str | None = Field(description="null when the agent's reply held no usable action")
    text: str
    observation: str
    reward: float


class SessionResponse(BaseModel):
    """The current state of a session."""

    id: str
    environment: str
    task: int
    split: Literal["train", "test"]
    model: str
    instruction: str
    observation: str = Field(description="the first observation")
    rounds: list[PlayedRound]
    score: float = Field(description="the environment's metric so far, in [0, 1]")
    success: bool
    over: bool
    max_rounds: int
    valid_actions: list[str] = Field(description="empty where the environment cannot list them")


class EnvironmentInfo(BaseModel):
    """An environment that sessions can be opened in."""

    name: str
    held_in: bool
    metric: str
    max_rounds: int
    n_train: int
    n_test: int
    source: str


class EnvironmentList(BaseModel):
    """Response of /v1/agent/environments."""

    data: list[EnvironmentInfo]
    unavailable: dict[str, str] = Field(description="reason by name of the environment")


class ErrorDetail(BaseModel):
    """OpenAI's error object."""

    message: str
    type: str
    param: Any = None
    code: str | int | None = None


class Error(BaseModel):
    """Body of every refusal."""

    error: ErrorDetail
