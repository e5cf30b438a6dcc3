"""The ReAct loop: one episode from its instruction to its end.

An episode is a pure function of its `EpisodeSpec` (with a deterministic engine). Whatever goes wrong in it is recorded
in the `Episode`; nothing is raised but programming errors of ours.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from atlas_ray.environments.contract import TextEnv
from atlas_ray.errors import AtlasError
from atlas_ray.react import parse_reply
from atlas_ray.rollout.policy import Policy
from atlas_ray.store import content_hash
from atlas_ray.trajectory import Episode, Message, Split, Stop


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
    temperature: float = 0.0
    max_new_tokens: int = 256
    give_up_after: int | None = None
    deadline_s: float = 900.0

    @property
    def key(self) -> str:
        """Content hash of the episode's determinants (the deadline is none)."""
        values = asdict(self) | {"opening": [message.model_dump() for message in self.opening]}
        del values["deadline_s"]
        return content_hash(values)


def opening_turns(env: TextEnv, spec: EpisodeSpec) -> list[Message]:
    """Instruction and acknowledgement: the dataset's, if the spec brings them, else the environment card's."""
    return list(spec.opening) or [
        Message(role="user", content=env.card.instruction),
        Message(role="assistant", content=env.card.acknowledgement),
    ]


async def play(env: TextEnv, policy_for: Any, spec: EpisodeSpec) -> Episode:
    """Play an episode to its end.

    Args:
        env: of the spec's environment and options; this episode has it for itself.
        policy_for: makes the policy once the environment is reset: `(env, spec) -> Policy`.
        spec: what to play.

    Returns:
        The episode; with `stop="error"` or `"deadline"` and `error` set when it could not be finished.
    """
    start = time.monotonic()
    record = _Record()
    try:
        async with asyncio.timeout(spec.deadline_s):
            stop: Stop = await _play(env, policy_for, spec, record)
        error = None
    except TimeoutError:
        stop, error = "deadline", f"deadline: not finished within {spec.deadline_s:.0f} s"
    except AtlasError as problem:
        stop, error = "error", f"{type(problem).__name__}: {problem}"
    except Exception as problem:  # an engine's or environment's own failure is this episode's result
        stop, error = "error", f"{type(problem).__name__}: {problem}"
    return Episode(
        key=spec.key, model=spec.model, env=spec.env, task=spec.task, split=spec.split, seed=spec.seed,
        messages=tuple(record.messages), score=record.score, success=record.success, rounds=record.rounds,
        stop=stop, error=error, prompt_tokens=record.prompt_tokens, completion_tokens=record.completion_tokens,
        seconds=round(time.monotonic() - start, 3),
    )  # fmt: skip


class _Record:
    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.score, self.success, self.rounds = 0.0, False, 0
        self.prompt_tokens, self.completion_tokens = 0, 0


async def _play(env: TextEnv, policy_for: Any, spec: EpisodeSpec, record: _Record) -> Stop:
    observation, _ = env.reset(seed=spec.seed, options={"task": spec.task, "split": spec.split})
    policy: Policy = policy_for(env, spec)
    record.messages = [*opening_turns(env, spec), Message(role="user", content=observation)]
    unheard, silent = list(record.messages), 0
    while True:
        turn = await policy.reply(unheard)
        record.prompt_tokens += turn.prompt_tokens
        record.completion_tokens += turn.completion_tokens
        if turn.text is None:
            return "context"
        record.messages.append(Message(role="assistant", content=turn.text, step=record.rounds))
        record.rounds += 1
        reply = parse_reply(turn.text, env.card.action_rule)
        if reply.action is None:
            silent += 1
            observation, ended, truncated = str(reply.problem), False, record.rounds >= env.card.max_rounds
            if silent == spec.give_up_after:
                return "no_action"
        else:
            silent = 0
            observation, _, ended, truncated, info = env.step(reply.action)
            record.score, record.success = float(info["score"]), bool(info["success"])
        unheard = [Message(role="user", content=observation)]
        record.messages += unheard
        if ended:
            return "done"
        if truncated or record.rounds >= env.card.max_rounds:
            return "max_rounds"
