"""Ray actors that hold many environment slots and play whole episodes.

One remote call moves an episode, not a step. The driver (`run_episodes`) hands out work, takes results as they come,
gives the work of a dead server to another one, and never loses or doubles an episode.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayActorError, RayError
from ray.util.metrics import Counter

from atlas_ray.environments import registry
from atlas_ray.environments.contract import TextEnv
from atlas_ray.inference.engine import Generation
from atlas_ray.rollout.episode import EpisodeSpec, play
from atlas_ray.rollout.policy import ExpertPolicy, ModelPolicy, Policy, RandomPolicy
from atlas_ray.rollout.sessions import Sessions
from atlas_ray.trajectory import Episode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REFERENCE_POLICIES = ("random", "expert")
"""Models that need no engine."""
_MAX_TRIES = 3


@dataclass(frozen=True)
class Player:
    """A model as the servers see it; without engines it is a reference policy named by the spec's model."""

    directory: str | None = None
    """Whose tokenizer is used."""
    engines: tuple[Any, ...] = ()
    """Handles of `EngineActor`."""
    max_len: int = 0
    """Their context in tokens."""


@ray.remote(max_concurrency=1024)
class EnvironmentServer:
    """Plays episodes; up to as many at a time as the driver gives it."""

    def __init__(self, session_limit: int = 256, session_idle_s: float = 1800.0) -> None:
        self._sessions = Sessions(session_limit, session_idle_s)
        self._idle: dict[str, list[TextEnv]] = {}
        self._engine_turn = itertools.count()
        self._episodes = Counter("atlas_episodes", "Episodes played", tag_keys=("model", "env"))
        self._tokens = Counter("atlas_generated_tokens", "Tokens generated in episodes", tag_keys=("model", "env"))

    async def play(self, spec: EpisodeSpec, player: Player) -> Episode:
        """Play one episode in an environment of this server."""
        slot = f"{spec.env} {sorted(spec.options.items())!r}"
        idle = self._idle.setdefault(slot, [])
        env = idle.pop() if idle else registry.make(spec.env, **spec.options)
        episode = await play(env, lambda env, spec: self._policy(env, spec, player), spec)
        if episode.error is None:
            idle.append(env)  # an environment that failed is not used again
        tags = {"model": spec.model, "env": spec.env}
        self._episodes.inc(1, tags)
        if episode.completion_tokens:
            self._tokens.inc(episode.completion_tokens, tags)
        return episode

    async def session(self, call: str, *arguments: Any) -> Any:
        """A method of `Sessions` by name: episodes that are played a step at a time, for serving."""
        return getattr(self._sessions, call)(*arguments)

    def _policy(self, env: TextEnv, spec: EpisodeSpec, player: Player) -> Policy:
        if not player.engines:
            return ExpertPolicy(env) if spec.model == "expert" else RandomPolicy(env, spec.key)
        engine = player.engines[next(self._engine_turn) % len(player.engines)]

        async def generate(ids: list[int], **sampling: Any) -> Generation:
            answer: Generation = await engine.generate.remote(ids, **sampling)
            return answer

        return ModelPolicy(
            _tokenizer(str(player.directory)), generate, max_len=player.max_len, max_new_tokens=spec.max_new_tokens,
            temperature=spec.temperature, seed=spec.seed,
        )  # fmt: skip


@cache
def _tokenizer(directory: str) -> PreTrainedTokenizerBase:
    from atlas_ray.models import load_tokenizer

    return load_tokenizer(directory)


def run_episodes(
    specs: Sequence[EpisodeSpec], player: Player, *, servers: int, slots: int, on_retry: Callable[[str], None]
) -> Iterator[Episode]:
    """Play all episodes on `servers` actors with `slots` each, and yield them as they finish.

    A server that dies is replaced and its episodes are played again, up to three times; then they are episodes with
    an error. Each spec yields exactly one episode.
    """
    pool = [_Server() for _ in range(min(servers, max(1, len(specs))))]
    owed = deque((spec, 0) for spec in specs)
    under_way: dict[Any, tuple[EpisodeSpec, int, _Server]] = {}
    try:
        while owed or under_way:
            while owed and min(server.load for server in pool) < slots:
                server = min(pool, key=lambda server: server.load)
                spec, tries = owed.popleft()
                under_way[server.actor.play.remote(spec, player)] = (spec, tries, server)
                server.load += 1
            (ready,), _ = ray.wait(list(under_way), num_returns=1)
            spec, tries, server = under_way.pop(ready)
            server.load -= 1
            try:
                yield ray.get(ready)
            except RayError as error:
                if isinstance(error, RayActorError) and server in pool:
                    pool[pool.index(server)] = _Server()
                if tries + 1 < _MAX_TRIES:
                    on_retry(f"{spec.env} task {spec.task}: {type(error).__name__}, played again")
                    owed.append((spec, tries + 1))
                else:
                    yield _failed(spec, error)
    finally:
        for server in pool:
            ray.kill(server.actor)


class _Server:
    """A server actor as the driver sees it."""

    def __init__(self) -> None:
        self.actor = EnvironmentServer.options(num_cpus=1, max_task_retries=0).remote()  # type: ignore[attr-defined]
        self.load = 0


def _failed(spec: EpisodeSpec, error: Exception) -> Episode:
    return Episode(
        key=spec.key, model=spec.model, env=spec.env, task=spec.task, split=spec.split, seed=spec.seed, messages=(),
        score=0.0, success=False, rounds=0, stop="error",
        error=f"EnvironmentError: its server died {_MAX_TRIES} times ({type(error).__name__})",
    )  # fmt: skip
