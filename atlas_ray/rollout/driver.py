"""The driver of episodes: hands work to environment servers, takes results as they come, and loses or doubles none.

A server that dies, or no longer answers, is replaced and its work is done again by others; so work goes on while the
cluster shrinks and grows. Work that lost its server three times, the last time with nobody beside it, is a result
with an error. Every work handed in has exactly one result.
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
from atlas_ray.rollout.episode import EpisodeSpec
from atlas_ray.rollout.player import Player
from atlas_ray.rollout.server import Done, EnvironmentActor, Work
from atlas_ray.trajectory import Episode

MAX_TRIES = 3
PROBE_AFTER_S = 10.0
"""Every server is asked so often whether it is well."""
PROBE_TIMEOUT_S = 40.0
"""One that does not answer within this time is given up."""
START_TIMEOUT_S = 600.0
_MAX_FAILED_STARTS = 5
_TICK_S = 1.0


def run_episodes(
    specs: Iterable[EpisodeSpec], player: Player, config: RolloutConfig, *, on_retry: Callable[[str], None] = say
) -> Iterator[Episode]:
    """Play all episodes and yield them as they finish; see `Rollouts`."""
    with Rollouts(player, config, on_retry=on_retry) as rollouts:
        rollouts.add(specs)
        yield from rollouts


class Rollouts:
    """Works under way on environment servers; iterate to get results, add more works at any time.

    Args:
        player: who plays.
        config: how many servers, and their limits.
        on_retry: told of every work that is done again.

    Raises:
        ClusterError: (while iterating) no server can be started.
        AtlasError: (while iterating) an endpoint refused for good.
    """

    def __init__(self, player: Player, config: RolloutConfig, *, on_retry: Callable[[str], None] = say) -> None:
        self._config, self._on_retry = config, on_retry
        self._options = {
            "num_cpus": config.cpus, "memory": config.memory_gib * 2**30, "max_restarts": 0, "max_task_retries": 0,
            "max_concurrency": config.slots + 8, "scheduling_strategy": "SPREAD",
            "label_selector": config.labels or None,
        }  # fmt: skip
        self._arguments = (ray.put(player), config)
        self._owed: deque[tuple[Work, int]] = deque()
        self._suspects: deque[tuple[Work, int]] = deque()
        """Works on their last try, which have a server for themselves."""
        self._failed: deque[Any] = deque()
        self._under_way: dict[Any, tuple[Work, int, _Server]] = {}
        self._pool: list[_Server] = []
        self._failed_starts = 0
        self._last_ready = time.monotonic()

    def add(self, works: Iterable[Work]) -> None:
        """Hand in works."""
        self._owed.extend((work, 0) for work in works)

    def __iter__(self) -> Iterator[Any]:
        while self._owed or self._suspects or self._under_way or self._failed:
            self._tend()
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
    def _tend(self) -> None:
        """Probe silent servers, give up those that do not answer, retire the worn, start what is missing."""
        now = time.monotonic()
        for server in list(self._pool):
            if server.is_worn and not server.works:
                self._retire(server)
            elif server.is_silent(now):
                self._lose(server, f"it did not answer for {PROBE_TIMEOUT_S:g} s")
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

    def _lose(self, server: _Server, why: str) -> None:
        """Replace a server and do its works again."""
        if server not in self._pool:
            return
        self._retire(server)
        for reference in list(server.works):
            work, tries, _ = self._under_way.pop(reference)
            self._again(work, tries, why)

    def _again(self, work: Work, tries: int, why: str) -> None:
        if tries + 1 >= MAX_TRIES:
            self._failed.append(work.failed(f"EnvironmentError: its server was lost {MAX_TRIES} times ({why})"))
            return
        ray_metrics.EPISODES_AGAIN.add(1, env=work.env)
        self._on_retry(f"  {work.label}: its server was lost ({why}), done again")
        (self._suspects if tries + 2 == MAX_TRIES else self._owed).append((work, tries + 1))

    # --- work ----------------------------------------------------------------------------------------------------
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
            self._hand_out(min(free, key=lambda server: len(server.works)), *self._owed.popleft())

    def _hand_out(self, server: _Server, work: Work, tries: int) -> None:
        reference = server.actor.do.remote(work)
        self._under_way[reference] = (work, tries, server)
        server.works.add(reference)

    def _collect(self) -> Iterator[Any]:
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
            ray.get(probe)
        except ActorUnavailableError:
            server.is_ready = False
        except RayError as error:
            if not server.was_ready:
                self._failed_starts += 1
                if self._failed_starts >= _MAX_FAILED_STARTS:
                    raise ClusterError(f"environment servers do not start: {_reason(error)}") from error
            self._lose(server, type(error).__name__)
        else:
            server.is_ready = server.was_ready = True
            server.unanswered_since = None
            self._failed_starts = 0

    def _take_result(self, reference: Any) -> Iterator[Any]:
        work, tries, server = self._under_way.pop(reference)
        server.works.discard(reference)
        server.is_reserved = False
        try:
            done: Done = ray.get(reference)
        except RayTaskError as error:
            if isinstance(error.cause, AtlasError):
                raise error.cause from None
            raise  # a fault of ours
        except RayError as error:
            self._again(work, tries, type(error).__name__)
            if isinstance(error, ActorUnavailableError):
                server.is_ready = False  # until it answers
            elif isinstance(error, RayActorError):
                self._lose(server, type(error).__name__)
        else:
            server.is_worn |= done.worn
            yield done.result


class _Server:
    """A server actor as the driver sees it."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.works: set[Any] = set()
        self.is_ready = self.was_ready = False
        self.is_worn = self.is_reserved = False
        self.asked = 0.0
        self.unanswered_since: float | None = None
        self.probe: Any = None
        self.ask(time.monotonic())

    def ask(self, now: float) -> None:
        """Ask whether it is well."""
        self.probe, self.asked = self.actor.ping.remote(), now
        if self.unanswered_since is None:
            self.unanswered_since = now

    def is_silent(self, now: float) -> bool:
        """Whether it has let questions go unanswered for too long; one that is still to be placed may."""
        if not self.was_ready or self.unanswered_since is None or now - self.unanswered_since <= PROBE_TIMEOUT_S:
            return False
        return self.probe is None or not ray.wait([self.probe], timeout=0)[0]  # an answer may lie here unread

    def takes(self, most: int) -> bool:
        """Whether it can have one work more, of `most` at a time."""
        return self.is_ready and not self.is_worn and not self.is_reserved and len(self.works) < most


def _reason(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1]


def _free() -> str:
    free = ray.available_resources()
    return f"{free.get('CPU', 0):g} CPU and {free.get('memory', 0) / 2**30:.1f} GiB"
