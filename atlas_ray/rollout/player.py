"""How a model is reached: its engines on the cluster, or an endpoint.

`Player` says who plays and travels to the servers; `Voice` is the server's side of it, which goes on with another
engine, or waits for the restarted one, when an engine dies. An engine that dies again and again is given up, and the
episodes that need it become errors.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import ray
from pydantic import SecretStr
from ray.exceptions import ActorDiedError, RayActorError, RayError, RayTaskError

from atlas_ray import ray_metrics
from atlas_ray.config import EndpointConfig, EngineConfig
from atlas_ray.environments.contract import TextEnv
from atlas_ray.errors import AtlasError, EngineError
from atlas_ray.inference.engine import EngineActor, Generation, engine_environment, engine_resources
from atlas_ray.models import load_tokenizer
from atlas_ray.progress import say
from atlas_ray.rollout.episode import EpisodeSpec
from atlas_ray.rollout.policy import EndpointPolicy, ExpertPolicy, ModelPolicy, Policy, RandomPolicy

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from atlas_ray.inference.client import Client, Reply

REFERENCE_POLICIES = ("random", "expert")
"""Models that need no engine."""
MAX_DEATHS = 3
"""An engine that dies so many times without an answer in between is given up."""
_MAX_RESTARTS = 20
_RESTART_S = 600.0
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Player:
    """A model as the servers see it; with neither engines nor endpoint, a reference policy named by the spec."""

    directory: str | None = None
    """Whose tokenizer is used."""
    engines: tuple[Any, ...] = ()
    """Handles of `EngineActor`."""
    max_len: int = 0
    """Their context in tokens."""
    endpoint: EndpointConfig | None = None
    secret: SecretStr | None = None
    """Of the endpoint; never shown."""


@contextmanager
def engines(config: EngineConfig, model: str, directory: str) -> Iterator[Player]:
    """Engine actors for a model, restarted when they die and released at the end.

    Args:
        config: of the engines.
        model: its name, for messages.
        directory: where it is.

    Raises:
        EngineError: an engine did not start.
    """
    load_tokenizer(directory)  # refuse a model without tokenizer before an engine starts
    say(f"  {model}: starting {config.replicas} vLLM engine(s)")
    handles = [
        EngineActor.options(  # type: ignore[attr-defined]
            name=ray_metrics.actor_name(f"engine {model}"), max_restarts=_MAX_RESTARTS, max_task_retries=0,
            runtime_env={"env_vars": engine_environment(config)}, **engine_resources(config),
        ).remote(directory, config)
        for _ in range(config.replicas)
    ]  # fmt: skip
    try:
        try:
            lengths = ray.get([handle.ready.remote() for handle in handles])
        except RayError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[-1]
            raise EngineError(f"the engine for {model} ({directory}) did not start: {reason}") from error
        yield Player(directory, tuple(handles), min(lengths))
    finally:
        for handle in handles:
            ray.kill(handle)


@dataclass(frozen=True)
class Agent:
    """A model to play with, before anything is started for it; with neither directory nor endpoint, a policy."""

    name: str
    """In tables and as the name of its folder."""
    key: str
    """Hash of its content."""
    directory: str | None = None
    endpoint: EndpointConfig | None = None


@contextmanager
def playing(agent: Agent, config: EngineConfig) -> Iterator[Player]:
    """The player for an agent, with engines for as long as the block lasts where it needs any.

    Raises:
        EngineError: an engine did not start.
        ModelError: the model has no tokenizer.
    """
    if agent.endpoint is not None:
        yield endpoint_player(agent.endpoint, os.environ.get(agent.endpoint.api_key_env, "").strip())
    elif agent.directory is None:
        yield Player()
    else:
        with engines(config, agent.name, agent.directory) as player:
            yield player


def endpoint_player(config: EndpointConfig, key: str) -> Player:
    """A player behind an endpoint; `key` is its secret, empty where there is none."""
    return Player(endpoint=config, secret=SecretStr(key or "none"))


class Voice:
    """Makes policies in a server: slots run in threads of their own, calls to models on the server's event loop.

    Args:
        player: who plays.
        loop: of the server.
    """

    def __init__(self, player: Player, loop: asyncio.AbstractEventLoop) -> None:
        self._player, self._loop = player, loop
        self._engines = _Engines(player.engines)
        self._client: Client | None = None

    def policy(self, env: TextEnv, spec: EpisodeSpec) -> Policy:
        """The policy of one episode."""
        if self._player.endpoint is not None:
            return EndpointPolicy(self._complete, spec)
        if not self._player.engines:
            return ExpertPolicy(env) if spec.model == "expert" else RandomPolicy(env, spec.key)
        # forks of one task share a prefix, and an engine its cache: what is of one task goes to one engine
        place = spec.task % len(self._player.engines)

        def generate(ids: list[int], *, timeout_s: float, **sampling: Any) -> Generation:
            return self._wait(self._engines.generate(place, ids, **sampling), timeout_s)

        return ModelPolicy(tokenizer(str(self._player.directory)), generate, max_len=self._player.max_len, spec=spec)

    def _complete(self, messages: list[dict[str, str]], *, timeout_s: float, **sampling: Any) -> Reply:
        return self._wait(self._ask(messages, sampling), timeout_s)

    async def _ask(self, messages: list[dict[str, str]], sampling: dict[str, Any]) -> Reply:
        if self._client is None:
            from atlas_ray.inference.client import Client
            from atlas_ray.inference.transport import Endpoint

            config = self._player.endpoint
            assert config is not None
            assert self._player.secret is not None
            self._client = Client(
                Endpoint(base_url=config.base_url, model=config.model, key=self._player.secret),
                timeout_s=config.timeout_s, max_retries=config.max_retries, concurrency=config.concurrency,
            )  # fmt: skip
        return await self._client.complete(messages, **sampling)

    def _wait(self, call: Coroutine[Any, Any, _Result], timeout_s: float) -> _Result:
        """The result of a coroutine that runs on the server's loop."""
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise


class _Engines:
    """Engines that may die: each call goes to the engine of its place while that is up, else to the next one."""

    def __init__(self, handles: tuple[Any, ...]) -> None:
        self._handles = handles
        self._lives = [0] * len(handles)
        """Deaths seen, so that the many calls that one death breaks count it once."""
        self._deaths = [0] * len(handles)
        """Deaths without an answer in between."""
        self._restarts: dict[int, asyncio.Task[None]] = {}

    async def generate(self, place: int, ids: list[int], **sampling: Any) -> Generation:
        """See `Engine.generate`.

        Raises:
            EngineError: the request was refused, or every engine was given up.
        """
        while True:
            index = await self._engine(place)
            life = self._lives[index]
            try:
                answer: Generation = await self._handles[index].generate.remote(ids, **sampling)
            except RayActorError as error:
                self._died(index, life, error)
            except RayTaskError as error:
                raise error.cause if isinstance(error.cause, AtlasError) else EngineError(str(error.cause)) from None
            else:
                self._deaths[index] = 0
                return answer

    async def _engine(self, place: int) -> int:
        """The first engine from `place` on that is up; where there is none, the first that comes back."""
        order = [(place + i) % len(self._handles) for i in range(len(self._handles))]
        while True:
            alive = [i for i in order if self._deaths[i] < MAX_DEATHS]
            if not alive:
                raise EngineError(f"every engine died {MAX_DEATHS} times without an answer in between; see Ray's logs")
            for index in alive:
                if index not in self._restarts:
                    return index
            await asyncio.wait([self._restarts[i] for i in alive], return_when=asyncio.FIRST_COMPLETED)

    def _died(self, index: int, life: int, error: RayActorError) -> None:
        if life != self._lives[index]:
            return  # another call has seen this death
        self._lives[index] += 1
        self._deaths[index] += 1
        task = asyncio.get_running_loop().create_task(self._restart(index))
        self._restarts[index] = task
        task.add_done_callback(lambda _: self._restarts.pop(index, None))

    async def _restart(self, index: int) -> None:
        """Wait until Ray has restarted the engine; give it up where it does not."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _RESTART_S
        while self._deaths[index] < MAX_DEATHS and loop.time() < end:
            try:
                await self._handles[index].ready.remote()
                return
            except ActorDiedError:
                self._deaths[index] += 1
            except RayError:  # it is being restarted
                pass
            await asyncio.sleep(0.5)
        self._deaths[index] = MAX_DEATHS


@cache
def tokenizer(directory: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model directory, loaded once a process."""
    return load_tokenizer(directory)
