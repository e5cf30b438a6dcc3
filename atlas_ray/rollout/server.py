"""The Ray actor that holds many environment slots and plays whole episodes.

One remote call does one task: a whole episode, not a step. A slot is a thread with its own environments. The actor's
event loop stays free, so it notices an environment that does not return, reports that episode as failed and goes on
with the others. A server should be recycled when it has such a slot, has done its share of tasks, or has outgrown its
memory; the driver (`driver.py`) then lets it finish its tasks and replaces it. Served sessions (`sessions.py`) live in
the same actors, under the same limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import psutil
import ray

from atlas_ray import ray_metrics
from atlas_ray.config import RolloutConfig
from atlas_ray.environments import registry
from atlas_ray.environments.contract import TextEnv
from atlas_ray.rollout import task as tasks
from atlas_ray.rollout.episode import EpisodeRecorder, PolicyFor, one_line
from atlas_ray.rollout.isolated import Isolated
from atlas_ray.rollout.player import ModelSpec, PolicyFactory, tokenizer
from atlas_ray.rollout.process import ActorProcess, this_process
from atlas_ray.rollout.sessions import Refusal, Sessions
from atlas_ray.rollout.task import Result, Task, TaskResult
from atlas_ray.trajectory import Episode

_TICK_S = 1.0
_GRACE_S = 5.0
_MEMORY_CHECK_S = 2.0


class EnvironmentServer:
    """Does as many tasks at a time as the driver gives it.

    Args:
        model: what plays the episodes.
        config: limits of the server.
        max_sessions: served sessions at a time.
        session_idle_s: seconds without a call after which a session is closed.

    Raises:
        ModelError: the model has no tokenizer.
    """

    def __init__(
        self, model: ModelSpec, config: RolloutConfig, max_sessions: int = 0, session_idle_s: float = 0.0
    ) -> None:
        self._model, self._config = model, config
        if model.directory is not None:
            tokenizer(model.directory)  # not in the slots: transformers' lazy imports break in several threads
        self._idle: list[_Slot] = []
        self._isolated = Isolated(config.memory_gib)
        self._policies: PolicyFactory | None = None
        self._sessions = Sessions(max_sessions, session_idle_s, isolated=self._isolated)
        self._played, self._abandoned = 0, 0
        self._process, self._memory_checked, self._is_too_large = psutil.Process(), 0.0, False

    async def ping(self) -> ActorProcess:
        """Health check: returns at once."""
        return this_process()

    async def do(self, task: Task) -> TaskResult:
        """Do one task in a slot.

        Raises:
            EndpointError: the endpoint refuses every request.
        """
        if self._policies is None:
            self._policies = PolicyFactory(self._model, asyncio.get_running_loop())
        slot = self._idle.pop() if self._idle else _Slot(self._isolated)
        recorder = EpisodeRecorder()
        future = asyncio.wrap_future(slot.submit(task, self._policies.policy, recorder))
        while not (await asyncio.wait([future], timeout=_TICK_S))[0]:
            overdue = self._overdue(task, recorder)
            if overdue is not None:
                self._abandoned += 1  # the slot's thread cannot be ended; it ends with the server
                self._isolated.give_back(slot, keep=False)
                future.add_done_callback(lambda f: f.cancelled() or f.exception())
                return self._done(tasks.failed(task, overdue, stop="deadline", recorder=recorder))
        self._idle.append(slot)
        return self._done(future.result())

    async def session(self, call: str, *arguments: Any) -> Any:
        """Call a method of `Sessions` by name, on a thread of its own: a slow environment delays its own session alone.

        A call that does not return within its deadline, or raises what no environment may raise, ends its session.
        """
        if call == "open" and self._too_large():
            self._sessions.forget_idle()
            most = self._config.memory_gib
            return Refusal(503, f"the environments of the sessions hold more than {most:g} GiB; try again later")
        named, limit = str(next(iter(arguments), "")), self._config.call_deadline_s
        future = asyncio.wrap_future(_on_thread(getattr(self._sessions, call), *arguments))
        if not (await asyncio.wait([future], timeout=limit))[0]:
            future.add_done_callback(lambda f: f.cancelled() or f.exception())
            return self._sessions.drop(named, f"its environment did not return within {limit:g} s")
        error = future.exception()
        answer = self._sessions.drop(named, one_line(error)) if isinstance(error, Exception) else future.result()
        if isinstance(answer, dict):
            _count_session(call, answer)
        ray_metrics.SESSIONS.set(len(self._sessions))
        return answer

    def _overdue(self, task: Task, recorder: EpisodeRecorder) -> str | None:
        """Why a task is given up; None while it may still end by itself."""
        now, limit, since = time.monotonic(), self._config.call_deadline_s, recorder.calling_since
        if since is not None and now - since > limit:
            return f"deadline: the environment did not return from a call within {limit:g} s"
        if now - recorder.began > task.deadline_s + _GRACE_S:
            return f"deadline: not finished within {task.deadline_s:g} s"
        return None

    def _done(self, result: Result) -> TaskResult:
        self._played += 1
        if isinstance(result, Episode):
            _count(result)
        recycle = self._abandoned > 0 or self._played >= self._config.recycle_after or self._too_large()
        return TaskResult(result, recycle)

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
    """A thread that does one task at a time, in its own environments or in those that `isolated` lends it."""

    def __init__(self, isolated: Isolated) -> None:
        self._isolated = isolated
        self._tasks: queue.SimpleQueue[tuple[Task, PolicyFor, EpisodeRecorder, Future[Result]]] = queue.SimpleQueue()
        self._environments: dict[str, TextEnv] = {}
        threading.Thread(target=self._run, name="slot", daemon=True).start()

    def submit(self, task: Task, policy_for: PolicyFor, recorder: EpisodeRecorder) -> Future[Result]:
        """Queue a task; the future holds its result."""
        future: Future[Result] = Future()
        self._tasks.put((task, policy_for, recorder, future))
        return future

    def _run(self) -> None:
        while True:
            task, policy_for, recorder, future = self._tasks.get()
            try:
                future.set_result(self._do(task, policy_for, recorder))
            except BaseException as error:
                future.set_exception(error)

    def _do(self, task: Task, policy_for: PolicyFor, recorder: EpisodeRecorder) -> Result:
        key = f"{task.env} {sorted(task.options.items())!r}"
        try:
            env = self._environments.pop(key, None) or recorder.call(registry.make, task.env, **task.options)
        except Exception as error:  # an environment that cannot be made is this task's result
            return tasks.failed(task, one_line(error), recorder=recorder)
        if env.card.isolated:
            env = recorder.wait(self._isolated.borrow, self, key, env)
        is_sound = False
        try:
            result = tasks.do(task, env, policy_for, recorder)
            is_sound = result.error is None
        finally:  # an environment that failed is not used again
            if env.card.isolated:
                self._isolated.give_back(self, keep=is_sound)
            elif is_sound:
                self._environments[key] = env
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
