"""The expert of the tool environments: plays a task as its template prescribes, seeing only what tools return.

It keeps no state between steps. At each step it runs through the template's play from the beginning, takes results of
calls that were already made from the episode's log, and stops at the first call that was not. So it can take over an
episode at any step, and does not repeat the calls of the agent before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from envs.tools.grammar import format_call
from envs.tools.tasks import Play, Step

if TYPE_CHECKING:
    from envs.tools.env import ToolEnv


class ToolExpert:
    """Plays what `play` yields in the running episode of `env`."""

    def __init__(self, env: ToolEnv, play: Callable[[], Play]) -> None:
        self._env = env
        self._play = play

    def next_action(self, observation: str) -> tuple[str, str]:
        """See `Expert`."""
        play = self._play()
        step = next(play)
        start = 0
        while (index := self._find(step, start)) is not None:
            tool = self._env.toolbox.get(step.name)
            if tool is not None and tool.changes:
                start = index + 1  # what was read before a change may be stale
            step = play.send(self._env.log[index].value)
        return step.thought, format_call(step.name, step.arguments)

    def _find(self, step: Step, start: int) -> int | None:
        """The latest call of the log from `start` on that is the step's, or the first if it changes something."""
        try:
            arguments = self._env.toolbox.check(step.name, step.arguments)
        except ValueError as error:
            raise AssertionError(f"the expert's own call is wrong: {error}") from error
        tool = self._env.toolbox.get(step.name)
        indices = range(start, len(self._env.log))
        for index in indices if tool is not None and tool.changes else reversed(indices):
            call = self._env.log[index]
            if call.name == step.name and call.arguments == arguments:
                return index
        return None
