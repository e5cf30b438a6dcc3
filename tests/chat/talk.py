"""A trajectory from replies and observations, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Sequence

from atlas_ray.trajectory import Message, Trajectory

REPLIES = ["Thought: The goal needs planks.\nAction: get 1 oak logs", "Action: craft 4 oak planks", "Action: inventory"]
OBSERVATIONS = ["Goal: craft oak planks.", "Got 1 oak logs", "Crafted 4 oak planks"]


def make(
    replies: Sequence[str] = REPLIES, observations: Sequence[str] = OBSERVATIONS, *, name: str = "t", system: str = "",
    thoughts: Sequence[str | None] = (),
) -> Trajectory:  # fmt: skip
    """An instruction, its acknowledgement, then observations and replies by turns."""
    turns = [Message(role="system", content=system)] if system else []
    turns += [Message(role="user", content="Do the task."), Message(role="assistant", content="OK.")]
    for step, (observation, reply) in enumerate(zip(observations, replies, strict=True)):
        thinking = thoughts[step] if thoughts else None
        turns += [
            Message(role="user", content=observation),
            Message(role="assistant", content=reply, step=step, thinking=thinking),
        ]
    return raw(turns, name=name)


def raw(turns: Sequence[Message], *, name: str = "t") -> Trajectory:
    """A trajectory of these turns."""
    n_steps = sum(turn.step is not None for turn in turns)
    return Trajectory(trajectory_id=name, env="e", item_id="e_0", source="test", messages=tuple(turns), n_steps=n_steps)


def as_chat(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Messages as transformers takes them."""
    return [{"role": message.role, "content": message.content} for message in messages]
