"""The Ray actor that holds many environment slots and plays whole episodes.

One remote call moves an episode, not a step. A slot is a thread with environments of its own; the actor's event loop
stays free, so it notices an environment that does not return, reports that episode and goes on with the others. A
server that has such a slot, has played its share of episodes, or outgrew its memory says that it is worn; the driver
(`driver.py`) then lets it finish and replaces it. Served sessions (`sessions.py`) live in the same actors, under the
same limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import psutil
import ray

from atlas_ray import ray_metrics
from atlas_ray.config import RolloutConfig
from atlas_ray.environments import registry
from atlas_ray.environments.contract import TextEnv
from atlas_ray.rollout.episode import PolicyFor, Record, one_line
from atlas_ray.rollout.isolated import Isolated
from atlas_ray.rollout.player import Player, Voice, tokenizer
from atlas_ray.rollout.sessions import Refusal, Sessions
from atlas_ray.trajectory import Episode, Stop

_TICK_S = 1.0
_GRACE_S = 5.0
_MEMORY_CHECK_S = 2.0


class Work(Protocol):
    """What a server does with an environment: `EpisodeSpec`, or the replay of a trajectory."""

    @property
    def env(self) -> str:
        """Name of the environment."""
        ...

    @property
    def options(self) -> dict[str, Any]:
        """Its options."""
        ...

    @property
    def deadline_s(self) -> float:
        """Seconds that it may take."""
        ...

    @property
    def label(self) -> str:
        """Names it in messages."""
        ...

    def run(self, env: TextEnv, policy_for: PolicyFor, record: Record) -> Any:
        """Do it; the result has `error`."""
        ...

    def failed(self, error: str, *, stop: Stop = "error", record: Record | None = None) -> Any:
        """The result that says why it could not be done."""
        ...


@dataclass(frozen=True)
class Done:
    """The result of a work, and whether the server should be replaced."""

    result: Any
    worn: bool


class EnvironmentServer:
    """Does as many works at a time as the driver gives it.

    Args:
        player: who plays.
        config: limits of the server.
        max_sessions: served sessions at a time.
        session_idle_s: seconds after which a session that nobody asks for is closed.

    Raises:
        ModelError: the player's model has no tokenizer.
    """

    def __init__(
        self, player: Player, config: RolloutConfig, max_sessions: int = 0, session_idle_s: float = 0.0
    ) -> None:
        self._player, self._config = player, config
        if player.directory is not None:
            tokenizer(player.directory)  # not in the slots: transformers' lazy imports break in several threads
        self._idle: list[_Slot] = []
        self._isolated = Isolated(config.memory_gib)
        self._voice: Voice | None = None
        self._sessions = Sessions(max_sessions, session_idle_s, isolated=self._isolated)
        self._played, self._abandoned = 0, 0
        self._process, self._memory_checked, self._is_too_large = psutil.Process(), 0.0, False

    async def ping(self) -> None:
        """Answers while the server is well."""

    async def do(self, work: Work) -> Done:
        """Do one work in a slot.

        Raises:
            EndpointError: the endpoint refuses for good.
        """
        if self._voice is None:
            self._voice = Voice(self._player, asyncio.get_running_loop())
        slot = self._idle.pop() if self._idle else _Slot(self._isolated)
        record = Record()
        future = asyncio.wrap_future(slot.submit(work, self._voice.policy, record))
        while not (await asyncio.wait([future], timeout=_TICK_S))[0]:
            overdue = self._overdue(work, record)
            if overdue is not None:
                self._abandoned += 1  # the slot's thread cannot be ended; it goes with the server
                self._isolated.give_back(slot, keep=False)
                future.add_done_callback(lambda f: f.cancelled() or f.exception())
                return self._done(work.failed(overdue, stop="deadline", record=record))
        self._idle.append(slot)
        return self._done(future.result())

    async def session(self, call: str, *arguments: Any) -> Any:
        """A method of `Sessions` by name, on a thread of its own: a slow environment holds up its own session alone.

        One that does not return within the call's deadline, or fails as no environment should, ends its session.
        """
        if call == "open" and self._too_large():
            self._sessions.forget_idle()
            most = self._config.memory_gib
            return Refusal(503, f"the environments of the sessions hold more than {most:g} GiB; try again later")
        named, limit = str(next(iter(arguments), "")), self._config.call_deadline_s
        future = asyncio.wrap_future(_on_thread(getattr(self._sessions, call), *arguments))
        if not (await asyncio.wait([future], timeout=limit))[0]:
            future.add_done_callback(lambda f: f.cancelled() or f.exception())
            return self._sessions.lose(named, f"its environment did not return within {limit:g} s")
        error = future.exception()
        answer = self._sessions.lose(named, one_line(error)) if isinstance(error, Exception) else future.result()
        if isinstance(answer, dict):
            _count_session(call, answer)
        ray_metrics.SESSIONS.set(len(self._sessions))
        return answer

    def _overdue(self, work: Work, record: Record) -> str | None:
        """What to say of a work that will not end by itself; None while it may."""
        now, limit, since = time.monotonic(), self._config.call_deadline_s, record.calling_since
        if since is not None and now - since > limit:
            return f"deadline: the environment did not return from a call within {limit:g} s"
        if now - record.began > work.deadline_s + _GRACE_S:
            return f"deadline: not finished within {work.deadline_s:g} s"
        return None

    def _done(self, result: Any) -> Done:
        self._played += 1
        if isinstance(result, Episode):
            _count(result)
        worn = self._abandoned > 0 or self._played >= self._config.recycle_after or self._too_large()
        return Done(result, worn)

    def _too_large(self) -> bool:
        """Whether this process and its children hold more memory than they may."""
        if time.monotonic() - self._memory_checked > _MEMORY_CHECK_S:
            held = 0
            for process in [self._process, *self._process.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):  # a child that just ended
                    held += process.memory_info().rss
            self._is_too_large = held > self._config.memory_gib * 2**30
            self._memory_checked = time.monotonic()
        return self._is_too_large


class _Slot:
    """A thread that does one work at a time in environments that are its alone, or that `isolated` lends it."""

    def __init__(self, isolated: Isolated) -> None:
        self._isolated = isolated
        self._works: queue.SimpleQueue[tuple[Work, PolicyFor, Record, Future[Any]]] = queue.SimpleQueue()
        self._environments: dict[str, TextEnv] = {}
        threading.Thread(target=self._run, name="slot", daemon=True).start()

    def submit(self, work: Work, policy_for: PolicyFor, record: Record) -> Future[Any]:
        """The future result of a work."""
        future: Future[Any] = Future()
        self._works.put((work, policy_for, record, future))
        return future

    def _run(self) -> None:
        while True:
            work, policy_for, record, future = self._works.get()
            try:
                future.set_result(self._do(work, policy_for, record))
            except BaseException as error:
                future.set_exception(error)

    def _do(self, work: Work, policy_for: PolicyFor, record: Record) -> Any:
        place = f"{work.env} {sorted(work.options.items())!r}"
        try:
            env = self._environments.pop(place, None) or record.call(registry.make, work.env, **work.options)
        except Exception as error:  # an environment that cannot be made is this work's result
            return work.failed(one_line(error), record=record)
        if env.card.isolated:
            env = record.wait(self._isolated.borrow, self, place, env)
        is_sound = False
        try:
            result = work.run(env, policy_for, record)
            is_sound = result.error is None
        finally:  # an environment that failed is not used again
            if env.card.isolated:
                self._isolated.give_back(self, keep=is_sound)
            elif is_sound:
                self._environments[place] = env
            else:
                env.close()
        return result


def _count(episode: Episode) -> None:
    tags = {"model": episode.model, "env": episode.env}
    outcome = "error" if episode.error is not None else "solved" if episode.success else "failed"
    ray_metrics.EPISODES.add(1, outcome=outcome, **tags)
    ray_metrics.GENERATED_TOKENS.add(episode.completion_tokens, **tags)
    ray_metrics.PREFILL_TOKENS.add(episode.prompt_tokens - episode.cached_tokens, **tags)
    ray_metrics.CACHED_TOKENS.add(episode.cached_tokens, **tags)


def _count_session(call: str, view: dict[str, Any]) -> None:
    if call == "open":
        ray_metrics.SESSIONS_OPENED.add(1, env=view["environment"])
    elif call in ("reply", "step"):
        ray_metrics.SESSION_STEPS.add(1, env=view["environment"], by=view["rounds"][-1]["by"])


def _on_thread(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """Call a function on a daemon thread, which may be left behind."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function(*arguments))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="session", daemon=True).start()
    return future


EnvironmentActor = ray.remote(EnvironmentServer)
