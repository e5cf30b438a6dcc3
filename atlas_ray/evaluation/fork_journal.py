"""The journals of episodes that forked off trajectories, read back: which of their rows are whose.

A journal is shared by all that play such episodes, and keeps those of other models and settings. What belongs to a
player is found as when it is played: by the episode's key. Pure; `forked.py` plays the episodes and appends the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

from atlas_ray.config import Playing
from atlas_ray.environments.contract import State
from atlas_ray.rollout.spec import EpisodeSpec, Start
from atlas_ray.store import Store
from atlas_ray.trajectory import Message, Trajectory


class Finished(NamedTuple):
    """A finished episode of a journal."""

    trajectory_id: str
    step: int
    """The first step that it plays itself."""
    sample: int
    reply: Message
    """At that step."""
    score: float


def finished(
    store: Store, journal: tuple[str, ...], trajectories: Mapping[str, Trajectory], player_key: str, playing: Playing,
    versions: Mapping[str, str],
) -> Iterator[Finished]:  # fmt: skip
    """The finished episodes of one player, in the order of the journal; those without a reply are left out.

    Args:
        store: the run directory.
        journal: path of the journal in it.
        trajectories: that the episodes forked off, by id.
        player_key: of the model (`RosterEntry.player_key`).
        playing: how it plays.
        versions: of the environments (`registry.version`).
    """
    turns = {name: _turns(trajectory) for name, trajectory in trajectories.items()}
    seen: set[str] = set()
    for row in store.journal(*journal):
        episode, trajectory = row["episode"], trajectories.get(row["trajectory_id"])
        if trajectory is None or episode["error"] is not None or episode["key"] in seen:
            continue
        step = row["step"]
        if step not in turns[trajectory.trajectory_id] or trajectory.env not in versions:
            continue
        # A key does not depend on the environment's state, which the conversation determines.
        messages = trajectory.messages[: turns[trajectory.trajectory_id][step]]
        start = Start(trajectory.trajectory_id, step, messages, cast(State, None))
        if episode["key"] == _key(episode, row["sample"], start, player_key, playing, versions[trajectory.env]):
            seen.add(episode["key"])
            if episode["messages"]:  # else the context was full
                reply = Message.model_validate(episode["messages"][0])
                yield Finished(trajectory.trajectory_id, step, row["sample"], reply, float(episode["score"]))


def _turns(trajectory: Trajectory) -> dict[int, int]:
    """The turn of each step."""
    return {message.step: turn for turn, message in enumerate(trajectory.messages) if message.step is not None}


def _key(episode: Mapping[str, Any], sample: int, start: Start, player_key: str, playing: Playing, version: str) -> str:
    return EpisodeSpec(
        model="", model_key=player_key, env=episode["env"], task=episode["task"], split=episode["split"],
        seed=episode["seed"], playing=playing, env_version=version, start=start, sample=sample,
    ).key  # fmt: skip
