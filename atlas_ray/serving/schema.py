"""Bodies of the HTTP interface's requests and responses, as its OpenAPI document shows them.

Chat and completion requests list the documented fields. Further fields of OpenAI's or vLLM's are passed on to the
engine, which checks them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from atlas_ray.environments.contract import MAX_ACTION_CHARS

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class ChatMessage(BaseModel):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


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
