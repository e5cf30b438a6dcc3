"""AgentGym's HTTP dialects: how each of its environment servers names sessions, tasks and the fields of a response.

The gateway (`http.py`) and the client (`remote.py`) share this table. Its source is AgentGym's `*server.py` and
`agentenv/envs/*.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Dialect:
    """The names and forms that one server uses."""

    session: str = "id"
    """Field with the session's number, in bodies and queries."""
    task: str = "data_idx"
    """Field of `/reset` with the item."""
    prefix: str = ""
    """Prefix of every path."""
    create: Literal["object", "number"] = "object"
    """`/create` returns `{"id": n}`, or n."""
    create_takes_task: bool = False
    """`/create` has a body, `{"id": item}`."""
    reset: Literal["object", "text", "pair"] = "object"
    """`/reset` returns an object, the observation, or the observation and null."""
    observation: str = "observation"
    """Field of a step's response with the observation."""
    score_scale: float | None = None
    """The largest `score` of a response; None if it has none and clients count `reward`."""
    success_from: float = 1.0
    """The lowest score, out of 1, that is a success."""
    lists_actions: bool = False
    """Whether a response has `available_actions`."""


_TOOL = Dialect(session="env_idx", task="id", create="number", create_takes_task=True, reset="text")
DIALECTS: dict[str, Dialect] = {
    "webshop": Dialect(session="env_idx", task="session_id", create="number", reset="pair", observation="state"),
    "alfworld": Dialect(task="game", lists_actions=True),
    "babyai": Dialect(score_scale=1.0, success_from=1e-9),  # lower for more rounds, and 0 without success
    "scienceworld": Dialect(score_scale=100.0),
    "textcraft": Dialect(),
    "maze": Dialect(task="game", prefix="/maze"),
    "wordle": Dialect(task="seed", prefix="/wordle"),
    "weather": _TOOL,
    "todo": _TOOL,
    "movie": _TOOL,
    "sheet": _TOOL,
    "academia": _TOOL,
}
"""By environment. An environment that AgentGym does not have uses TextCraft's dialect."""


def dialect(name: str) -> Dialect:
    """The dialect of an environment."""
    return DIALECTS.get(name, Dialect())
