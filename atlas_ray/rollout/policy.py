"""Policies: a model behind an engine or an endpoint, the environment's expert, or random actions.

A policy is asked for the text of the assistant's next turn and sees no more of the episode than the turns so far. How
a call reaches an engine or an endpoint is decided in `player.py`.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from atlas_ray.chat import Conversation
from atlas_ray.chat.thinking import split
from atlas_ray.environments.contract import TextEnv
from atlas_ray.environments.styles import ExpertStyle, StyledExpert
from atlas_ray.errors import EngineError, EnvironmentError
from atlas_ray.inference.types import CallError, Generation, Reply
from atlas_ray.react import format_reply
from atlas_ray.rollout.spec import EpisodeSpec
from atlas_ray.tool_calls import chat_turns, named, offered, spoken_turn
from atlas_ray.trajectory import Message, ToolCall

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_THOUGHT, _ACTION = "Thought:", "Action:"


@dataclass(frozen=True)
class PolicyTurn:
    """An assistant turn and what it cost; `text` is None when the context left no room for one."""

    text: str | None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    thinking: str | None = None
    """What the model wrote for itself before the text (`Message.thinking`)."""
    kind: str | None = None
    """What a step of a styled expert is (`styles.Kind`)."""
    calls: tuple[ToolCall, ...] = ()
    """The functions that it calls beside the text, as data."""


class Policy(Protocol):
    """Plays one episode."""

    def reply(self, turns: list[Message], timeout_s: float) -> PolicyTurn:
        """The assistant's next turn.

        Args:
            turns: the turns since this policy's last one; the last turn is the observation to answer. The first call
                gets the whole conversation so far, whose steps are the expert's.
            timeout_s: seconds that are left to answer.

        Raises:
            TimeoutError: there was no answer within them.
        """
        ...


class RandomPolicy:
    """Plays valid actions drawn uniformly at random: the chance level of every table.

    Args:
        env: in its episode.
        seed: of this episode.

    Raises:
        EnvironmentError: (in `reply`) the environment cannot list its actions.
    """

    def __init__(self, env: TextEnv, seed: str) -> None:
        self._env = env
        self._random = random.Random(seed)

    def reply(self, turns: list[Message], timeout_s: float) -> PolicyTurn:
        """An action, without a thought."""
        actions = self._env.valid_actions()
        if not actions:
            raise EnvironmentError(f"{self._env.card.name}: it lists no valid actions, so there is no random policy")
        return PolicyTurn(f"Action: {self._random.choice(actions)}")


class ExpertPolicy:
    """The environment's own expert, with a habit if its style has one.

    Args:
        env: in its episode.
        style: of the expert.
        seed: varies the habit.
    """

    def __init__(self, env: TextEnv, style: ExpertStyle | None = None, seed: int = 0) -> None:
        style = style or ExpertStyle()
        self._expert = StyledExpert(env, style.style, style.rate, seed)

    def reply(self, turns: list[Message], timeout_s: float) -> PolicyTurn:
        """The expert's thought and action, and what kind of step it is."""
        text = format_reply(*self._expert.next_action(turns[-1].content))
        return PolicyTurn(text, kind=self._expert.last_kind)


def reference_policy(name: str, env: TextEnv, spec: EpisodeSpec) -> Policy:
    """The policy that needs no model: `expert`, or `random`, which its episode's key seeds."""
    return ExpertPolicy(env, spec.expert, spec.seed) if name == "expert" else RandomPolicy(env, spec.key)


Generate = Callable[..., Generation]
"""`generate(ids, timeout_s=..., max_tokens=..., temperature=..., seed=..., stop=..., tools=...)`."""


class ModelPolicy:
    """A model behind an engine: the conversation is tokenised as it grows, and no turn is tokenised twice.

    Args:
        tokenizer: of the model.
        generate: reaches an engine.
        max_len: the engine's context in tokens.
        spec: of the episode; its key and the turn seed the sampling.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, generate: Generate, *, max_len: int, spec: EpisodeSpec
    ) -> None:
        self._conversation = Conversation(tokenizer, thinks=spec.playing.thinking.on)
        self._generate = generate
        self._max_len, self._playing = max_len, spec.playing
        self._steps = 0
        self._seeds = random.Random(spec.key)

    def reply(self, turns: list[Message], timeout_s: float) -> PolicyTurn:
        """Generate the next turn; None as its text when the conversation has outgrown the context."""
        for turn in turns:
            self._conversation.add(turn)
        ids = self._conversation.prompt()
        calls: list[Generation] = []
        head, head_ids = "", []
        thinking: str | None = None
        budget, marks = self._playing.thinking.max_tokens, self._conversation.thought_marks
        if budget is not None and marks is not None:
            head_ids, end = self._conversation.opening_of_thinking(), marks[1].strip()
            thoughts = self._ask(ids + head_ids, timeout_s, calls, thinking=budget, stop=[end])
            if thoughts is None:
                return _turn(None, calls)
            thinking = thoughts.text.partition(end)[0].strip()
            head_ids = self._conversation.opening("", thinking)
        if self._playing.calls_per_step == 2:
            head, head_ids = _THOUGHT, self._conversation.opening(_THOUGHT, thinking)
            thought = self._ask(ids + head_ids, timeout_s, calls, stop=[_ACTION])
            if thought is None:
                return _turn(None, calls)
            head = f"{_THOUGHT}{thought.text.rstrip()}\n{_ACTION}"
            head_ids = self._conversation.opening(head, thinking)
        tools = offered(self._conversation.messages) if self._playing.action_format == "tools" else None
        answer = self._ask(ids + head_ids, timeout_s, calls, tools=tools)
        if answer is None:
            return _turn(None, calls)
        text, made = (head + answer.text).strip(), named(answer.tool_calls, self._steps)
        self._steps += 1
        if not head_ids:  # it began its reply by itself
            thinking, text = self._conversation.parts(text)
        self._conversation.reply(text, head_ids + answer.ids, thinking, made)
        return dataclasses.replace(_turn(text, calls, thinking), calls=made)

    def _ask(
        self, ids: list[int], timeout_s: float, calls: list[Generation], *, thinking: int = 0,
        stop: list[str] | None = None, tools: list[Any] | None = None,
    ) -> Generation | None:  # fmt: skip
        """One call, for `thinking` tokens of thinking or for the answer; None where the context holds no answer."""
        if len(ids) + thinking + self._playing.max_new_tokens > self._max_len:
            return None
        answer = self._generate(
            ids, timeout_s=timeout_s, max_tokens=thinking or self._playing.max_new_tokens,
            temperature=self._playing.temperature,
            seed=self._seeds.getrandbits(31) if self._playing.temperature else None, stop=stop, tools=tools,
        )  # fmt: skip
        calls.append(_checked(answer))
        return calls[-1]


def _turn(text: str | None, calls: list[Generation], thinking: str | None = None) -> PolicyTurn:
    return PolicyTurn(
        text if text is None else _utf8(text),
        thinking=thinking if thinking is None else _utf8(thinking),
        prompt_tokens=sum(call.prompt_tokens for call in calls),
        completion_tokens=sum(len(call.ids) for call in calls),
        cached_tokens=sum(call.cached_tokens for call in calls),
    )


def _checked(answer: Any) -> Generation:
    """The engine's answer, after a check that it is a generation."""
    if not isinstance(answer, Generation) or not isinstance(answer.text, str) or not isinstance(answer.ids, list):
        raise EngineError(f"the engine answered with no generation: {str(answer)[:80]!r}")
    if not all(isinstance(token, int) and token >= 0 for token in answer.ids):
        raise EngineError(f"the engine answered with invalid tokens: {str(answer.ids)[:80]}")
    return answer


def _parts(reply: Reply) -> tuple[str | None, str]:
    """Thinking and content of an endpoint's answer, which may have them apart or in one text."""
    thinking, content = split(reply.text.strip())
    return (reply.thinking if thinking is None else thinking), content


def _utf8(text: str) -> str:
    """`text` without lone surrogates, which UTF-8, and so a journal, cannot hold."""
    return text.encode("utf-8", "replace").decode()


Complete = Callable[..., Reply]
"""`complete(messages, timeout_s=..., max_tokens=..., temperature=..., seed=..., stop=...)`."""


class EndpointPolicy:
    """A model behind an OpenAI-compatible endpoint, which takes and gives text and tool calls, not tokens.

    Args:
        complete: asks the endpoint.
        spec: of the episode; its key and the turn seed the sampling.
    """

    def __init__(self, complete: Complete, spec: EpisodeSpec) -> None:
        self._complete, self._playing = complete, spec.playing
        self._messages: list[dict[str, Any]] = []
        self._tools: list[Any] = []
        self._steps = 0
        self._seeds = random.Random(spec.key)

    def reply(self, turns: list[Message], timeout_s: float) -> PolicyTurn:
        """Ask for the next turn; None as its text when the endpoint says that its context is full."""
        self._messages += [each for turn in turns for each in self._shown(turn)]
        self._tools += offered(turns)
        replies: list[Reply] = []
        thinking: str | None = None
        calls: tuple[ToolCall, ...] = ()
        try:
            if self._playing.calls_per_step == 2:
                thinking, thought = _parts(self._ask(self._messages, timeout_s, replies, stop=[_ACTION]))
                more = [{"role": "assistant", "content": thought}, {"role": "user", "content": _ACTION}]
                action = self._ask([*self._messages, *more], timeout_s, replies).text.strip()
                text = f"{thought}\n{_ACTION} {action.removeprefix(_ACTION).strip()}"
            else:
                reply = self._ask(self._messages, timeout_s, replies)
                thinking, text = _parts(reply)
                calls = named(reply.tool_calls, self._steps)
                self._steps += 1
        except CallError as error:
            if error.kind != "context":
                raise
            text = None
        if text is not None:
            self._messages.append(spoken_turn(text, calls))
        return PolicyTurn(
            text, sum(reply.prompt_tokens for reply in replies), sum(r.completion_tokens for r in replies),
            thinking=thinking, calls=calls,
        )  # fmt: skip

    def _shown(self, turn: Message) -> list[dict[str, Any]]:
        """A turn as the endpoint gets it."""
        if self._playing.action_format == "react":
            return [{"role": turn.role, "content": turn.content}]
        return chat_turns(turn, parsed=False)

    def _ask(
        self, messages: list[dict[str, Any]], timeout_s: float, replies: list[Reply], stop: list[str] | None = None
    ) -> Reply:
        tools = {"tools": self._tools} if self._playing.action_format == "tools" else {}
        reply = self._complete(
            messages, timeout_s=timeout_s, max_tokens=self._playing.max_new_tokens,
            temperature=self._playing.temperature,
            seed=self._seeds.getrandbits(31) if self._playing.temperature else None, stop=stop, **tools,
        )  # fmt: skip
        replies.append(reply)
        return reply
