"""Episodes that an agent or a person plays one step at a time, with undo.

`Sessions` is the table of open sessions in an environment server; it needs no ray. A call that cannot be carried out
returns a `Refusal` instead of raising, because the callers are clients over the network. Calls may come from several
threads: calls of one session wait for each other, calls of different sessions do not. Generating the model's reply is
left to the caller.
"""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from atlas_ray.chat.thinking import CLOSE, split
from atlas_ray.environments import registry
from atlas_ray.environments.contract import State, TextEnv
from atlas_ray.errors import AtlasError
from atlas_ray.react import parse_reply
from atlas_ray.rollout.isolated import Isolated
from atlas_ray.trajectory import Split

By = Literal["agent", "person"]
SessionView = dict[str, Any]
"""The state of a session as JSON, with the fields of `serving.schema.SessionResponse`."""


@dataclass(frozen=True)
class Refusal:
    """Why a call was not carried out: an HTTP status (404, 409, 410, 422, 429 or 503) and one line."""

    status: int
    message: str


@dataclass(frozen=True)
class SessionRound:
    """One step that was played."""

    by: By
    thought: str
    action: str | None
    """None when the agent's reply held no usable action."""
    text: str
    """The whole reply."""
    observation: str
    reward: float
    before: State
    """The episode before the step, for undo."""


@dataclass
class Session:
    """An open session and its episode."""

    environment: str
    task: int
    split: Split
    model: str
    env: TextEnv
    slot: str
    """Name and options of the environment; a closed session's environment is reused for an equal slot."""
    first_observation: str
    used: float
    """Time of the last call, on the clock of `Sessions`."""
    score: float = 0.0
    success: bool = False
    rounds: list[SessionRound] = field(default_factory=list)
    busy_until: float = 0.0
    """Until this time a model prepares a reply, and other calls may not change the session."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held by the call that uses the environment."""

    @property
    def over(self) -> bool:
        """Whether no step can be played. Replies without an action count as rounds, as in evaluation."""
        return not self.env.running or len(self.rounds) >= self.env.card.max_rounds

    def messages(self) -> list[dict[str, str]]:
        """The conversation as a model sees it, in chat form."""
        card = self.env.card
        turns = [("user", card.instruction), ("assistant", card.acknowledgement), ("user", self.first_observation)]
        for item in self.rounds:
            turns += [("assistant", item.text), ("user", item.observation)]
        return [{"role": role, "content": content} for role, content in turns]


class Sessions:
    """The sessions of one environment server.

    Args:
        limit: the most sessions at a time.
        idle_s: seconds without a call after which a session is closed.
        clock: returns seconds; tests pass their own.
        isolated: lends environments that start a process; None lends without limit.
    """

    def __init__(
        self, limit: int = 256, idle_s: float = 1800.0, clock: Callable[[], float] = time.monotonic,
        isolated: Isolated | None = None,
    ) -> None:  # fmt: skip
        self._limit, self._idle_s, self._clock = limit, idle_s, clock
        self._isolated = isolated or Isolated(math.inf)
        self._sessions: dict[str, Session] = {}
        self._idle: dict[str, list[TextEnv]] = {}
        self._opening = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def open(
        self, environment: str, task: int, split: Split, seed: int | None, model: str, options: Mapping[str, Any]
    ) -> SessionView | Refusal:
        """Begin an episode; returns its state, with the `id` of the new session."""
        self.expire()
        with self._lock:
            if len(self._sessions) + self._opening >= self._limit:
                return Refusal(429, f"there are {self._limit} sessions already; close one, or try again later")
            self._opening += 1
        slot = f"{environment} {sorted(options.items())!r}"
        idle = self._idle.setdefault(slot, [])
        identity = secrets.token_urlsafe(12)
        try:
            try:
                env = idle.pop()
            except IndexError:
                env = registry.make(environment, **options)
            if env.card.isolated:
                lent = self._isolated.take(identity, slot, env)
                if lent is None:
                    what = f"another {environment} process"
                    return Refusal(
                        429, f"the server's memory does not hold {what}; close a session, or try again later"
                    )
                env = lent
            observation, _ = env.reset(seed=seed, options={"task": task, "split": split})
            self._sessions[identity] = Session(environment, task, split, model, env, slot, observation, self._clock())
        except Exception as error:
            self._isolated.give_back(identity, keep=False)
            if not isinstance(error, AtlasError):
                raise
            return Refusal(422, str(error))
        finally:
            with self._lock:
                self._opening -= 1
        return self.view(identity)

    def view(self, identity: str) -> SessionView | Refusal:
        """The current state of the session."""
        with self._held(identity) as session:
            return session if isinstance(session, Refusal) else self._view(identity, session)

    def think(self, identity: str, seconds: float) -> list[dict[str, str]] | Refusal:
        """Reserve the session for a model that replies within `seconds`; returns the conversation to reply to."""
        with self._held(identity, to_change=True) as session:
            if isinstance(session, Refusal):
                return session
            session.busy_until = self._clock() + seconds
            return session.messages()

    def release(self, identity: str) -> None:
        """End a reservation without a step."""
        with self._held(identity) as session:
            if not isinstance(session, Refusal):
                session.busy_until = 0.0

    def reply(self, identity: str, text: str) -> SessionView | Refusal:
        """Play the reply that a model gave after `think`, without its thinking; returns the state after the step."""
        with self._held(identity) as session:
            if isinstance(session, Refusal) or not session.busy_until:
                return Refusal(410, f"session {identity} was closed or changed while the model was thinking")
            session.busy_until = 0.0
            _, said = split(text, opened=CLOSE in text)
            reply = parse_reply(said, session.env.card.action_rule)
            return self._play(identity, session, "agent", reply.thought, reply.action, said, str(reply.problem))

    def step(self, identity: str, action: str) -> SessionView | Refusal:
        """Play a person's action; returns the state after the step."""
        with self._held(identity, to_change=True) as session:
            if isinstance(session, Refusal):
                return session
            return self._play(identity, session, "person", "", action, f"Action: {action}", "")

    def undo(self, identity: str) -> SessionView | Refusal:
        """Take the last step back."""
        with self._held(identity) as session:
            if isinstance(session, Refusal):
                return session
            if session.busy_until > self._clock():
                return Refusal(409, "the agent is about to act; wait for it")
            if not session.rounds:
                return Refusal(409, "there is no step to take back")
            try:
                before = session.rounds.pop().before
                session.env.restore(before)
            except AtlasError as error:
                return self.drop(identity, str(error))
            session.score, session.success = before.score, before.success
            return self._view(identity, session)

    def close(self, identity: str) -> Refusal | None:
        """End a session; its environment is reused."""
        with self._held(identity) as session:
            if isinstance(session, Refusal):
                return session
            self._recycle(identity, session)
            return None

    def expire(self) -> int:
        """Close the idle sessions; returns how many."""
        now, closed = self._clock(), 0
        for identity, session in list(self._sessions.items()):
            late = now - session.used > self._idle_s and session.busy_until <= now
            if late and session.lock.acquire(blocking=False):  # else a call is using it
                try:
                    closed += self._recycle(identity, session)
                finally:
                    session.lock.release()
        return closed

    def forget_idle(self) -> None:
        """Drop the environments that no session uses."""
        self._idle.clear()
        self._isolated.close_idle()

    def drop(self, identity: str, why: str) -> Refusal:
        """End a session whose environment failed, and drop the environment; does not wait for running calls."""
        self._sessions.pop(identity, None)
        self._isolated.give_back(identity, keep=False)
        return Refusal(410, f"the session is lost: {why}")

    @contextmanager
    def _held(self, identity: str, *, to_change: bool = False) -> Iterator[Session | Refusal]:
        """Lock the session for one call and reset its idle time."""
        self.expire()
        session = self._sessions.get(identity)
        if session is None:
            yield _unknown(identity)
            return
        with session.lock:
            if self._sessions.get(identity) is not session:  # closed or dropped meanwhile
                yield _unknown(identity)
                return
            session.used = self._clock()
            if to_change and session.busy_until > session.used:
                yield Refusal(409, "the agent is about to act; wait for it")
            elif to_change and session.over:
                yield Refusal(409, "the episode is over; undo a step, or open another session")
            else:
                yield session

    def _recycle(self, identity: str, session: Session) -> bool:
        if self._sessions.pop(identity, None) is None:
            return False  # dropped meanwhile
        if session.env.card.isolated:
            self._isolated.give_back(identity, keep=True)
        else:
            self._idle.setdefault(session.slot, []).append(session.env)
        return True

    def _play(
        self, identity: str, session: Session, by: By, thought: str, action: str | None, text: str, problem: str
    ) -> SessionView | Refusal:
        env = session.env
        try:
            before = env.snapshot()
            if action is None:  # a reply without an action costs a round, as in evaluation
                observation, reward = problem, 0.0
            else:
                observation, reward, _, _, info = env.step(action)
                session.score, session.success = float(info["score"]), bool(info["success"])
        except AtlasError as error:
            return self.drop(identity, str(error))
        session.rounds.append(SessionRound(by, thought, action, text, observation, reward, before))
        return self._view(identity, session)

    def _view(self, identity: str, session: Session) -> SessionView | Refusal:
        env, card = session.env, session.env.card
        try:
            valid = env.valid_actions()
        except AtlasError as error:
            return self.drop(identity, str(error))
        return {
            "id": identity,
            "environment": session.environment,
            "task": session.task,
            "split": session.split,
            "model": session.model,
            "instruction": card.instruction,
            "observation": session.first_observation,
            "rounds": [
                {
                    "number": number, "by": item.by, "thought": item.thought, "action": item.action, "text": item.text,
                    "observation": item.observation, "reward": item.reward,
                }
                for number, item in enumerate(session.rounds)
            ],
            "score": session.score,
            "success": session.success,
            "over": session.over,
            "max_rounds": card.max_rounds,
            "valid_actions": valid,
        }  # fmt: skip


def _unknown(identity: str) -> Refusal:
    return Refusal(404, f"there is no session {identity}; it was closed, or has expired")
