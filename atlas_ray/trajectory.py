"""The rows that flow through the pipeline: `Trajectory`, `Selection`, `Episode` and `StepPreference`; Arrow schemas.

Frozen pydantic models: what is validated here is what is stored in Parquet and JSON Lines. No ray, no torch.
Steps are numbered from 0; a step is one assistant turn that acts (an acknowledgement is none).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Annotated, Any, Literal, Self

import pyarrow as pa
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Role = Literal["system", "user", "assistant"]
Split = Literal["train", "test"]


class StoredRow(BaseModel):
    """Base of every stored row: frozen, and closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ToolCall(StoredRow):
    """A call of a function, as in OpenAI's chat messages."""

    id: str = ""
    """Names it in the answer; empty where the source names none."""
    name: str
    arguments: str = ""
    """JSON text of an object, as it was written; empty: none."""


class ToolResult(StoredRow):
    """The answer to a call."""

    id: str = ""
    """Of the call."""
    content: str


def _listed(values: Any) -> Any:
    return () if values is None else values  # Parquet has nothing where a message has none


def _is_empty(values: Any) -> bool:
    return not values


class Message(StoredRow):
    """One turn of a conversation."""

    role: Role
    content: str
    step: int | None = None
    """Number of the step that this assistant turn is; None for a turn that is not a step."""
    thinking: str | None = Field(None, exclude_if=lambda thinking: thinking is None)
    """What an assistant wrote for itself before `content`, without the marks around it; None: nothing is known."""
    tool_calls: Annotated[tuple[ToolCall, ...], BeforeValidator(_listed)] = Field((), exclude_if=_is_empty)
    """The calls of functions that an assistant's turn makes; `content` has them as text too, as thought and action."""
    tool_results: Annotated[tuple[ToolResult, ...], BeforeValidator(_listed)] = Field((), exclude_if=_is_empty)
    """The answers to calls that a turn brings; `content` has their texts too."""
    tools: str | None = Field(None, exclude_if=_is_empty)
    """JSON text of the definitions of the functions that this turn offers."""


class Trajectory(StoredRow):
    """An expert's conversation with an environment.

    The assistant turns that act are numbered 0 .. n_steps - 1 in order.
    """

    trajectory_id: str
    env: str
    """Name of the environment, as in the registry (`textcraft`)."""
    item_id: str
    """The task in its source's own words: AgentTraj-L's item_id, or `<env>_<task>` for collected ones."""
    split: Split = "train"
    source: str
    """Where it comes from: `expert`, `policy` (a model of the run), or the imported file's name."""
    messages: tuple[Message, ...]
    n_steps: int
    reward: float | None = None
    """Score at the end, in [0, 1]; None when the source does not tell."""
    success: bool | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _steps_are_numbered(self) -> Self:
        steps = [message.step for message in self.messages if message.step is not None]
        if steps != list(range(self.n_steps)):
            raise ValueError(f"steps must be numbered 0..{self.n_steps - 1} in order, found {steps}")
        if any(message.role != "assistant" for message in self.messages if message.step is not None):
            raise ValueError("only an assistant turn can be a step")
        return self

    @property
    def is_imported(self) -> bool:
        """Whether it was played elsewhere, so that its texts may differ from those of the environment here."""
        return self.source not in ("expert", "policy")

    @property
    def failed(self) -> bool:
        """Whether its source tells that it did not reach the goal."""
        return has_failed(self.success, self.reward)

    @property
    def steps(self) -> list[Message]:
        """The assistant turns that are steps, in order."""
        return [message for message in self.messages if message.step is not None]


def has_failed(success: bool | None, reward: float | None) -> bool:
    """Whether a trajectory's source tells that it did not reach the goal: by its success, else by a reward below 1."""
    return success is False or (success is None and reward is not None and reward < 1)


class Usage(StoredRow):
    """What an answer cost."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0


class Selection(StoredRow):
    """The steps of one trajectory that a selection method calls critical, or the error that kept it from an answer."""

    trajectory_id: str
    method: str
    ratio: float
    steps: tuple[int, ...] = ()
    """Critical steps, ascending."""
    weights: tuple[float, ...] | None = None
    """One weight in (0, 1] per critical step, beside `steps`; None: every weight is 1."""
    scores: tuple[float, ...] | None = None
    """One score a step of the trajectory (perplexity, value difference), higher is more critical."""
    categories: tuple[str, ...] | None = None
    """One category a critical step, beside `steps`."""
    plan: str | None = None
    reason: str | None = None
    error: str | None = None
    """`<kind>: <detail>`; such a row has no steps."""
    usage: Usage = Usage()
    provenance: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if list(self.steps) != sorted(set(self.steps)) or any(step < 0 for step in self.steps):
            raise ValueError(f"steps must be ascending, distinct and >= 0, found {self.steps}")
        if self.categories is not None and len(self.categories) != len(self.steps):
            raise ValueError("categories must stand beside steps, one each")
        if self.weights is not None and len(self.weights) != len(self.steps):
            raise ValueError(f"there must be one weight per step, found {len(self.weights)} for {len(self.steps)}")
        if not all(0 < weight <= 1 for weight in self.weights or ()):
            raise ValueError(f"weights must be in (0, 1], found {self.weights}")
        if self.error is not None and self.steps:
            raise ValueError("a selection with an error has no steps")
        return self

    def weight_of(self) -> dict[int, float]:
        """The weight of every critical step."""
        return dict(zip(self.steps, self.weights or (1.0,) * len(self.steps), strict=True))


Stop = Literal["done", "max_rounds", "context", "tokens", "no_action", "deadline", "error"]


class Episode(StoredRow):
    """One finished episode of a model in an environment: a line of `evaluation/<model>/<env>.jsonl`."""

    key: str
    """Content hash of everything that determines the episode: model, environment, options, task, seed, sampling."""
    model: str
    env: str
    task: int
    split: Split
    seed: int
    messages: tuple[Message, ...]
    score: float
    """The environment's metric at the end, in [0, 1]."""
    success: bool
    rounds: int
    stop: Stop
    """Why it ended: `done` by the environment, a cap, or an error."""
    error: str | None = None
    """Set when `stop` is `error`: such an episode counts as an error, never as a zero."""
    prompt_tokens: int = 0
    """Of all of its model calls together."""
    cached_tokens: int = 0
    """Prompt tokens among them that an engine's prefix cache held."""
    completion_tokens: int = 0
    environment_steps: int = 0
    """Steps that environments made for it, those of replays included."""
    faults: int = 0
    """Times that a live service behind the environment failed; to the agent each was an observation."""
    seconds: float = 0.0
    kinds: tuple[str, ...] | None = None
    """What every step is (`environments.styles.Kind`), where an expert played."""

    @property
    def split_task(self) -> tuple[Split, int]:
        """What identifies the task in its environment: evaluated items are of both splits."""
        return self.split, self.task


class Alternative(StoredRow):
    """One action at a state, and how the episodes that took it went on."""

    reply: Message
    """Thought and action."""
    action: str | None
    """As the environment reads it; None where the reply has none."""
    value: float
    """Mean score of these episodes."""
    count: int
    """How many they are."""
    by: Literal["expert", "policy"]
    """Whose the reply is."""


class StepPreference(StoredRow):
    """Two actions at one state, one of them better: what direct preference optimization learns from."""

    trajectory_id: str
    env: str
    item_id: str
    step: int
    """Number of the step that either action would be."""
    history: tuple[Message, ...]
    """The conversation up to there; the last turn is the observation to answer."""
    better: Alternative
    worse: Alternative
    p_value: float
    """Of the difference, one-sided (`selection.preferences.exact_p`)."""


_USAGE = pa.struct([("prompt_tokens", pa.int64()), ("completion_tokens", pa.int64()), ("cost_usd", pa.float64())])
_MESSAGE = pa.struct(
    [
        ("role", pa.string()), ("content", pa.string()), ("step", pa.int32()), ("thinking", pa.string()),
        ("tool_calls", pa.list_(pa.struct([("id", pa.string()), ("name", pa.string()), ("arguments", pa.string())]))),
        ("tool_results", pa.list_(pa.struct([("id", pa.string()), ("content", pa.string())]))),
        ("tools", pa.string()),
    ]
)  # fmt: skip

TRAJECTORY_SCHEMA = pa.schema(
    [
        ("trajectory_id", pa.string()),
        ("env", pa.string()),
        ("item_id", pa.string()),
        ("split", pa.string()),
        ("source", pa.string()),
        ("messages", pa.list_(_MESSAGE)),
        ("n_steps", pa.int32()),
        ("reward", pa.float64()),
        ("success", pa.bool_()),
        ("metadata", pa.string()),
    ]
)
SELECTION_SCHEMA = pa.schema(
    [
        ("trajectory_id", pa.string()),
        ("method", pa.string()),
        ("ratio", pa.float64()),
        ("steps", pa.list_(pa.int32())),
        ("weights", pa.list_(pa.float64())),
        ("scores", pa.list_(pa.float64())),
        ("categories", pa.list_(pa.string())),
        ("plan", pa.string()),
        ("reason", pa.string()),
        ("error", pa.string()),
        ("usage", _USAGE),
        ("provenance", pa.string()),
    ]
)
_JSON_FIELDS = ("metadata", "provenance")


def to_row(model: Trajectory | Selection) -> dict[str, Any]:
    """The model as a plain row of its Arrow schema; free-form dicts become JSON text with sorted keys."""
    row = model.model_dump(mode="json")
    for name in _JSON_FIELDS:
        if name in row:
            row[name] = _json(row[name])
    return row


def _from_row(row: dict[str, Any]) -> dict[str, Any]:
    fields = dict(row)
    for name in _JSON_FIELDS:
        if name in fields:
            fields[name] = json.loads(fields[name] or "{}")
    return fields


def trajectory_from_row(row: dict[str, Any]) -> Trajectory:
    """Inverse of `to_row` for a row read from Parquet."""
    return Trajectory.model_validate(_from_row(row))


def selection_from_row(row: dict[str, Any]) -> Selection:
    """Inverse of `to_row` for a row read from Parquet."""
    return Selection.model_validate(_from_row(row))


def trajectories_to_table(trajectories: Sequence[Trajectory]) -> pa.Table:
    """An Arrow table in `TRAJECTORY_SCHEMA`, one row a trajectory.

    Column by column: rows as dictionaries would take four times as long, and an import writes many.
    """
    turns = [vars(message) for trajectory in trajectories for message in trajectory.messages]
    parts = [_column(turns, field) for field in _MESSAGE]
    ends = [0, *accumulate(len(trajectory.messages) for trajectory in trajectories)]
    columns = {
        field.name: pa.array([getattr(trajectory, field.name) for trajectory in trajectories], field.type)
        for field in TRAJECTORY_SCHEMA
        if field.name not in ("messages", "metadata")
    }
    columns["messages"] = pa.ListArray.from_arrays(
        pa.array(ends, pa.int32()), pa.StructArray.from_arrays(parts, fields=list(_MESSAGE))
    )
    columns["metadata"] = pa.array([_json(trajectory.metadata) for trajectory in trajectories], pa.string())
    return pa.table([columns[name] for name in TRAJECTORY_SCHEMA.names], schema=TRAJECTORY_SCHEMA)


def _column(turns: Sequence[Mapping[str, Any]], field: pa.Field) -> pa.Array:
    """A field of all messages; nothing where a message has no calls or answers."""
    values = [turn[field.name] for turn in turns]
    if pa.types.is_list(field.type):
        values = [[each.model_dump() for each in value] if value else None for value in values] if any(values) else []
    if values.count(None) == len(values):
        return pa.nulls(len(turns), field.type)
    return pa.array(values, field.type)


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def selections_to_table(selections: Sequence[Selection]) -> pa.Table:
    """An Arrow table in `SELECTION_SCHEMA`, one row a selection."""
    return pa.Table.from_pylist([to_row(selection) for selection in selections], SELECTION_SCHEMA)
