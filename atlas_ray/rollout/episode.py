"""The ReAct loop: one episode from its instruction, or from the midst of a trajectory, to its end.

An episode is a pure function of its `EpisodeSpec` (with a deterministic engine). Whatever goes wrong in it is recorded
in the `Episode`; nothing is raised but an endpoint's refusal of everything. Where episodes are played, and what is done
about an environment that never answers, is the server's business.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from atlas_ray.environments.contract import State, TextEnv
from atlas_ray.errors import EndpointError
from atlas_ray.react import parse_reply
from atlas_ray.rollout.policy import Policy
from atlas_ray.store import content_hash
from atlas_ray.trajectory import Episode, Message, Split, Stop


@dataclass(frozen=True)
class Start:
    """Where an episode begins that does not begin at a reset: before a step of a trajectory."""

    trajectory_id: str
    step: int
    """The trajectory's steps that were replayed, 0 .. step - 1."""
    messages: tuple[Message, ...]
    """The conversation up to there; the last turn is the observation to answer."""
    state: State
    """The environment's, determined by the rest."""


@dataclass(frozen=True)
class EpisodeSpec:
    """Everything that determines an episode."""

    model: str
    """Name in the result table."""
    model_key: str
    """Hash of the model's content; another checkpoint under the same name is another episode."""
    env: str
    task: int
    split: Split
    seed: int
    options: dict[str, Any] = field(default_factory=dict)
    """The environment's options."""
    opening: tuple[Message, ...] = ()
    """Instruction and acknowledgement in place of the environment's own."""
    start: Start | None = None
    """None begins at the reset."""
    sample: int = 0
    """Tells episodes apart that differ by the luck of sampling alone."""
    temperature: float = 0.0
    max_new_tokens: int = 256
    give_up_after: int | None = None
    calls_per_step: int = 1
    token_budget: int | None = None
    deadline_s: float = 900.0

    @cached_property
    def key(self) -> str:
        """Content hash of the episode's determinants (the deadline is none)."""
        names = (
            "model", "model_key", "env", "task", "split", "seed", "options", "sample", "temperature", "max_new_tokens",
            "give_up_after", "calls_per_step", "token_budget",
        )  # fmt: skip
        values = {name: getattr(self, name) for name in names}
        values["opening"] = [message.model_dump() for message in self.opening]
        if self.start is not None:
            turns = content_hash([message.model_dump() for message in self.start.messages])
            values["start"] = [self.start.trajectory_id, self.start.step, turns]
        return content_hash(values)

    @property
    def label(self) -> str:
        """Names it in messages."""
        return f"{self.env} task {self.task}"

    def run(self, env: TextEnv, policy_for: PolicyFor, record: Record) -> Episode:
        """Play the episode; see `play`."""
        return play(env, policy_for, self, record)

    def failed(self, error: str, *, stop: Stop = "error", record: Record | None = None) -> Episode:
        """The episode that could not be finished, with what was played of it."""
        return (record or Record()).episode(self, stop, error)


PolicyFor = Callable[[TextEnv, EpisodeSpec], Policy]


class Record:
    """An episode under way; another thread may look at it."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.score, self.success, self.rounds = 0.0, False, 0
        self.prompt_tokens = self.cached_tokens = self.completion_tokens = self.environment_steps = 0
        self.faults = 0
        self.began = time.monotonic()
        self.calling_since: float | None = None
        """When the environment was called that has not answered yet."""

    def wait(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call what waits for others; the episode's time begins afterwards."""
        self.began = math.inf
        try:
            return method(*arguments)
        finally:
            self.began = time.monotonic()

    def call(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call the environment and note since when."""
        self.calling_since = time.monotonic()
        try:
            return method(*arguments, **options)
        finally:
            self.calling_since = None

    def episode(self, spec: EpisodeSpec, stop: Stop, error: str | None) -> Episode:
        """The episode as far as it has come."""
        return Episode(
            key=spec.key, model=spec.model, env=spec.env, task=spec.task, split=spec.split, seed=spec.seed,
            messages=tuple(self.messages), score=self.score, success=self.success, rounds=self.rounds, stop=stop,
            error=error, prompt_tokens=self.prompt_tokens, cached_tokens=self.cached_tokens,
            completion_tokens=self.completion_tokens, environment_steps=self.environment_steps, faults=self.faults,
            seconds=round(time.monotonic() - self.began, 3),
        )  # fmt: skip


def opening_turns(env: TextEnv, spec: EpisodeSpec) -> list[Message]:
    """Instruction and acknowledgement: the dataset's, if the spec brings them, else the environment card's."""
    return list(spec.opening) or [
        Message(role="user", content=env.card.instruction),
        Message(role="assistant", content=env.card.acknowledgement),
    ]


def play(env: TextEnv, policy_for: PolicyFor, spec: EpisodeSpec, record: Record | None = None) -> Episode:
    """Play an episode to its end.

    Args:
        env: of the spec's environment and options; this episode has it for itself.
        policy_for: makes the policy once the environment is where the episode begins.
        spec: what to play.
        record: filled as the episode goes on, for whoever watches it.

    Returns:
        The episode; with `stop="error"` or `"deadline"` and `error` set when it could not be finished. Its messages
        are those that a start state does not already have.

    Raises:
        EndpointError: the endpoint refuses for good; no other episode would be answered.
    """
    record = record or Record()
    try:
        stop: Stop = _play(env, policy_for, spec, record)
        error = None
    except EndpointError:
        raise
    except TimeoutError:
        stop, error = "deadline", f"deadline: not finished within {spec.deadline_s:g} s"
    except Exception as problem:  # an engine's or environment's own failure is this episode's result
        stop, error = "error", one_line(problem)
    return record.episode(spec, stop, error)


def one_line(problem: BaseException) -> str:
    """Kind and text of an exception, on one line that any JSON can hold."""
    text = " ".join(str(problem).split())[:500]
    return f"{type(problem).__name__}: {text}".encode("utf-8", "replace").decode()


def _play(env: TextEnv, policy_for: PolicyFor, spec: EpisodeSpec, record: Record) -> Stop:
    unheard = _begin(env, spec, record)
    policy = policy_for(env, spec)
    silent = 0
    while True:
        if spec.token_budget is not None and record.completion_tokens >= spec.token_budget:
            return "tokens"
        left = record.began + spec.deadline_s - time.monotonic()
        if left <= 0:
            raise TimeoutError
        turn = policy.reply(unheard, left)
        record.prompt_tokens += turn.prompt_tokens
        record.cached_tokens += turn.cached_tokens
        record.completion_tokens += turn.completion_tokens
        if turn.text is None:
            return "context"
        record.messages.append(Message(role="assistant", content=turn.text, step=record.rounds))
        record.rounds += 1
        reply = parse_reply(turn.text, env.card.action_rule)
        if reply.action is None:
            silent += 1
            observation, ended, truncated = str(reply.problem), False, False
            if silent == spec.give_up_after:
                return "no_action"
        else:
            silent = 0
            record.environment_steps += 1
            observation, _, ended, truncated, info = record.call(env.step, reply.action)
            record.score, record.success = float(info["score"]), bool(info["success"])
            record.faults = int(info.get("faults", 0))
        unheard = [Message(role="user", content=observation)]
        record.messages += unheard
        if ended:
            return "done"
        if truncated or record.rounds >= env.card.max_rounds:
            return "max_rounds"


def _begin(env: TextEnv, spec: EpisodeSpec, record: Record) -> list[Message]:
    """Bring the environment to where the episode begins; returns the conversation so far."""
    if spec.start is None:
        observation, _ = record.call(env.reset, seed=spec.seed, options={"task": spec.task, "split": spec.split})
        record.messages = [*opening_turns(env, spec), Message(role="user", content=observation)]
        return list(record.messages)
    state = spec.start.state
    record.call(env.restore, state)
    record.score, record.success, record.rounds = state.score, state.success, spec.start.step
    if env.card.snapshot == "replay":
        record.environment_steps = state.rounds
    return list(spec.start.messages)
