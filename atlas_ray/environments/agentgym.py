"""AgentGym's HTTP dialects: how each of its environment servers names ids, tasks and the fields of a reply.

One table for both directions, the gateway (`http.py`) and the client (`remote.py`). Facts from AgentGym's `*server.py`
and `agentenv/envs/*.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Dialect:
    """How one server talks."""

    session: str = "id"
    """The field with a session's number, in bodies and queries."""
    task: str = "data_idx"
    """The field of `/reset` with the item."""
    prefix: str = ""
    """Of every path."""
    create: Literal["object", "number"] = "object"
    """`/create` answers `{"id": n}`, or n."""
    create_takes_task: bool = False
    """`/create` has a body, `{"id": item}`."""
    reset: Literal["object", "text", "pair"] = "object"
    """`/reset` answers an object, the observation, or the observation and null."""
    observation: str = "observation"
    """The field of a step's reply with the observation."""
    score_scale: float | None = None
    """A reply has `score`, from 0 to so much; None: its `reward` is what clients count."""
    success_from: float = 1.0
    """The least score, of 1, that is a success."""
    lists_actions: bool = False
    """A reply has `available_actions`."""


_TOOL = Dialect(session="env_idx", task="id", create="number", create_takes_task=True, reset="text")
DIALECTS: dict[str, Dialect] = {
    "webshop": Dialect(session="env_idx", task="session_id", create="number", reset="pair", observation="state"),
    "alfworld": Dialect(task="game", lists_actions=True),
    "babyai": Dialect(score_scale=1.0, success_from=1e-9),  # less for more rounds, and nothing but for success
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
"""By our name of the environment; others, which AgentGym does not have, speak as TextCraft does."""


def dialect(name: str) -> Dialect:
    """The dialect of an environment."""
    return DIALECTS.get(name, Dialect())
