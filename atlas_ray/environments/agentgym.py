"""AgentGym's HTTP dialects: how each of its environment servers names sessions, tasks and the fields of a response.

The gateway (`http.py`) and the client (`remote.py`) share this table. Its source is AgentGym's `*server.py` and
`agentenv/envs/*.py`. Some of AgentGym's clients tell the agent more than their server sends: the rules of Maze and
Wordle, ALFWorld's list of actions, ScienceWorld's task. The gateway leaves that out, our client adds it.
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
    create: Literal["object", "number", "episode"] = "object"
    """`/create` returns `{"id": n}`, or n, or `{"id": n, "observation": ...}` with an episode begun."""
    create_takes_task: bool = False
    """`/create` has a body, `{"id": item}`."""
    reset: Literal["object", "text", "pair"] = "object"
    """`/reset` returns an object, the observation, or the observation and null."""
    opening: str | None = None
    """The observation of every `/reset`, where the client tells the rest; None: the first observation without rules."""
    vocabulary: bool = False
    """Whether `/filtered_vocab` lists the valid words."""
    observes: Literal["text", "object"] = "text"
    """`/observation` returns the text, or an object as `/step` does."""
    observation: str = "observation"
    """Field of a step's response with the observation."""
    score_scale: float | None = None
    """The largest `score` of a response; None if it has none and clients count `reward`."""
    success_from: float = 1.0
    """The lowest score, out of 1, that is a success."""
    plain_actions: bool = False
    """Whether the client sends an action's letters, digits, commas and blanks alone."""
    lists_actions: bool = False
    """Whether a response has `available_actions`."""


_TOOL = Dialect(session="env_idx", task="id", create="number", create_takes_task=True, reset="text")
DIALECTS: dict[str, Dialect] = {
    "webshop": Dialect(session="env_idx", task="session_id", create="number", reset="pair", observation="state"),
    "alfworld": Dialect(task="game", lists_actions=True),
    "babyai": Dialect(score_scale=1.0, success_from=1e-9, observes="object", plain_actions=True),
    "scienceworld": Dialect(score_scale=100.0),
    "textcraft": Dialect(create="episode", plain_actions=True),
    "maze": Dialect(task="game", prefix="/maze"),
    "wordle": Dialect(task="seed", prefix="/wordle", opening="Let's start Wordle!", vocabulary=True),
    "weather": _TOOL,
    "todo": _TOOL,
    "movie": _TOOL,
    "sheet": _TOOL,
    "academia": _TOOL,
}
"""By environment. An environment that AgentGym does not have uses TextCraft's dialect, with actions as they are.

BabyAI's success scores less for more moves."""


ACTIONS = "\nAVAILABLE ACTIONS: "
"""Precedes ALFWorld's actions, joined by commas, at the end of the first observation."""


def dialect(name: str) -> Dialect:
    """The dialect of an environment."""
    return DIALECTS.get(name) or Dialect(create="episode")
