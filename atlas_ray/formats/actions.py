"""How the actions of imported trajectories are written: as text, or as calls of their environment's functions.

A turn that cannot be converted stays as it is, and is counted in the notes.
"""

from __future__ import annotations

from atlas_ray.environments import calling, registry
from atlas_ray.environments.calling import ActionFormat
from atlas_ray.environments.contract import TextEnv
from atlas_ray.errors import AtlasError
from atlas_ray.tool_calls import spoken
from atlas_ray.trajectory import Message, Trajectory


class Actions:
    """Converts trajectories.

    Args:
        form: `react`: thought and action as text; `tools`: calls as data, and the functions in the first turn; None: as
            they come, but the text of a call in the words of its environment, so that it can be played again.
    """

    def __init__(self, form: ActionFormat | None) -> None:
        self._form = form
        self._made: dict[str, TextEnv | None] = {}

    def of(self, trajectory: Trajectory, notes: set[str]) -> Trajectory:
        """The trajectory in the form."""
        if self._form is None and not any(vars(message)["tool_calls"] for message in trajectory.messages):
            return trajectory
        env = self._environment(trajectory.env)
        turn = {None: self._in_words, "react": self._as_text, "tools": self._as_call}[self._form]
        messages: list[Message] = []
        for message in trajectory.messages:
            messages.append(turn(message, messages[-1] if messages else None, env, notes))
        if self._form == "tools" and env is not None and not any(message.tools for message in messages):
            first = next((index for index, message in enumerate(messages) if message.role != "assistant"), None)
            if first is not None:
                messages[first] = calling.opening(messages[first], env)
        return trajectory.model_copy(update={"messages": tuple(messages)})

    def _environment(self, name: str) -> TextEnv | None:
        if name not in self._made:
            try:
                self._made[name] = registry.make(name) if name in registry.names() else None
            except AtlasError:  # its engine or its data is not here: nothing can be said of its actions
                self._made[name] = None
        return self._made[name]

    @staticmethod
    def _in_words(message: Message, before: Message | None, env: TextEnv | None, notes: set[str]) -> Message:
        """The turn, whose text has a call of the environment's functions as the environment's own action."""
        if not message.tool_calls or env is None:
            return message
        said, read = calling.called(message.model_copy(update={"content": spoken(message)}), env)
        if read.action is None:
            notes.add("tool calls that are no single call of the environment's functions: kept as they are")
            return message
        return said

    @classmethod
    def _as_text(cls, message: Message, before: Message | None, env: TextEnv | None, notes: set[str]) -> Message:
        """The turn without data."""
        said = cls._in_words(message, before, env, notes)
        return said.model_copy(update={"tool_calls": (), "tool_results": (), "tools": None})

    @classmethod
    def _as_call(cls, message: Message, before: Message | None, env: TextEnv | None, notes: set[str]) -> Message:
        """The turn with its call, or the observation as the answer to the call before it."""
        if message.tool_calls or message.tool_results:
            return cls._in_words(message, before, env, notes)
        if message.step is not None:
            if env is None:
                notes.add("actions of an environment that cannot be made here: no functions, kept as text")
                return message
            said, read = calling.called(message, env)
            if read.action is None or not said.tool_calls:
                notes.add("steps without an action that a function stands for: kept as text")
            return said
        if before is not None and before.tool_calls and message.role == "user":
            return calling.answer(before, message.content)
        return message
