"""The Jericho expert: follows a task's walkthrough (TextWorld's or the sub-goal file's) and explains each command."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envs.jericho.env import JerichoEnv

_REASONS = (
    ("take ", "I will need the {rest}."),
    ("open ", "What I need is in or behind the {rest}."),
    ("unlock ", "It has to be unlocked first: {rest}."),
    ("put ", "That is where it belongs: {rest}."),
    ("insert ", "That is where it belongs: {rest}."),
    ("drop ", "I do not need to carry the {rest} any further."),
    ("eat ", "The goal asks me to eat the {rest}."),
    ("examine ", "I should look at the {rest} closely."),
    ("go ", "The way leads {rest}."),
)
_WAYS = frozenset(
    ("north", "south", "east", "west", "up", "down", "n", "s", "e", "w", "u", "d", "ne", "nw", "se", "sw")
)


def reason(command: str) -> str:
    """The thought for a command."""
    if command in _WAYS:
        return f"The way leads {command}."
    for prefix, text in _REASONS:
        if command.startswith(prefix):
            return text.format(rest=command[len(prefix) :])
    return f"What helps here is to {command}."


class JerichoExpert:
    """Plays the walkthrough from where the episode is on it; after its end, or without one, it looks around."""

    def __init__(self, env: JerichoEnv) -> None:
        self._env = env

    def next_action(self, observation: str) -> tuple[str, str]:
        """The first command of the walkthrough that has not been given in its turn; see `Expert`."""
        task = self._env.task
        done = self._env.followed
        if done == len(task.walkthrough):
            return "I have done all that I know of, so I look at where I am.", "look"
        command = task.walkthrough[done]
        thought = reason(command)
        return (f"My goal: {task.goal} {thought}" if done == 0 else thought), command
