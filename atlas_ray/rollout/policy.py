"""Who acts: a model behind an engine, the environment's expert, or chance.

A policy sees the episode through `reply()` alone, and answers with the text of the assistant's next turn.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from atlas_ray.chat import Conversation
from atlas_ray.environments.contract import TextEnv
from atlas_ray.errors import EnvironmentError
from atlas_ray.inference.engine import Generation
from atlas_ray.react import format_reply
from atlas_ray.trajectory import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Turn:
    """An assistant turn and what it cost; `text` is None when the context left no room for one."""

    text: str | None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Policy(Protocol):
    """Plays one episode."""

    async def reply(self, turns: list[Message]) -> Turn:
        """The assistant's next turn.

        Args:
            turns: what was said since this policy's last turn; the last is the observation to answer.
        """
        ...


class RandomPolicy:
    """A uniformly random valid action, the floor of every table.

    Args:
        env: in its episode.
        seed: of this episode.

    Raises:
        EnvironmentError: (in `reply`) the environment cannot list its actions.
    """

    def __init__(self, env: TextEnv, seed: str) -> None:
        self._env = env
        self._random = random.Random(seed)

    async def reply(self, turns: list[Message]) -> Turn:
        """An action, without a thought."""
        actions = self._env.valid_actions()
        if not actions:
            raise EnvironmentError(f"{self._env.card.name}: it lists no valid actions, so there is no random policy")
        return Turn(f"Action: {self._random.choice(actions)}")


class ExpertPolicy:
    """The environment's own expert."""

    def __init__(self, env: TextEnv) -> None:
        self._expert = env.expert()

    async def reply(self, turns: list[Message]) -> Turn:
        """The expert's thought and action."""
        return Turn(format_reply(*self._expert.next_action(turns[-1].content)))


Generate = Callable[..., Awaitable[Generation]]


class ModelPolicy:
    """A model: the conversation is tokenised as it grows, and never twice.

    Args:
        tokenizer: of the model.
        generate: `Engine.generate`, local or remote.
        max_len: the engine's context in tokens.
        max_new_tokens: per turn.
        temperature: 0 is greedy.
        seed: of the sampling.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, generate: Generate, *, max_len: int, max_new_tokens: int,
        temperature: float, seed: int,
    ) -> None:  # fmt: skip
        self._conversation = Conversation(tokenizer)
        self._generate = generate
        self._max_len, self._max_new_tokens = max_len, max_new_tokens
        self._temperature, self._seed = temperature, seed

    async def reply(self, turns: list[Message]) -> Turn:
        """Generate the next turn; None as its text when the conversation has outgrown the context."""
        for turn in turns:
            self._conversation.add(turn)
        ids = self._conversation.prompt()
        if len(ids) + self._max_new_tokens > self._max_len:
            return Turn(None)
        answer = await self._generate(
            ids, max_tokens=self._max_new_tokens, temperature=self._temperature, seed=self._seed
        )
        text = answer.text.strip()
        self._conversation.reply(text, answer.ids)
        return Turn(text, len(ids), len(answer.ids))
