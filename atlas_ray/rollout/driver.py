"""The driver of episodes: gives tasks to environment servers and yields results as they arrive.

Every task produces exactly one result. A server that dies or stops answering is replaced, and other servers retry its
tasks; so tasks go on while the cluster shrinks and grows. The third try of a task has a server to itself; a task that
loses this server too gets a result with an error. What a server does with a task is in `server.py`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError

from atlas_ray import ray_metrics
from atlas_ray.config import RolloutConfig
from atlas_ray.errors import AtlasError, ClusterError
from atlas_ray.progress import say
from atlas_ray.rollout.player import ModelSpec
from atlas_ray.rollout.process import ActorProcess, kill_process
from atlas_ray.rollout.server import EnvironmentActor
from atlas_ray.rollout.spec import EpisodeSpec
from atlas_ray.rollout.task import Result, Task, TaskResult, failed
from atlas_ray.trajectory import Episode

MAX_TRIES = 3
PROBE_AFTER_S = 10.0
"""Seconds between the health checks of a server."""
PROBE_TIMEOUT_S = 40.0
"""Seconds without an answer after which a server is replaced."""
START_TIMEOUT_S = 600.0
_MAX_FAILED_STARTS = 5
_TICK_S = 1.0


def run_episodes(
    specs: Iterable[EpisodeSpec], model: ModelSpec, config: RolloutConfig, *, on_retry: Callable[[str], None] = say
) -> Iterator[Episode]:
    """Play all episodes and yield them as they finish; see `Rollouts`."""
    with Rollouts(model, config, on_retry=on_retry) as rollouts:
        rollouts.add(specs)
        for result in rollouts:
            assert isinstance(result, Episode)  # an episode's task has an episode as its result
            yield result


class Rollouts:
    """Tasks under way on environment servers; iterate to get results, add more tasks at any time.

    Args:
        model: what plays the episodes.
        config: how many servers, and their limits.
        on_retry: called with a line for every task that is tried again.

    Raises:
        ClusterError: (while iterating) no server can be started.
        EndpointError: (while iterating) the endpoint refuses every request.
    """

    def __init__(self, model: ModelSpec, config: RolloutConfig, *, on_retry: Callable[[str], None] = say) -> None:
        self._config, self._on_retry = config, on_retry
        self._options = {
            "num_cpus": config.cpus, "memory": config.memory_gib * 2**30, "max_restarts": 0, "max_task_retries": 0,
            "max_concurrency": config.slots + 8, "scheduling_strategy": "SPREAD",
            "label_selector": config.labels or None,
        }  # fmt: skip
        self._arguments = (ray.put(model), config)
        self._owed: deque[tuple[Task, int]] = deque()
        self._suspects: deque[tuple[Task, int]] = deque()
        """Tasks on their last try, which get a server to themselves."""
        self._failed: deque[Result] = deque()
        self._under_way: dict[Any, tuple[Task, int, _Server]] = {}
        self._pool: list[_Server] = []
        self._failed_starts = 0
        self._last_ready = time.monotonic()

    def add(self, tasks: Iterable[Task]) -> None:
        """Queue tasks."""
        self._owed.extend((task, 0) for task in tasks)

    def __iter__(self) -> Iterator[Result]:
        while self._owed or self._suspects or self._under_way or self._failed:
            self._health_check()
            self._dispatch()
            yield from self._collect()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._pool:
            ray.kill(server.actor)
        self._pool.clear()

    # --- servers -------------------------------------------------------------------------------------------------
    def _health_check(self) -> None:
        """Probe the servers, replace those that do not answer or should be recycled, start those that are missing."""
        now = time.monotonic()
        for server in list(self._pool):
            if server.should_recycle and not server.tasks:
                self._retire(server)
            elif server.is_silent(now):
                self._drop(server, f"it did not answer for {PROBE_TIMEOUT_S:g} s")
                assert server.process is not None  # it was ready once
                kill_process(server.process)
            elif server.probe is None and now - server.asked > (PROBE_AFTER_S if server.is_ready else _TICK_S):
                server.ask(now)
        outstanding = len(self._owed) + len(self._suspects) + len(self._under_way)
        while len(self._pool) < min(self._config.servers, outstanding):
            actor = EnvironmentActor.options(name=ray_metrics.actor_name("environments"), **self._options)
            self._pool.append(_Server(actor.remote(*self._arguments)))
        if any(server.was_ready for server in self._pool):
            self._last_ready = now
        elif now - self._last_ready > START_TIMEOUT_S:
            raise ClusterError(
                f"no environment server started within {START_TIMEOUT_S:.0f} s; one needs {self._config.cpus:g} CPU "
                f"and {self._config.memory_gib:g} GiB, free are {_free()}; lower rollout.cpus or rollout.memory_gib"
            )

    def _retire(self, server: _Server) -> None:
        self._pool.remove(server)
        ray.kill(server.actor)

    def _drop(self, server: _Server, why: str) -> None:
        """Stop a server and retry its tasks."""
        if server not in self._pool:
            return
        self._retire(server)
        for reference in list(server.tasks):
            task, tries, _ = self._under_way.pop(reference)
            self._retry(task, tries, why)

    def _retry(self, task: Task, tries: int, why: str) -> None:
        if tries + 1 >= MAX_TRIES:
            self._failed.append(failed(task, f"EnvironmentError: its server was lost {MAX_TRIES} times ({why})"))
            return
        ray_metrics.EPISODE_RETRIES.add(1, env=task.env)
        self._on_retry(f"  {task.label}: its server was lost ({why}), trying again")
        (self._suspects if tries + 2 == MAX_TRIES else self._owed).append((task, tries + 1))

    # --- tasks ---------------------------------------------------------------------------------------------------
    def _dispatch(self) -> None:
        while self._suspects:
            idle = next((server for server in self._pool if server.takes(1)), None)
            if idle is None:
                break
            idle.is_reserved = True
            self._hand_out(idle, *self._suspects.popleft())
        while self._owed:
            free = [server for server in self._pool if server.takes(self._config.slots)]
            if not free:
                break
            self._hand_out(min(free, key=lambda server: len(server.tasks)), *self._owed.popleft())

    def _hand_out(self, server: _Server, task: Task, tries: int) -> None:
        reference = server.actor.do.remote(task)
        self._under_way[reference] = (task, tries, server)
        server.tasks.add(reference)

    def _collect(self) -> Iterator[Result]:
        while self._failed:
            yield self._failed.popleft()
        probes = {server.probe: server for server in self._pool if server.probe is not None}
        references = [*self._under_way, *probes]
        if not references:
            time.sleep(_TICK_S)
            return
        ready, _ = ray.wait(references, num_returns=1, timeout=_TICK_S)
        if ready:
            ready, _ = ray.wait(references, num_returns=len(references), timeout=0)
        for reference in ready:
            if reference in probes:
                self._take_probe(probes[reference])
            elif reference in self._under_way:  # not lost with its server meanwhile
                yield from self._take_result(reference)

    def _take_probe(self, server: _Server) -> None:
        probe, server.probe = server.probe, None
        try:
            server.process = ray.get(probe)
        except ActorUnavailableError:
            server.is_ready = False
        except RayError as error:
            if not server.was_ready:
                self._failed_starts += 1
                if self._failed_starts >= _MAX_FAILED_STARTS:
                    raise ClusterError(f"environment servers do not start: {_reason(error)}") from error
            self._drop(server, type(error).__name__)
        else:
            server.is_ready = server.was_ready = True
            server.unanswered_since = None
            self._failed_starts = 0

    def _take_result(self, reference: Any) -> Iterator[Result]:
        task, tries, server = self._under_way.pop(reference)
        server.tasks.discard(reference)
        server.is_reserved = False
        try:
            done: TaskResult = ray.get(reference)
        except RayTaskError as error:
            if isinstance(error.cause, AtlasError):
                raise error.cause from None
            raise  # a bug of ours
        except RayError as error:
            self._retry(task, tries, type(error).__name__)
            if isinstance(error, ActorUnavailableError):
                server.is_ready = False  # until it answers
            elif isinstance(error, RayActorError):
                self._drop(server, type(error).__name__)
        else:
            server.should_recycle |= done.should_recycle
            yield done.result


class _Server:
    """The driver's record of one server actor."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.tasks: set[Any] = set()
        self.process: ActorProcess | None = None
        """Known once it was ready."""
        self.is_ready = self.was_ready = False
        self.should_recycle = self.is_reserved = False
        self.asked = 0.0
        self.unanswered_since: float | None = None
        self.probe: Any = None
        self.ask(time.monotonic())

    def ask(self, now: float) -> None:
        """Send a health check."""
        self.probe, self.asked = self.actor.ping.remote(), now
        if self.unanswered_since is None:
            self.unanswered_since = now

    def is_silent(self, now: float) -> bool:
        """Whether health checks have gone unanswered for too long; a server that has not started may be silent."""
        if not self.was_ready or self.unanswered_since is None or now - self.unanswered_since <= PROBE_TIMEOUT_S:
            return False
        return self.probe is None or not ray.wait([self.probe], timeout=0)[0]  # an answer may lie here unread

    def takes(self, most: int) -> bool:
        """Whether it can take another task, when it may have `most` at a time."""
        return self.is_ready and not self.should_recycle and not self.is_reserved and len(self.tasks) < most


def _reason(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1]


def _free() -> str:
    free = ray.available_resources()
    return f"{free.get('CPU', 0):g} CPU and {free.get('memory', 0) / 2**30:.1f} GiB"
