"""The ReAct loop: plays one episode, from a reset or from a step within a trajectory, to its end.

An episode is a pure function of its `EpisodeSpec` (with a deterministic engine). Whatever goes wrong in an episode is
recorded in it. The one exception that is raised is an endpoint's refusal of every request. Which process plays the
episode, and what is done about an environment that never answers, is decided in `server.py`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from atlas_ray.environments import calling
from atlas_ray.environments.contract import TextEnv
from atlas_ray.errors import EndpointError
from atlas_ray.react import parse_reply
from atlas_ray.rollout.policy import Policy
from atlas_ray.rollout.spec import EpisodeSpec
from atlas_ray.trajectory import Episode, Message, Stop

PolicyFor = Callable[[TextEnv, EpisodeSpec], Policy]
"""Makes the policy of an episode, in its environment."""


class EpisodeRecorder:
    """What an episode has come to so far; another thread may read it while the episode is played."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.kinds: list[str] = []
        self.score, self.success, self.rounds = 0.0, False, 0
        self.prompt_tokens = self.cached_tokens = self.completion_tokens = self.environment_steps = 0
        self.faults = 0
        self.began = time.monotonic()
        self.calling_since: float | None = None
        """When the environment was called, while it has not answered; else None."""

    def wait(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method that waits for other episodes; this episode's time begins when the method has returned."""
        self.began = math.inf
        try:
            return method(*arguments)
        finally:
            self.began = time.monotonic()

    def call(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call the environment, and record when the call began."""
        self.calling_since = time.monotonic()
        try:
            return method(*arguments, **options)
        finally:
            self.calling_since = None

    def episode(self, spec: EpisodeSpec, stop: Stop, error: str | None) -> Episode:
        """The episode with what was played so far."""
        return Episode(
            key=spec.key, model=spec.model, env=spec.env, task=spec.task, split=spec.split, seed=spec.seed,
            messages=tuple(self.messages), score=self.score, success=self.success, rounds=self.rounds, stop=stop,
            error=error, prompt_tokens=self.prompt_tokens, cached_tokens=self.cached_tokens,
            completion_tokens=self.completion_tokens, environment_steps=self.environment_steps, faults=self.faults,
            seconds=round(time.monotonic() - self.began, 3), kinds=tuple(self.kinds) or None,
        )  # fmt: skip


def opening_turns(env: TextEnv, spec: EpisodeSpec) -> list[Message]:
    """Instruction and acknowledgement: the dataset's, if the spec brings them, else the environment card's."""
    first, *others = spec.opening or (
        Message(role="user", content=env.card.instruction),
        Message(role="assistant", content=env.card.acknowledgement),
    )
    return [calling.opening(first, env) if spec.playing.action_format == "tools" else first, *others]


def play(env: TextEnv, policy_for: PolicyFor, spec: EpisodeSpec, recorder: EpisodeRecorder | None = None) -> Episode:
    """Play an episode to its end.

    Args:
        env: of the spec's environment and options; no other episode uses it meanwhile.
        policy_for: makes the policy once the environment is where the episode begins.
        spec: what to play.
        recorder: filled as the episode goes on.

    Returns:
        The episode; with `stop="error"` or `"deadline"` and `error` set when it could not be finished. Its messages
        leave out the conversation that a start already has.

    Raises:
        EndpointError: the endpoint refuses for good; no other episode would be answered.
    """
    recorder = recorder or EpisodeRecorder()
    try:
        stop: Stop = _play(env, policy_for, spec, recorder)
        error = None
    except EndpointError:
        raise
    except TimeoutError:
        stop, error = "deadline", f"deadline: not finished within {spec.deadline_s:g} s"
    except Exception as problem:  # an engine's or environment's own failure is this episode's result
        stop, error = "error", one_line(problem)
    return recorder.episode(spec, stop, error)


def failed(spec: EpisodeSpec, error: str, *, stop: Stop = "error", recorder: EpisodeRecorder | None = None) -> Episode:
    """The episode that could not be finished, with what was played of it."""
    return (recorder or EpisodeRecorder()).episode(spec, stop, error)


def one_line(problem: BaseException) -> str:
    """Kind and text of an exception, on one line that any JSON can hold."""
    text = " ".join(str(problem).split())[:500]
    return f"{type(problem).__name__}: {text}".encode("utf-8", "replace").decode()


def _play(env: TextEnv, policy_for: PolicyFor, spec: EpisodeSpec, recorder: EpisodeRecorder) -> Stop:
    unheard = _begin(env, spec, recorder)
    policy, playing = policy_for(env, spec), spec.playing
    silent = 0
    while True:
        if playing.token_budget is not None and recorder.completion_tokens >= playing.token_budget:
            return "tokens"
        left = recorder.began + spec.deadline_s - time.monotonic()
        if left <= 0:
            raise TimeoutError
        turn = policy.reply(unheard, left)
        recorder.prompt_tokens += turn.prompt_tokens
        recorder.cached_tokens += turn.cached_tokens
        recorder.completion_tokens += turn.completion_tokens
        if turn.text is None:
            return "context"
        said = Message(
            role="assistant", content=turn.text, step=recorder.rounds, thinking=turn.thinking, tool_calls=turn.calls
        )
        if playing.action_format == "tools":
            said, reply = calling.called(said, env)
        else:
            reply = parse_reply(turn.text, env.card.action_rule)
        recorder.messages.append(said)
        recorder.rounds += 1
        if turn.kind is not None:
            recorder.kinds.append(turn.kind)
        if reply.action is None:
            silent += 1
            observation, ended, truncated = str(reply.problem), False, False
            if silent == playing.give_up_after:
                return "no_action"
        else:
            silent = 0
            recorder.environment_steps += 1
            observation, _, ended, truncated, info = recorder.call(env.step, reply.action)
            recorder.score, recorder.success = float(info["score"]), bool(info["success"])
            recorder.faults = int(info.get("faults", 0))
        unheard = [calling.answer(said, observation)]
        recorder.messages += unheard
        if ended:
            return "done"
        if truncated or recorder.rounds >= env.card.max_rounds:
            return "max_rounds"


def _begin(env: TextEnv, spec: EpisodeSpec, recorder: EpisodeRecorder) -> list[Message]:
    """Bring the environment to where the episode begins; returns the conversation up to there."""
    if spec.start is None:
        observation, _ = recorder.call(env.reset, seed=spec.seed, options={"task": spec.task, "split": spec.split})
        recorder.messages = [*opening_turns(env, spec), Message(role="user", content=observation)]
        return list(recorder.messages)
    state = spec.start.state
    recorder.call(env.restore, state)
    recorder.score, recorder.success, recorder.rounds = state.score, state.success, spec.start.step
    if env.card.snapshot == "replay":
        recorder.environment_steps = state.rounds
    return calling.begun(spec.start.messages, env, spec.playing.action_format)
